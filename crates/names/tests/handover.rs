//! `tare-names` as a program, told by one manager after the other. In namespaces of the test's own: the
//! loopback is the network.

#![expect(clippy::disallowed_methods, reason = "a test makes its own surroundings")]
#![expect(clippy::unwrap_used, reason = "a test has no caller to report to")]

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use host_world::{Guard, Scope, own_run};
use nix::sched::{CloneFlags, unshare};
use tare_names::{Foreign, Host, NameServer, Remote};

const HERE: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

/// A `tare-names`, ended with the test.
struct Program {
    child: Child,
    socket: PathBuf,
}

impl Program {
    fn start(socket: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tare-names"));
        let child =
            command.arg("--socket").arg(socket).args(["--resolv-conf", "/none/such"]).spawn();
        let program = Self { child: child.unwrap(), socket: socket.into() };
        until("it listens", || program.socket.exists());
        program
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::remove_file(&self.socket).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "not before the end of time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A manager that knows of one network, with one host on it.
fn manager(socket: &Path, host: &str) -> Remote {
    let remote = Remote::start(socket.into(), "tare.internal").unwrap();
    remote.set_network("n", vec!["10.88.0.0/24".parse().unwrap()], Foreign::Refused);
    set_host(&remote, host);
    remote
}

fn set_host(remote: &Remote, name: &str) {
    let addresses = vec!["10.88.0.2".parse().unwrap()];
    let host =
        Host { names: vec![name.trim_end_matches('.').into()], aliases: Vec::new(), addresses };
    remote.set_host("id", vec![("n".into(), host)]);
}

fn ask(name: &str) -> Option<ResponseCode> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, 53)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    socket.send(&query.to_vec().unwrap()).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    Some(Message::from_vec(&answer[..length]).unwrap().metadata.response_code)
}

fn is_known(name: &str) -> bool {
    ask(name) == Some(ResponseCode::NoError)
}

/// On a thread of its own, in namespaces of its own.
fn alone(body: impl FnOnce(&Path) + Send) {
    thread::scope(|scope| {
        let inside = || {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("needs root");
            own_run();
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success());
            let dir = tempfile::tempdir().unwrap();
            let mark = dir.path().display().to_string();
            let guard = Guard::new(Scope::of_own_namespaces(vec![mark]));
            body(&dir.path().join("names.sock"));
            // What it listened at goes with the directory.
            dir.close().unwrap();
            drop(guard);
        };
        if let Err(panic) = scope.spawn(inside).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn privileged_answers_go_on_from_one_manager_to_the_next() {
    alone(|socket| {
        let _program = Program::start(socket);
        let first = manager(socket, "web.");
        first.serve("n", "lo", &HERE).unwrap();
        first.begin();
        until("it is told", || is_known("web."));
        set_host(&first, "db.");
        until("it is told of what changes", || is_known("db.") && !is_known("web."));
        drop(first);
        assert!(is_known("db."), "nobody tells it any more");

        let second = manager(socket, "new.");
        second.serve("n", "lo", &HERE).expect("the sockets are taken up, and not made again");
        assert!(is_known("db."), "until all is known, what was known counts");
        second.begin();
        until("all is known", || is_known("new.") && !is_known("db."));
        drop(second);

        let third = manager(socket, "new.");
        third.begin();
        until("what nobody asks for again is closed", || {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).is_ok()
        });
    });
}

#[test]
fn privileged_questions_wait_for_a_server_that_is_away() {
    alone(|socket| {
        let mut program = Program::start(socket);
        let manager = manager(socket, "web.");
        manager.serve("n", "lo", &HERE).unwrap();
        manager.begin();
        until("it is told", || is_known("web."));
        for _ in 0..3 {
            program.kill();
            let asked = thread::scope(|scope| {
                let asked = scope.spawn(|| is_known("web."));
                program = Program::start(socket);
                asked.join().unwrap()
            });
            assert!(asked);
        }
        manager.remove_network("n");
        until("a network that is gone is asked no more", || ask("web.").is_none());
        manager.stop();
    });
}

#[test]
fn privileged_a_server_that_comes_late_is_told() {
    alone(|socket| {
        let manager = manager(socket, "web.");
        manager.serve("n", "lo", &HERE).unwrap();
        manager.begin();
        let _program = Program::start(socket);
        assert!(is_known("web."));
    });
}
