//! A kernel that knows no owners of firewall tables: anybody can take the table of the daemon away, and
//! it is back a moment later.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{collections::HashMap, thread};

use rustix::io::Errno;
use system_tests::network::in_network;
use system_tests::{Client, Options, Setup, Tared, bin, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

const PORT: u16 = 8080;

/// Answers a daemon before each of its effects: each time it loads the table, that there are no owners
/// here, and when it tries again without, as to all else, that it shall happen.
fn be_an_older_kernel(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let mut tries_again = false;
        for mut asker in listener.incoming().flatten() {
            let mut asked = String::new();
            let _ = asker.read_to_string(&mut asked);
            if asked.starts_with("netns\tload firewall table") {
                if !tries_again {
                    let _ = write!(asker, "{}", Errno::OPNOTSUPP.raw_os_error());
                }
                tries_again = !tries_again;
            }
        }
    });
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

#[test]
fn privileged_a_table_that_has_no_owner_is_put_back_at_once() {
    on_scratch_host(async |host| {
        let socket = host.path("kernel");
        be_an_older_kernel(&socket);
        let setup = Setup {
            program: bin("tared-faulty"),
            env: vec![("TARE_FAULTS".into(), socket.display().to_string())],
            ..Setup::private(host)
        };
        let mut tared = Tared::with(setup);
        let client = tared.client().await;
        client.import_busybox().await;
        let web = publishing(&client).await;
        let id = web.rsplit('/').next().unwrap();
        let mut names = std::fs::read_dir("/run/netns").unwrap();
        let name = names.find_map(|it| it.unwrap().file_name().into_string().ok()).unwrap();
        assert!(name.ends_with(&id[..12]));
        let listener = in_network(&name, || TcpListener::bind("0.0.0.0:80").unwrap());
        listener.set_nonblocking(false).unwrap();
        talk(&listener).unwrap();
        let to: SocketAddr = ([127, 0, 0, 1], PORT).into();
        let mut kept = TcpStream::connect(to).unwrap();
        let (mut server, _) = listener.accept().unwrap();

        let listed = || run("nft", &["list", "ruleset"]);
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
            let begun = Instant::now();
            while listed() != before {
                assert!(begun.elapsed() < Duration::from_secs(10), "it is not back: {}", listed());
            }
            println!("{change:?}: back after {:?}", begun.elapsed());
            talk(&listener).expect("a new connection finds its way");
            kept.write_all(b"y").unwrap();
            server.read_exact(&mut [0]).expect("and one that was quiet meanwhile goes on");
        }
        drop((kept, server, listener));
        client.remove(&web).await.done();
        tared.stop();
    });
}
