//! What `tare-spawn` is for: whoever ends, containers go on, and nothing is left behind.

#![allow(clippy::disallowed_methods, reason = "a test makes its own surroundings")]
#![expect(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` misses helpers")]

mod world;

use std::fs::{self, Permissions};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with,
};
use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};
use serde_json::json;
use tare_spawn::{Cause, Create, Extent, Force, Remote};
use world::{Daemon, World, config, parent_of, process, stdio, wait_end, within};

const SOON: Duration = Duration::from_secs(10);

impl World {
    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    /// Makes a container whose runtime runs this script in the middle of creating.
    fn with_hook(&self, script: &str) {
        let mut config = config(&self.request.cgroup, "sleep 1000");
        config["hooks"] = json!({ "createRuntime": [
            { "path": "/bin/sh", "args": ["sh", "-c", script] },
        ]});
        self.write_config(&config);
    }

    fn exec_code(&self, session: u32, conmon: &impl AsFd) -> String {
        let request = self.session(session, &process("exit 5"));
        let execed = self.spawner.exec(&request, conmon.as_fd(), stdio().0).unwrap();
        if let Some(session) = execed.supervisor {
            wait_end(&session.pidfd);
        }
        self.session_code(session)
    }
}

#[test]
fn privileged_a_container_outlives_every_tare_spawn() {
    let mut world = World::remote();
    let created = world.create("sleep 1000");
    let conmon = created.supervisor.pidfd;
    world.spawner.start(&world.target(), conmon.as_fd()).unwrap();
    assert_eq!(parent_of(created.supervisor.pid), world.daemon().pid(), "it is adopted");
    for (session, how) in [(1, "asked to end"), (2, "killed")] {
        match how {
            "killed" => world.daemon().kill9(),
            _ => world.daemon().stop(),
        }
        pidfd_send_signal(&created.init.pidfd, Signal::CONT).expect(how);
        // A call does not mind that it is away for a moment.
        thread::scope(|scope| {
            let code = scope.spawn(|| world.exec_code(session, &conmon));
            thread::sleep(Duration::from_millis(50));
            assert!(!code.is_finished());
            let mut next =
                Daemon::start(&world.dir.path().join("spawn.sock"), &world.settings.run_dir);
            assert_eq!(code.join().unwrap(), "5", "{how}");
            next.stop();
        });
        world.daemon().start_again();
    }
    world.spawner.delete(&world.target(), Some(conmon.as_fd()), Force::Kill).unwrap();
    wait_end(&conmon);
    assert_eq!(world.exit_code(), "137", "conmon has it, whoever started that");
    world.assert_clean();
}

#[test]
fn privileged_what_ended_leaves_no_zombie() {
    let mut world = World::remote();
    let created = world.create("exit 3");
    let conmon = created.supervisor.pidfd;
    world.spawner.start(&world.target(), conmon.as_fd()).unwrap();
    wait_end(&conmon);
    let gone = || pidfd_send_signal(&conmon, Signal::CONT) == Err(Errno::SRCH);
    within(SOON, gone);
    assert!(gone(), "a zombie still takes signals");
    let pid = world.daemon().pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children, "");
    world.spawner.delete(&world.target(), None, Force::No).unwrap();
    world.assert_clean();
}

#[test]
fn privileged_killed_in_the_middle_of_a_call_it_leaves_what_can_be_cleaned_up() {
    let mut world = World::remote();
    let mark = world.dir.path().join("half-way");
    world.with_hook(&format!("echo > {}; exec sleep 1000", mark.display()));
    let pid = Pid::from_raw(i32::try_from(world.daemon().pid()).unwrap()).unwrap();
    let error = thread::scope(|scope| {
        let create = scope.spawn(|| world.spawner.create(&world.request, world.rootfs()));
        within(SOON, || mark.exists());
        kill_process(pid, Signal::KILL).unwrap();
        create.join().unwrap().unwrap_err()
    });
    assert!(matches!(error.cause(), Some(Cause::NoAnswer)), "{error:?}");
    world.daemon().wait();
    world.daemon().start_again();
    assert!(!world.traces().is_empty());
    world.spawner.cleanup_cgroup(&world.request.cgroup.supervisor(), Extent::Whole).unwrap();
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    world.assert_clean();
}

#[test]
fn privileged_a_call_under_way_is_carried_through() {
    let mut world = World::remote();
    let (mark, go) = (world.dir.path().join("half-way"), world.dir.path().join("go"));
    let script = "echo > $0; until [ -e $1 ]; do sleep 0.01; done";
    let mut config = config(&world.request.cgroup, "sleep 1000");
    config["hooks"] = json!({ "createRuntime": [
        { "path": "/bin/sh", "args": ["sh", "-c", script, mark, go], "env": ["PATH=/bin"] },
    ]});
    world.write_config(&config);
    let created = thread::scope(|scope| {
        let create = scope.spawn(|| world.spawner.create(&world.request, world.rootfs()));
        within(SOON, || mark.exists());
        world.daemon.as_ref().unwrap().ask_to_end();
        within(SOON, || !world.dir.path().join("spawn.sock").exists());
        assert!(!create.is_finished());
        fs::write(&go, "").unwrap();
        create.join().unwrap().unwrap()
    });
    assert!(world.daemon().wait().success());
    world.daemon().start_again();
    world.spawner.start(&world.target(), created.supervisor.pidfd.as_fd()).unwrap();
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    world.assert_clean();
}

#[test]
fn privileged_a_caller_that_is_killed_is_not_waited_for() {
    let world = World::remote();
    fs::create_dir_all(world.layout().bundle()).unwrap();
    let prepared = world.spawner.prepare(&world.request, Vec::new()).unwrap();
    let conmon = prepared.supervisor().pidfd.try_clone().unwrap();
    drop(prepared);
    // The successor's call comes after the other's has been taken back.
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    let gone = pidfd_send_signal(&conmon, Signal::CONT);
    assert_eq!(gone, Err(Errno::SRCH), "conmon is dead and waited for");
    assert!(!world.layout().exit_dir().exists());
    world.assert_clean();
}

#[test]
fn privileged_nobody_but_root_is_heard() {
    let world = World::remote();
    let path = world.dir.path().join("spawn.sock");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "{mode:o}");
    // Even if somebody opens the door.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(world.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let answer = thread::spawn(move || {
        // Of this thread alone.
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let mut answer = [MaybeUninit::uninit(); 1000];
        let (answer, _) = recv(&socket, &mut answer, RecvFlags::empty()).unwrap();
        String::from_utf8(answer.0.to_vec()).unwrap()
    });
    assert_eq!(answer.join().unwrap(), r#"{"rejected":"peer"}"#);
    world.assert_clean();
}

#[test]
fn privileged_a_service_manager_can_listen_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, run) = (dir.path().join("s"), dir.path().join("r"));
    let ours = Daemon::command(Path::new("/nowhere/s"), &run);
    let mut command = Command::new("systemd-socket-activate");
    command.arg("--seqpacket").arg("-l").arg(&socket).arg(ours.get_program());
    let mut manager = command.args(ours.get_args()).spawn().expect("systemd is installed");
    within(SOON, || socket.exists());
    let remote = Remote::connect(&socket, &run).unwrap();
    let version = tare_spawn::Spawner::version(&remote, tare_spawn::OciRuntime::Runc).unwrap();
    assert!(version.starts_with("runc version"), "{version}");
    // It has become what it started.
    kill_process(Pid::from_child(&manager), Signal::TERM).unwrap();
    assert!(manager.wait().unwrap().success());
    assert!(socket.exists(), "the socket is not its to take away");
}

#[test]
fn privileged_two_do_not_share_a_socket() {
    let world = World::remote();
    let socket = world.dir.path().join("spawn.sock");
    let status = Daemon::command(&socket, &world.settings.run_dir).status().unwrap();
    assert!(!status.success());
    let request = Create { incarnation: tare_spawn::Incarnation(2), ..world.request.clone() };
    assert!(world.spawner.prepare(&request, Vec::new()).is_err(), "the first still answers");
}
