//! In a process that adopts orphans, nothing that ended stays as a zombie.
//!
//! Adopting changes the whole process, which is why these tests have a binary of their own; they
//! take turns, for each looks at all children of the process.

#![allow(clippy::disallowed_methods, reason = "a test makes its own surroundings")]

mod world;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use tare_spawn::{
    Create, ErrorKind, Extent, Force, Local, Log, OciRuntime, Settings, Spawner, Verdict,
};
use world::{World, config, parent_of, process, stdio, trial, wait_end, within, zombies};

static TURN: Mutex<()> = Mutex::new(());
const SOON: Duration = Duration::from_secs(5);

/// The turn first, so that it ends after the world has.
fn adopting() -> (MutexGuard<'static, ()>, World, Local) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (world, local) = World::local();
    for about in ["it is root", "nothing is left to do"] {
        local.adopt_orphans().expect(about);
    }
    (turn, world, local)
}

fn world() -> (MutexGuard<'static, ()>, World) {
    let (turn, world, _) = adopting();
    (turn, world)
}

fn assert_no_zombies(about: &str) {
    within(SOON, || zombies().is_empty());
    assert_eq!(zombies(), Vec::<String>::new(), "{about}");
}

/// Only what has been waited for is gone; a zombie still takes signals.
fn assert_waited_for(pidfd: &OwnedFd) {
    let gone = || pidfd_send_signal(pidfd, Signal::CONT) == Err(Errno::SRCH);
    within(SOON, gone);
    assert!(gone(), "a zombie");
}

#[test]
fn privileged_a_life_leaves_no_zombie() {
    let (_turn, world) = world();
    let created = world.create("sleep 1000");
    let supervisor = created.supervisor.pidfd.as_fd();
    assert_eq!(parent_of(created.supervisor.pid), std::process::id(), "conmon is adopted");
    world.spawner.start(&world.target(), supervisor).unwrap();
    // Some that are over before anybody has seen them, and one that waits for input.
    for number in 0..10 {
        let request = world.session(number, &process("exit 5"));
        world.spawner.exec(&request, supervisor, stdio().0).unwrap();
    }
    let request = world.session(10, &process("cat"));
    let (theirs, ours) = stdio();
    let execed = world.spawner.exec(&request, supervisor, theirs).unwrap();
    let (session, running) = (execed.supervisor.unwrap(), execed.process.unwrap());
    assert_eq!(parent_of(session.pid), std::process::id());
    let [input, _output, _error] = ours;
    drop(input);
    assert_waited_for(&session.pidfd);
    assert_waited_for(&running.pidfd);
    assert_no_zombies("after sessions");
    assert_eq!(world.session_code(10), "0");

    world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
    assert_waited_for(&created.supervisor.pidfd);
    assert_waited_for(&created.init.pidfd);
    assert_eq!(world.exit_code(), "137");
    world.assert_clean();
    assert_no_zombies("after the end");
}

#[test]
fn privileged_what_a_killed_conmon_leaves_is_waited_for() {
    let (_turn, world) = world();
    let created = world.create("sleep 1000");
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.start(&world.target(), supervisor).unwrap();
    let request = world.session(1, &process("sleep 1000"));
    let execed = world.spawner.exec(&request, supervisor, stdio().0).unwrap();
    let (session, running) = (execed.supervisor.unwrap(), execed.process.unwrap());
    for killed in [&session, &created.supervisor] {
        pidfd_send_signal(&killed.pidfd, Signal::KILL).unwrap();
        assert_waited_for(&killed.pidfd);
    }
    assert_eq!(parent_of(created.init.pid), std::process::id());
    assert_eq!(parent_of(running.pid), std::process::id());
    assert!(!world.layout().exit_file().exists() && !world.layout().exec_exit_file(1).exists());
    pidfd_send_signal(&running.pidfd, Signal::TERM).unwrap();
    assert_waited_for(&running.pidfd);
    assert_eq!(world.session_code(1), "143", "written in the place of conmon");
    pidfd_send_signal(&created.init.pidfd, Signal::KILL).unwrap();
    assert_waited_for(&created.init.pidfd);
    assert_eq!(world.exit_code(), "137");
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    world.assert_clean();
    assert_no_zombies("after all");
}

#[test]
fn privileged_an_init_that_dies_before_a_stopped_conmon_is_waited_for() {
    let (_turn, world) = world();
    let created = world.create("sleep 1000");
    pidfd_send_signal(&created.supervisor.pidfd, Signal::STOP).unwrap();
    pidfd_send_signal(&created.init.pidfd, Signal::KILL).unwrap();
    wait_end(&created.init.pidfd);
    std::thread::sleep(Duration::from_millis(50)); // the reaper has tried it by then
    pidfd_send_signal(&created.supervisor.pidfd, Signal::KILL).unwrap();
    assert_waited_for(&created.supervisor.pidfd);
    assert_waited_for(&created.init.pidfd);
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    world.assert_clean();
    assert_no_zombies("after all");
}

#[test]
fn privileged_failures_and_probes_leave_no_zombie() {
    let (_turn, mut world) = world();
    let mut absent = config(&world.request.cgroup, "");
    absent["process"]["args"] = json!(["/bin/absent"]);
    world.write_config(&absent);
    let error = world.spawner.create(&world.request, world.rootfs()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Runtime, "{error:?}");
    assert_no_zombies("after a runtime that says no");

    // conmon's own complaint: a log it cannot open.
    let log = Log::File(world.dir.path().join("absent/log"));
    let request = Create { log, ..world.request.clone() };
    world.spawner.create(&request, world.rootfs()).unwrap_err();
    assert_no_zombies("after a conmon that says no");

    for victim in ["runc", "conmon"] {
        kill_half_way(&mut world, victim);
        assert_no_zombies(victim);
    }
    world.request.id = world::random_id();
    let works = trial(&world, OciRuntime::Runc, &["/bin/true"]);
    assert_eq!(world.probe(&works).unwrap().verdict, Verdict::Works);
    assert_no_zombies("after a probe");
    world.assert_clean();
}

/// Kills the runtime, or the conmon, of a container that is being created.
#[expect(clippy::unwrap_used, reason = "part of a test")]
fn kill_half_way(world: &mut World, victim: &str) {
    world.request.id = world::random_id();
    let mark = world.dir.path().join(victim);
    let script = format!("echo $PPID > {}; exec sleep 1000", mark.display());
    let mut config = config(&world.request.cgroup, "true");
    config["hooks"] = json!({ "createRuntime": [
        { "path": "/bin/sh", "args": ["sh", "-c", script] },
    ]});
    world.write_config(&config);
    std::thread::scope(|scope| {
        let create = scope.spawn(|| world.spawner.create(&world.request, world.rootfs()));
        within(SOON, || fs::read_to_string(&mark).is_ok_and(|text| text.ends_with('\n')));
        let runtime = fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
        let pid = if victim == "runc" { runtime } else { parent_of(runtime) };
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
        create.join().unwrap().unwrap_err();
    });
}

#[test]
fn privileged_what_outlives_a_container_in_its_group_is_waited_for() {
    let (_turn, world) = world();
    let mut config = config(&world.request.cgroup, "sleep 1000 & sleep 1001 & exit 3");
    // Without a pid namespace, its processes outlive the first.
    config["linux"]["namespaces"].as_array_mut().unwrap().remove(0);
    world.write_config(&config);
    let created = world.spawner.create(&world.request, world.rootfs()).unwrap();
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.start(&world.target(), supervisor).unwrap();
    wait_end(&created.init.pidfd);
    world.spawner.cleanup_cgroup(&world.request.cgroup, Extent::Whole).unwrap();
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    world.assert_clean();
    assert_no_zombies("after the group was cleared");
}

/// crun leaves its child, which is in the container's pid namespace by then: until that has been
/// waited for, the first process of the namespace cannot end.
#[test]
fn privileged_an_exec_that_fails_does_not_keep_its_container_from_ending() {
    for runtime in [OciRuntime::Crun, OciRuntime::Runc] {
        let (_turn, mut world) = world();
        world.request.runtime = runtime;
        let created = world.create("sleep 1000");
        let supervisor = created.supervisor.pidfd.as_fd();
        world.spawner.start(&world.target(), supervisor).unwrap();
        let mut absent = process("");
        for (number, program) in ["/bin/absent", "absent", "/bin"].into_iter().enumerate() {
            absent["args"] = json!([program]);
            let request = world.session(u32::try_from(number).unwrap(), &absent);
            world.spawner.exec(&request, supervisor, stdio().0).unwrap_err();
        }
        pidfd_send_signal(&created.init.pidfd, Signal::KILL).unwrap();
        wait_end(&created.init.pidfd);
        world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
        world.assert_clean();
        assert_no_zombies(runtime.as_str());
    }
}

/// It is killed with the group of its session, or as here ends by itself, and its child does later.
#[test]
fn privileged_what_a_failed_exec_left_and_dies_later_is_waited_for() {
    let (_turn, world) = world();
    let created = world.create("sleep 1000");
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.start(&world.target(), supervisor).unwrap();
    let group = world.request.cgroup.payload();
    let payload = world::cgroup2().join(&group.as_str()[1..]);
    // Its child has one of its own, which has it as parent when the session is taken back.
    let script = format!(
        "#!/bin/sh\n(echo 0 >/sys/fs/cgroup{group}/cgroup.procs; sleep 2 & exec sleep 1) </dev/null >&0 2>&0 &\n\
         sleep 0.1\nexit 1\n"
    );
    let runtime = world.script("crun", &script);
    let spawner = Local::new(Settings { crun: Some(runtime), ..world.settings.clone() });
    spawner.adopt_orphans().unwrap();
    let mut request = world.session(1, &process("true"));
    request.target.runtime = OciRuntime::Crun;
    spawner.exec(&request, supervisor, stdio().0).unwrap_err();
    let left = || fs::read_to_string(payload.join("cgroup.procs")).unwrap().lines().count() - 1;
    assert_eq!(left(), 2, "beside the first process");
    within(SOON, || left() == 0);
    assert_no_zombies("when all have ended");
    world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
    world.assert_clean();
}

/// As by somebody who has had no answer, and takes back what there may be of the session.
#[test]
fn privileged_what_a_conmon_leaves_that_was_killed_before_it_was_seen_is_waited_for() {
    let (_turn, world) = world();
    let created = world.create("sleep 1000");
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.start(&world.target(), supervisor).unwrap();
    let group = world.request.cgroup.payload();
    // It tells of a process, and is gone.
    let script = format!(
        "#!/bin/sh\nread go <&4\n\
         (echo 0 >/sys/fs/cgroup{group}/cgroup.procs; exec sleep 1) </dev/null >&0 2>&0 3>&0 &\n\
         while ! grep -q payload /proc/$!/cgroup; do :; done\n\
         while [ \"$1\" != --conmon-pidfile ]; do shift; done\n\
         echo $$ >\"$2\"\n\
         echo \"{{\\\"data\\\": $!}}\" >&3\n"
    );
    let conmon = world.script("conmon", &script);
    let spawner = Local::new(Settings { conmon, ..world.settings.clone() });
    spawner.adopt_orphans().unwrap();
    let request = world.session(1, &process("true"));
    let execed = spawner.exec(&request, supervisor, stdio().0).unwrap();
    assert!(execed.supervisor.is_none() && execed.process.is_none(), "{execed:?}");
    let payload = world::cgroup2().join(&group.as_str()[1..]);
    let left = || fs::read_to_string(payload.join("cgroup.procs")).unwrap().lines().count() - 1;
    assert_eq!(left(), 1, "beside the first process");
    within(SOON, || left() == 0);
    assert_no_zombies("when it has ended");
    world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
    world.assert_clean();
}

#[test]
fn privileged_other_children_are_left_to_those_who_started_them() {
    let (_turn, world) = world();
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            for _ in 0..100 {
                let status = Command::new("sh").args(["-c", "exit 3"]).status().unwrap();
                assert_eq!(status.code(), Some(3));
            }
        });
        let created = world.create("true");
        world.spawner.start(&world.target(), created.supervisor.pidfd.as_fd()).unwrap();
        assert_waited_for(&created.supervisor.pidfd);
        others.join().unwrap();
    });
    world.spawner.delete(&world.target(), None, Force::No).unwrap();
    world.assert_clean();
    assert_no_zombies("after all");
}

#[test]
fn privileged_a_process_is_adopted_by_its_pidfd() {
    let (_turn, _world, local) = adopting();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let orphan = |seconds| {
        let script = format!("sleep {seconds} >/dev/null & echo $!");
        let output =
            Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).output().unwrap();
        let pid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()
    };
    // One that lives and one that is a zombie already.
    let (lives, dead) = (orphan("1000"), orphan("0"));
    wait_end(&dead);
    for pidfd in [&lives, &dead] {
        local.adopt(pidfd.try_clone().unwrap());
    }
    assert_waited_for(&dead);
    pidfd_send_signal(&lives, Signal::KILL).unwrap();
    assert_waited_for(&lives);

    // Another's: forgotten, and no descriptor stays.
    let mut other = Command::new("sh").args(["-c", "sleep 0.3 & wait"]).spawn().unwrap();
    let child = || {
        let path = format!("/proc/{0}/task/{0}/children", other.id());
        fs::read_to_string(path).unwrap().trim().parse::<i32>().ok()
    };
    within(SOON, || child().is_some());
    let pidfd = pidfd_open(Pid::from_raw(child().unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    local.adopt(pidfd);
    other.wait().unwrap();
    drop((lives, dead));
    within(SOON, || descriptors() == before);
    assert_eq!(descriptors(), before);
    assert_no_zombies("after all");
}
