//! How long a container's life takes through this crate, forked here and by a `tare-spawn`, and with
//! runc alone: `time_life [COUNT [TARE-SPAWN]]`.
//!
//! Needs root, conmon, runc, a static busybox, and the program `tare-spawn`, beside the directory of
//! the examples if nothing else is said. Prints medians and, in brackets, the best in milliseconds.

#![allow(clippy::disallowed_methods, reason = "a program that measures makes its own surroundings")]

use std::error::Error;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use tare_spawn::{
    CgroupPath, ContainerId, Create, Extent, Force, Incarnation, Layout, Local, Log, OciRuntime,
    Place, PlacedMount, Remote, Settings, Spawner, Stdin,
};

fn main() -> Result<(), Box<dyn Error>> {
    let count = env::args().nth(1).map_or(Ok(50), |text| text.parse())?;
    let dir = env::temp_dir().join(format!("tare-time-{}", std::process::id()));
    fs::create_dir_all(dir.join("rootfs/bin"))?;
    fs::create_dir_all(dir.join("rootfs/proc"))?;
    fs::copy("/bin/busybox", dir.join("rootfs/bin/true"))?;
    let run_dir = dir.join("run");
    let local = Local::new(Settings::find(&run_dir)?);
    let (socket, program) = (dir.join("spawn.sock"), program()?);
    let mut command = Command::new(program);
    let mut daemon = command.arg("--socket").arg(&socket).arg("--run-dir").arg(&run_dir).spawn()?;
    let remote = Remote::connect(socket, run_dir)?;
    let cgroup: CgroupPath = format!("/tare-time-{}", std::process::id()).parse()?;

    // By turns, so that both see the same host.
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for n in 0..count {
        here.push(ours(&local, &dir, &cgroup, 2 * n)?);
        there.push(ours(&remote, &dir, &cgroup, 2 * n + 1)?);
    }
    let calls = [call(&local)?, call(&remote)?];
    let bare = bare(&dir, &cgroup, count)?;
    local.cleanup_cgroup(&cgroup, Extent::Whole)?;
    daemon.kill()?;
    daemon.wait()?;
    fs::remove_dir_all(&dir)?;

    let mut out = std::io::stdout();
    for (how, lives) in [("here", here), ("by tare-spawn", there)] {
        writeln!(out, "forked {how}: create, start, wait for the end, delete, clean up, all")?;
        for at in 0..5 {
            write!(out, "{}  ", summary(lives.iter().map(|life| life[at]).collect()))?;
        }
        writeln!(out, "{}", summary(lives.iter().map(|life| life.iter().sum()).collect()))?;
    }
    writeln!(out, "a call that does nothing: here, by tare-spawn")?;
    writeln!(out, "{}", calls.join("  "))?;
    writeln!(out, "runc alone in one prepared mount namespace: create, start, delete together")?;
    writeln!(out, "{bare}")?;
    Ok(())
}

/// The `tare-spawn` to measure.
fn program() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(program) = env::args_os().nth(2) {
        return Ok(program.into());
    }
    // target/<profile>/examples/<example>
    let example = env::current_exe()?;
    Ok(example.ancestors().nth(2).ok_or("no target directory")?.join("tare-spawn"))
}

/// The steps of one life through this crate.
fn ours(
    spawner: &dyn Spawner,
    dir: &Path,
    cgroup: &CgroupPath,
    n: u32,
) -> Result<[Duration; 5], Box<dyn Error>> {
    let id: ContainerId = format!("{n:064x}").parse()?;
    let request = Create {
        id,
        incarnation: Incarnation(1),
        runtime: OciRuntime::Runc,
        cgroup: format!("{cgroup}/{n}").parse()?,
        log: Log::File(dir.join("log")),
        stdin: Stdin::Null,
        restore: None,
    };
    let run_dir = dir.join("run");
    let layout = Layout::new(&run_dir, &request.id, request.incarnation);
    fs::create_dir_all(layout.bundle())?;
    fs::write(layout.new_config_json(), config(&request.cgroup))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, dir.join("rootfs"), flags)?;

    let mut laps = Laps(Instant::now());
    let created = spawner.create(&request, vec![PlacedMount { place: Place::Rootfs, mount }])?;
    let create = laps.next();
    let (target, supervisor) = (request.target(), &created.supervisor.pidfd);
    spawner.start(&target, supervisor.as_fd())?;
    let start = laps.next();
    poll(&mut [PollFd::new(supervisor, PollFlags::IN)], None)?;
    let wait = laps.next();
    spawner.delete(&target, Some(supervisor.as_fd()), Force::No)?;
    let delete = laps.next();
    spawner.cleanup_cgroup(&request.cgroup, Extent::Whole)?;
    Ok([create, start, wait, delete, laps.next()])
}

/// What a call takes beside its work: to remove a group that is not there.
fn call(spawner: &dyn Spawner) -> Result<String, Box<dyn Error>> {
    let absent = "/tare-time-absent".parse()?;
    let mut laps = Laps(Instant::now());
    let calls = (0..1000).map(|_| spawner.remove_empty_cgroup(&absent).map(|()| laps.next()));
    Ok(summary(calls.collect::<Result<_, _>>()?))
}

/// Lives with runc alone, measured by a shell inside one mount namespace.
fn bare(dir: &Path, cgroup: &CgroupPath, count: u32) -> Result<String, Box<dyn Error>> {
    let bundle = dir.join("bare");
    fs::create_dir_all(&bundle)?;
    let mut config: serde_json::Value = serde_json::from_str(&config(cgroup))?;
    config["root"]["path"] = dir.join("rootfs").to_string_lossy().into();
    fs::write(bundle.join("config.json"), config.to_string())?;
    let script = format!(
        "mount -t cgroup2 cgroup2 /sys/fs/cgroup; cd {}; \
         for n in $(seq {count}); do a=$(date +%s%N); \
         runc --root {0}/oci create --pid-file pid b$n </dev/null >/dev/null 2>&1; \
         runc --root {0}/oci start b$n; read p <pid; \
         until read -r _ _ s _ 2>/dev/null </proc/$p/stat && [ $s = Z ]; do \
         [ -d /proc/$p ] || break; done; \
         runc --root {0}/oci delete --force b$n; b=$(date +%s%N); echo $((b-a)); done",
        bundle.display()
    );
    let mut command = Command::new("unshare");
    let output = command.args(["-m", "sh", "-c", &script]).stderr(Stdio::inherit()).output()?;
    let lives = String::from_utf8(output.stdout)?;
    let lives = lives.lines().map(|nanos| nanos.parse().map(Duration::from_nanos));
    Ok(summary(lives.collect::<Result<_, _>>()?))
}

struct Laps(Instant);

impl Laps {
    fn next(&mut self) -> Duration {
        let begun = std::mem::replace(&mut self.0, Instant::now());
        self.0 - begun
    }
}

/// Median and best, in milliseconds.
fn summary(mut all: Vec<Duration>) -> String {
    all.sort_unstable();
    let millis = |at: usize| all.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("{:.2} ({:.2})", millis(all.len() / 2), millis(0))
}

fn config(cgroup: &CgroupPath) -> String {
    serde_json::json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "cwd": "/" },
        "root": { "path": "rootfs", "readonly": true },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": {
            "cgroupsPath": cgroup.payload().as_str(),
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
        },
    })
    .to_string()
}
