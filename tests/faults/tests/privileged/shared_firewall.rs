//! A kernel that knows no owners of firewall tables: anybody can take the table of the daemon away, and
//! it is back a moment later.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{collections::HashMap, thread};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use system_tests::main_job::address;
use system_tests::network::in_network;
use system_tests::{Client, Host, Options, Setup, Tared, bin, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

const PORT: u16 = 8080;

/// How many times in a row an older kernel will fail to load the table.
type Failing = Arc<AtomicUsize>;

/// Answers a daemon before each of its effects: each time it loads the table, that there are no owners
/// here, and when it tries again without, as to all else, that it shall happen; as long as it is not to fail.
fn be_an_older_kernel(socket: &Path) -> Failing {
    let listener = UnixListener::bind(socket).unwrap();
    let failing = Failing::default();
    let left = failing.clone();
    thread::spawn(move || {
        let mut tries_again = false;
        for mut asker in listener.incoming().flatten() {
            let mut asked = String::new();
            let _ = asker.read_to_string(&mut asked);
            if asked.starts_with("netns\tload firewall table") {
                if left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                    let _ = write!(asker, "{}", Errno::IO.raw_os_error());
                    continue;
                }
                if !tries_again {
                    let _ = write!(asker, "{}", Errno::OPNOTSUPP.raw_os_error());
                }
                tries_again = !tries_again;
            }
        }
    });
    failing
}

async fn publishing(client: &Client) -> OwnedObjectPath {
    let port = HashMap::from([
        ("HostPort", Variant::from(PORT)),
        ("ContainerPort", Variant::from(80_u16)),
    ]);
    let command = ("Command", vec!["sleep", "1000"].into());
    let options = Options::from([command, ("PublishedPorts", vec![port].into())]);
    let web = client.create_with("web", options).await.unwrap();
    client.start(&web).await.done();
    web
}

/// Says something through a new connection to the published port, if there is a way.
fn talk(listener: &TcpListener) -> Option<()> {
    let to: SocketAddr = ([127, 0, 0, 1], PORT).into();
    let mut caller = TcpStream::connect_timeout(&to, Duration::from_millis(200)).ok()?;
    let (mut server, _) = listener.accept().ok()?;
    caller.write_all(b"x").ok()?;
    server.read_exact(&mut [0]).ok()
}

/// One whose kernel knows no owners.
fn on_older_kernel(host: &Host) -> Setup {
    on_older_kernel_that_fails(host).0
}

/// The same, with what makes it fail.
fn on_older_kernel_that_fails(host: &Host) -> (Setup, Failing) {
    let socket = host.path("kernel");
    let failing = be_an_older_kernel(&socket);
    let setup = Setup {
        program: bin("tared-faulty"),
        env: vec![("TARE_FAULTS".into(), socket.display().to_string())],
        ..Setup::private(host)
    };
    (setup, failing)
}

fn namespace_of(path: &OwnedObjectPath) -> String {
    let id = path.rsplit('/').next().unwrap();
    let names = std::fs::read_dir("/run/netns").unwrap();
    let mut names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.ends_with(&id[..12])).expect("it has one")
}

fn listen(path: &OwnedObjectPath) -> TcpListener {
    in_network(&namespace_of(path), || TcpListener::bind("0.0.0.0:80").unwrap())
}

fn connected(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let to: SocketAddr = ([127, 0, 0, 1], PORT).into();
    let caller = TcpStream::connect(to).unwrap();
    let server = listener.accept().unwrap().0;
    for stream in [&caller, &server] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    (caller, server)
}

fn listed() -> String {
    run("nft", &["list", "ruleset"])
}

/// Waits until the rules are as they were; how long that took.
fn back_to(before: &str) -> Duration {
    let begun = Instant::now();
    while listed() != before {
        // Ten times as long as it may take.
        assert!(begun.elapsed() < Duration::from_secs(10), "it is not back: {}", listed());
    }
    begun.elapsed()
}

#[test]
fn privileged_a_table_that_has_no_owner_is_put_back_at_once() {
    on_scratch_host(async |host| {
        let mut tared = Tared::with(on_older_kernel(host));
        let client = tared.client().await;
        client.import_busybox().await;
        let web = publishing(&client).await;
        let listener = listen(&web);
        talk(&listener).unwrap();
        let (mut kept, mut server) = connected(&listener);
        let before = listed();
        assert!(!before.contains("flags owner"), "{before}");
        for change in [&["flush", "ruleset"][..], &["delete", "table"]] {
            let table = before.split_whitespace().nth(2).unwrap();
            let whole = if change[0] == "delete" {
                [change, &["inet", table]].concat()
            } else {
                change.into()
            };
            run("nft", &whole);
            println!("{change:?}: back after {:?}", back_to(&before));
            talk(&listener).expect("a new connection finds its way");
            kept.write_all(b"y").unwrap();
            server.read_exact(&mut [0]).expect("and one that was quiet meanwhile goes on");
        }
        drop((kept, server, listener));
        client.remove(&web).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_a_table_that_cannot_be_put_back_is_tried_again() {
    on_scratch_host(async |host| {
        let (setup, failing) = on_older_kernel_that_fails(host);
        let mut tared = Tared::with(setup);
        let client = tared.client().await;
        client.import_busybox().await;
        let web = publishing(&client).await;
        let listener = listen(&web);
        let before = listed();
        failing.store(3, SeqCst);
        run("nft", &["flush", "ruleset"]);
        println!("back after {:?}", back_to(&before));
        assert_eq!(failing.load(SeqCst), 0, "it failed so often");
        talk(&listener).expect("the port leads there again");
        drop(listener);
        client.remove(&web).await.done();
        tared.stop();
    });
}

/// What such a kernel cannot do: there is nobody to translate for a connection until the table is back.
#[test]
fn privileged_a_connection_that_sends_while_the_table_is_gone_is_reset() {
    on_scratch_host(async |host| {
        let mut tared = Tared::with(on_older_kernel(host));
        let client = tared.client().await;
        client.import_busybox().await;
        let web = publishing(&client).await;
        let listener = listen(&web);
        let (mut sends, _server) = connected(&listener);
        let (mut quiet, mut hears) = connected(&listener);
        let before = listed();
        let pid = Pid::from_raw(tared.pid().cast_signed()).unwrap();
        // Nobody puts it back as long as this wants to see it gone.
        kill_process(pid, Signal::STOP).unwrap();
        run("nft", &["flush", "ruleset"]);
        sends.write_all(b"x").unwrap();
        let cut = sends.read(&mut [0]).expect_err("nobody knows of it");
        assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
        kill_process(pid, Signal::CONT).unwrap();
        back_to(&before);
        quiet.write_all(b"y").unwrap();
        hears.read_exact(&mut [0]).expect("it did not notice");
        talk(&listener).expect("new ones find their way");
        drop((sends, quiet, hears, listener));
        client.remove(&web).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_a_table_that_was_taken_away_while_nobody_looked_is_back_with_the_next_daemon() {
    on_scratch_host(async |host| {
        // A new network namespace begins with what the host has.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let mut tared = Tared::with(on_older_kernel(host));
        let client = tared.client().await;
        client.import_busybox().await;
        let apart = Options::from([("Isolate", true.into())]);
        let _: OwnedObjectPath = client.manager("CreateNetwork", &("apart", apart)).await.unwrap();
        let web = publishing(&client).await;
        let listener = listen(&web);
        let row = HashMap::from([("Network", Variant::from("apart"))]);
        let command = ("Command", vec!["sleep", "1000"].into());
        let options = Options::from([command, ("Networks", vec![row].into())]);
        let lone = client.create_with("lone", options).await.unwrap();
        client.start(&lone).await.done();
        let at_web = address(&client, &web).await["Address"].clone();
        let at_web: SocketAddr =
            format!("{}:80", at_web.split_once('/').unwrap().0).parse().unwrap();
        let (lone_at, patience) = (namespace_of(&lone), Duration::from_millis(500));
        let reaches = || {
            in_network(&lone_at, || TcpStream::connect_timeout(&at_web, patience).is_ok())
                .then(|| listener.accept().unwrap())
                .is_some()
        };
        assert!(!reaches(), "it is apart");
        let before = listed();
        let closed = before.split("set closed").nth(1).unwrap().split('}').next().unwrap();
        assert!(closed.contains("elements"), "the host is no router: {before}");

        drop(client);
        tared.kill9();
        run("nft", &["flush", "ruleset"]);
        assert_eq!(listed(), "");
        assert!(reaches(), "nothing keeps it apart");
        let mut tared = tared.restart();
        assert_eq!(listed(), before, "all is as before, and the host no router for strangers");
        assert!(!reaches(), "it is apart again");
        talk(&listener).expect("the port leads there again");
        let client = tared.client().await;
        drop(listener);
        for path in [web, lone] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}
