//! A real `tare-worker`, and registries that answer what a test wants.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tare_worker::{Ask, By, FailureKind, Heard, Login, Place, Protocol, Reply, Session};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tare-worker");
const PATIENCE: Duration = Duration::from_secs(30);

/// A running worker, and the connection to it.
struct Worker {
    child: Child,
    session: Session,
}

impl Worker {
    fn start() -> Self {
        let (session, theirs) = Session::pair().unwrap();
        let child = Command::new(PROGRAM).stdin(Stdio::from(theirs)).spawn().unwrap();
        Self { child, session }
    }

    /// One for a repository of a registry without a certificate.
    fn at(registry: &TcpListener, login: Option<Login>) -> Self {
        let worker = Self::start();
        let mut place = Place::new(registry.local_addr().unwrap().to_string(), "a");
        (place.protocol, place.login) = (Protocol::Http, login);
        place.kinds = vec!["application/vnd.oci.image.manifest.v1+json".into()];
        assert_eq!(worker.all(&Ask::Open(place)), [Heard::Done]);
        worker
    }

    fn ask(&self, ask: &Ask) -> Reply {
        self.session.ask(ask, None).unwrap()
    }

    /// All that is said until the end.
    fn all(&self, ask: &Ask) -> Vec<Heard> {
        let (mut reply, mut all) = (self.ask(ask), Vec::new());
        loop {
            let heard = wait(&mut reply).unwrap();
            let is_last = matches!(heard, Heard::Done | Heard::Failed(_));
            all.push(heard);
            if is_last {
                return all;
            }
        }
    }

    fn failure(&self, ask: &Ask) -> FailureKind {
        match self.all(ask).pop() {
            Some(Heard::Failed(failure)) => failure.kind,
            other => panic!("{other:?}"),
        }
    }

    /// Lets go of the connection and waits for its end.
    fn leave(mut self) {
        drop(self.session);
        let end = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < end, "it does not end"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}");
    }
}

fn wait(reply: &mut Reply) -> io::Result<Heard> {
    let end = Instant::now() + PATIENCE;
    loop {
        match reply.hear() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(Instant::now() < end, "it says nothing");
                let limit = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
                poll(&mut [PollFd::new(&*reply, PollFlags::IN)], Some(&limit)).unwrap();
            }
            heard => return heard,
        }
    }
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// What was asked, up to the empty line.
fn request(client: &mut TcpStream) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap() == 1 {
        text.extend(byte);
    }
    String::from_utf8(text).unwrap()
}

/// A registry that answers each request by `answer`: a status, and what follows.
fn registry(answer: fn(&str) -> (&'static str, Vec<u8>)) -> TcpListener {
    let listener = listen();
    let listens = listener.try_clone().unwrap();
    thread::spawn(move || {
        for client in listens.incoming() {
            let mut client = client.unwrap();
            let (status, body) = answer(&request(&mut client));
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(&body));
        }
    });
    listener
}

fn manifest() -> Ask {
    Ask::Manifest(By::Tag("1".into()))
}

#[test]
fn what_a_registry_has_comes_as_it_is() {
    let registry = registry(|asked| {
        if asked.starts_with("GET /v2/a/manifests/1 ") {
            assert!(asked.to_lowercase().contains("authorization: basic bwu6c2vjcmv0"), "{asked}");
            ("200 OK", vec![b' '; 200_000])
        } else {
            ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"", Vec::new())
        }
    });
    let login = Login { user: "me".into(), password: "secret".into() };
    let worker = Worker::at(&registry, Some(login));
    let mut all = worker.all(&manifest());
    assert_eq!(all.pop(), Some(Heard::Done));
    let bytes = all.into_iter().flat_map(|heard| match heard {
        Heard::Bytes(bytes) => bytes,
        other => panic!("{other:?}"),
    });
    assert_eq!(bytes.collect::<Vec<u8>>(), vec![b' '; 200_000]);
    worker.leave();
}

#[test]
fn what_a_registry_does_not_give_is_told_apart() {
    let refusing = registry(|_| ("401 Unauthorized", Vec::new()));
    let empty = registry(|_| ("404 Not Found", Vec::new()));
    let nobody = listen();
    let broken = registry(|_| ("200 OK", b"?".to_vec()));
    for (registry, ask, wanted) in [
        (&refusing, manifest(), FailureKind::Denied),
        (&empty, manifest(), FailureKind::Unknown),
        (&broken, blob(), FailureKind::Digest),
        (&broken, Ask::PutBlob { digest: digest(), size: 1 }, FailureKind::Question),
    ] {
        let worker = Worker::at(registry, None);
        assert_eq!(worker.failure(&ask), wanted, "{ask:?}");
        worker.leave();
    }
    let gone = Worker::at(&nobody, None);
    drop(nobody);
    assert_eq!(gone.failure(&manifest()), FailureKind::Unreachable);
    let unnamed = Worker::start();
    assert_eq!(unnamed.failure(&manifest()), FailureKind::Question, "of which repository?");
    unnamed.leave();
}

fn digest() -> String {
    format!("sha256:{}", "0".repeat(64))
}

fn blob() -> Ask {
    Ask::Blob { digest: digest(), from: 0 }
}

#[test]
fn who_lets_go_of_a_reply_ends_what_was_asked_and_nothing_else() {
    let silent = listen();
    let worker = Worker::at(&silent, None);
    let (given_up, kept) = (worker.ask(&manifest()), worker.ask(&manifest()));
    let (mut first, _) = silent.accept().unwrap();
    let (mut second, _) = silent.accept().unwrap();
    drop(given_up);
    // Which of the two connections was its own, nobody knows.
    let mut ended = [&mut first, &mut second].map(|connection| {
        request(connection);
        connection.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        connection.read(&mut [0]).is_ok_and(|read| read == 0)
    });
    ended.sort_unstable();
    assert_eq!(ended, [false, true]);
    drop(kept);
    worker.leave();
}

#[test]
fn it_ends_with_its_connection_whatever_it_waits_for() {
    let silent = listen();
    let worker = Worker::at(&silent, None);
    let _reply = worker.ask(&manifest());
    let _waits = silent.accept().unwrap();
    worker.leave();
}

#[test]
fn one_that_is_killed_is_told_from_one_that_is_done() {
    let silent = listen();
    let mut worker = Worker::at(&silent, None);
    let mut reply = worker.ask(&manifest());
    let _waits = silent.accept().unwrap();
    worker.child.kill().unwrap();
    worker.child.wait().unwrap();
    assert_eq!(wait(&mut reply).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    worker.session.ask(&manifest(), None).expect_err("nobody is there");
}

#[test]
fn it_serves_nobody_but_who_started_it() {
    let output = Command::new(PROGRAM).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("nobody who asks"), "{said}");
}

#[test]
fn privileged_whoever_starts_it_it_can_do_nothing_to_the_host() {
    let worker = Worker::at(&listen(), None);
    let status = fs::read_to_string(format!("/proc/{}/status", worker.child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let nobody = ["65534"; 4].join(" ");
    for (name, wanted) in [
        ("Uid", nobody.as_str()),
        ("Gid", &nobody),
        ("Groups", ""),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(field(name), wanted, "{name}");
    }
    worker.leave();
}
