//! What the tests of this crate share: a container's surroundings, and what it may not leave.
#![allow(dead_code, clippy::unwrap_used, reason = "a test, of which every binary uses a part")]

mod daemon;
pub(crate) mod hosts;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use host_world::{Groups, Guard, Scope};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::{Value, json};
use tare_spawn::{
    CgroupPath, ContainerId, Create, Created, Error, ErrorKind, Exec, Extent, Force, Incarnation,
    Layout, Local, Log, OciRuntime, Place, PlacedMount, Probed, Settings, Spawner, Stdin, Streams,
    Target, Trial,
};

pub(crate) use daemon::Daemon;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A run directory, a root file system and a control group of a test's own.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) spawner: Box<dyn Spawner>,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) cgroup: CgroupPath,
    pub(crate) request: Create,
    // Dropped after those.
    pub(crate) dir: tempfile::TempDir,
    guard: Guard,
}

impl World {
    /// One in which this process forks.
    pub(crate) fn local() -> (Self, Local) {
        let mut spawner = None;
        let world = Self::with(|_, settings| {
            let local = Local::new(settings.clone());
            spawner = Some(local.clone());
            (Box::new(local), None)
        });
        (world, spawner.unwrap())
    }

    /// One in which a `tare-spawn` forks.
    pub(crate) fn remote() -> Self {
        Self::with(|dir, settings| {
            let daemon = Daemon::start(&dir.join("spawn.sock"), &settings.run_dir);
            (Box::new(daemon.remote()), Some(daemon))
        })
    }

    fn with(spawner: impl FnOnce(&Path, &Settings) -> (Box<dyn Spawner>, Option<Daemon>)) -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root");
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("rootfs/bin");
        for sub in ["bin", "proc", "dev", "dev/shm", "sys"] {
            fs::create_dir_all(dir.path().join("rootfs").join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for tool in ["sh", "sleep", "cat", "true"] {
            symlink("busybox", bin.join(tool)).unwrap();
        }
        let settings = Settings::find(dir.path().join("run")).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // No name is the beginning of another one.
        let name = format!("tare-test-{}-{number:04}", std::process::id());
        let cgroup: CgroupPath = format!("/{name}").parse().unwrap();
        let guard = Guard::new(Scope {
            groups: vec![Groups { parent: cgroup2(), prefix: name }],
            ..Scope::of_marked(Vec::new(), vec![dir.path().display().to_string()])
        });
        let request = Create {
            id: random_id(),
            incarnation: Incarnation(1),
            runtime: OciRuntime::Runc,
            cgroup: format!("{cgroup}/c").parse().unwrap(),
            log: Log::File(dir.path().join("log")),
            stdin: Stdin::Null,
            restore: None,
        };
        let (spawner, daemon) = spawner(dir.path(), &settings);
        Self { settings, spawner, daemon, cgroup, request, dir, guard }
    }

    pub(crate) fn layout(&self) -> Layout<'_> {
        Layout::new(&self.settings.run_dir, &self.request.id, self.request.incarnation)
    }

    pub(crate) fn target(&self) -> Target {
        self.request.target()
    }

    pub(crate) fn write_config(&self, config: &Value) {
        fs::create_dir_all(self.layout().bundle()).unwrap();
        fs::write(self.layout().new_config_json(), config.to_string()).unwrap();
    }

    pub(crate) fn rootfs(&self) -> Vec<PlacedMount> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, self.dir.path().join("rootfs"), flags).unwrap();
        vec![PlacedMount { place: Place::Rootfs, mount }]
    }

    pub(crate) fn create(&self, script: &str) -> Created {
        self.write_config(&config(&self.request.cgroup, script));
        self.spawner.create(&self.request, self.rootfs()).unwrap()
    }

    pub(crate) fn probe(&self, trial: &Trial) -> Result<Probed, Error> {
        trial.run(&*self.spawner, &self.settings.run_dir, |_| Ok(()))
    }

    /// A program of the test's own.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A session that runs `process`.
    pub(crate) fn session(&self, session: u32, process: &Value) -> Exec {
        fs::create_dir_all(self.layout().exec(session)).unwrap();
        fs::write(self.layout().exec_process(session), process.to_string()).unwrap();
        let (target, cgroup) = (self.target(), self.request.cgroup.clone());
        Exec { target, session, cgroup, streams: Streams::Given }
    }

    pub(crate) fn session_code(&self, session: u32) -> String {
        fs::read_to_string(self.layout().exec_exit_file(session)).unwrap()
    }

    pub(crate) fn log_path(&self) -> &Path {
        match &self.request.log {
            Log::File(path) => path,
            Log::Journal(_) => panic!("it logs into the journal"),
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub(crate) fn exit_code(&self) -> String {
        fs::read_to_string(self.layout().exit_file()).unwrap()
    }

    /// Everything outside the test's directory that a container could leave.
    pub(crate) fn traces(&self) -> Vec<String> {
        let id = self.request.id.as_str();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut traces: Vec<_> = mounts
            .lines()
            .filter(|line| line.contains(id) || line.contains(&*self.dir.path().to_string_lossy()))
            .map(Into::into)
            .collect();
        traces.extend(processes_of(id));
        let state = self.settings.run_dir.join("oci/runc").join(id);
        traces.extend(state.exists().then(|| state.display().to_string()));
        traces.extend(self.cgroup_dir().exists().then(|| format!("cgroup {}", self.cgroup)));
        traces
    }

    pub(crate) fn cgroup_dir(&self) -> PathBuf {
        cgroup2().join(&self.cgroup.as_str()[1..])
    }

    pub(crate) fn assert_clean(&self) {
        self.spawner.cleanup_cgroup(&self.cgroup, Extent::Whole).unwrap();
        self.spawner.cleanup_cgroup(&self.cgroup, Extent::Whole).unwrap(); // again: nothing to do
        within(Duration::from_secs(5), || self.traces().is_empty());
        assert_eq!(self.traces(), Vec::<String>::new());
    }
}

impl Drop for World {
    /// For tests that fail half-way.
    fn drop(&mut self) {
        let _ = self.spawner.cleanup_cgroup(&self.cgroup, Extent::Whole);
    }
}

pub(crate) fn cgroup2() -> PathBuf {
    let unified = PathBuf::from("/sys/fs/cgroup/unified");
    if unified.exists() { unified } else { "/sys/fs/cgroup".into() }
}

pub(crate) fn random_id() -> ContainerId {
    let mut bytes = [0_u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    bytes.map(|byte| format!("{byte:02x}")).concat().parse().unwrap()
}

/// Processes that name the container on their command line, or whose mounts do.
pub(crate) fn processes_of(id: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.unwrap().file_name().into_string().unwrap();
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        (line.contains(id) || mounts.contains(id)).then(|| format!("process {pid}: {line}"))
    });
    processes.collect()
}

pub(crate) fn config(cgroup: &CgroupPath, script: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": process(script),
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "tare-test",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "mode=755"] },
        ],
        "linux": {
            "cgroupsPath": cgroup.payload().as_str(),
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
        },
    })
}

pub(crate) fn process(script: &str) -> Value {
    json!({
        "user": { "uid": 0, "gid": 0 },
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": true,
    })
}

/// One life, or one that fails in the runtime.
pub(crate) fn come_and_go(world: &mut World, lives: bool) {
    world.request.id = random_id();
    if lives {
        let created = world.create("true");
        world.spawner.start(&world.target(), created.supervisor.pidfd.as_fd()).unwrap();
        wait_end(&created.supervisor.pidfd);
        assert_eq!(world.exit_code(), "0");
        world.spawner.delete(&world.target(), None, Force::No).unwrap();
        world.spawner.cleanup_cgroup(&world.request.cgroup, Extent::Whole).unwrap();
    } else {
        let mut config = config(&world.request.cgroup, "");
        config["process"]["args"] = json!(["/bin/absent"]);
        world.write_config(&config);
        let error = world.spawner.create(&world.request, world.rootfs()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Runtime, "{error:?}");
    }
}

pub(crate) fn wait_end(pidfd: &OwnedFd) {
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ready, 1, "it goes on for too long");
}

pub(crate) fn within(limit: Duration, done: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !done() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Children of this process that have ended and wait for somebody to ask for them.
pub(crate) fn zombies() -> Vec<String> {
    let parent = std::process::id().to_string();
    let stats = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = fs::read_to_string(entry.unwrap().path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        (fields.next()? == "Z" && fields.next()? == parent).then(|| stat.clone())
    });
    stats.collect()
}

pub(crate) fn mount_table() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// The other ends of a process's standard input, output and error, and these.
pub(crate) fn stdio() -> ([OwnedFd; 3], [fs::File; 3]) {
    let [input, output, error] = [(); 3].map(|()| pipe_with(PipeFlags::CLOEXEC).unwrap());
    ([input.0, output.1, error.1], [input.1.into(), output.0.into(), error.0.into()])
}

pub(crate) fn trial(world: &World, runtime: OciRuntime, args: &[&str]) -> Trial {
    let log = Log::File(world.layout().bundle().join("log"));
    let create = Create { runtime, log, ..world.request.clone() };
    let mut config = config(&create.cgroup, "");
    config["process"]["args"] = json!(args);
    Trial { create, config_json: config.to_string().into(), extent: Extent::Whole }
}
