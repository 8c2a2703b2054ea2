//! Other firewalls of the host, which come, go and begin anew while containers talk.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use system_tests::Ring::System;
use system_tests::network::{in_network, make_outside};
use system_tests::{Client, Options, ROOT, in_lab, run, started};
use zbus::{OwnedObjectPath, Variant};

const HOST: &str = "203.0.113.1";
const OUTSIDE: &str = "203.0.113.2";

fn namespace(path: &OwnedObjectPath) -> String {
    format!("tare-{}", &path.rsplit('/').next().unwrap()[..12])
}

/// Tries until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn remove_outside() {
    run("ip", &["netns", "del", "outside"]);
    until("a veth pair goes after its namespace", || !run("ip", &["-o", "link"]).contains("out0"));
}

fn connect(from: &str, to: &str, port: u16) -> std::io::Result<TcpStream> {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    in_network(from, || TcpStream::connect_timeout(&to, Duration::from_secs(2)))
}

/// A connection through which something goes to and fro until it is stopped.
struct Transfer {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    ends: Vec<thread::JoinHandle<()>>,
}

impl Transfer {
    fn over(mut client: TcpStream, mut server: TcpStream) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        let (stopped, counted) = (stop.clone(), count.clone());
        let asks = thread::spawn(move || {
            let mut block = [7; 4096];
            while !stopped.load(Ordering::Relaxed) {
                client.write_all(&block).unwrap();
                client.read_exact(&mut block).unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let answers = thread::spawn(move || {
            let mut block = [0; 4096];
            while server.read_exact(&mut block).is_ok() {
                server.write_all(&block).unwrap();
            }
        });
        Self { stop, count, ends: vec![asks, answers] }
    }

    /// It goes on.
    fn goes_on(&self, after: &str) {
        let before = self.count.load(Ordering::Relaxed);
        until(after, || self.count.load(Ordering::Relaxed) > before + 20);
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ends.into_iter().for_each(|end| end.join().expect("nothing was lost"));
    }
}

async fn taints(client: &Client) -> Vec<String> {
    let taints: Variant<'static> = client.properties(ROOT, "Manager").await.get("Tainted");
    taints.try_into().unwrap()
}

async fn is_blocked(client: &Client) -> bool {
    taints(client).await.contains(&"firewall-blocks".to_owned())
}

/// Nothing has to start for that.
async fn becomes_blocked(client: &Client, want: bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while is_blocked(client).await != want {
        assert!(Instant::now() < end, "it does not become {want}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// As a firewall of somebody else does it.
fn drop_forwarded() {
    run("nft", &["add table ip others"]);
    run("nft", &["add chain ip others f { type filter hook forward priority 0; policy drop; }"]);
}

async fn serving(client: &Client) -> (OwnedObjectPath, TcpListener) {
    let port = std::collections::HashMap::from([
        ("HostPort", Variant::from(8080_u16)),
        ("ContainerPort", Variant::from(80_u16)),
    ]);
    let command = ("Command", vec!["sleep", "1000"].into());
    let options = Options::from([command, ("PublishedPorts", vec![port].into())]);
    let web = client.create_with("web", options).await.unwrap();
    client.start(&web).await.done();
    let listener = in_network(&namespace(&web), || TcpListener::bind("0.0.0.0:80").unwrap());
    (web, listener)
}

#[test]
fn lab_other_firewalls_begin_anew_while_containers_talk() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        make_outside();
        let (web, listener) = serving(&client).await;
        let far = in_network("outside", || TcpListener::bind((OUTSIDE, 80)).unwrap());
        let come_in = || {
            let caller = connect("outside", HOST, 8080)?;
            let (server, peer) = listener.accept()?;
            assert_eq!(peer.ip(), OUTSIDE.parse::<IpAddr>().unwrap(), "it sees who calls");
            Ok::<_, std::io::Error>((caller, server))
        };
        let goes_out = || connect(&namespace(&web), OUTSIDE, 80).is_ok() && far.accept().is_ok();
        let (caller, server) = come_in().unwrap();
        let transfer = Transfer::over(caller, server);
        transfer.goes_on("before anything happens");

        let before = run("nft", &["list", "table", "inet", "tare"]);
        run("nft", &["flush", "ruleset"]);
        transfer.goes_on("a flush of the ruleset");
        run("systemctl", &["restart", "nftables.service"]);
        transfer.goes_on("a restart of nftables.service");
        assert_eq!(run("nft", &["list", "table", "inet", "tare"]), before, "nothing has changed");

        let zone = || {
            let zone = std::process::Command::new("firewall-cmd")
                .arg("--get-zone-of-interface=tare0")
                .output()
                .unwrap();
            String::from_utf8_lossy(&zone.stdout).trim().to_owned()
        };
        for what in [&["start"][..], &["restart"], &["reload"]] {
            run("systemctl", &[what, &["firewalld.service"]].concat());
            transfer.goes_on(&format!("{what:?} of firewalld"));
            until("the bridge is in the zone that lets it through", || zone() == "trusted");
            until("a container gets out", goes_out);
            come_in().unwrap();
        }
        assert!(run("nft", &["list", "ruleset"]).contains("table inet firewalld"));
        assert!(!is_blocked(&client).await);
        // A daemon that is started anew finds it as it is.
        run("systemctl", &["restart", "tared.service"]);
        transfer.goes_on("a restart of the service");
        client.list("ListContainers").await;
        assert!(goes_out());
        run("systemctl", &["stop", "firewalld.service"]);
        transfer.goes_on("the end of firewalld");
        transfer.end();
        drop((listener, far));
        client.remove(&web).await.done();
        run("systemctl", &["stop", "nftables.service"]);
        remove_outside();
    });
}

#[test]
fn lab_rules_of_others_that_drop_what_is_forwarded_are_said() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        becomes_blocked(&client, false).await;
        drop_forwarded();
        becomes_blocked(&client, true).await;
        run("nft", &["delete table ip others"]);
        becomes_blocked(&client, false).await;
    });
}

/// Nobody tells of changes there: it is looked at when something starts.
#[test]
fn lab_the_old_iptables_is_seen_by_what_the_unit_grants_and_hides_nothing() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let starts_until = async |want: bool, about: &str| {
            let end = Instant::now() + Duration::from_secs(20);
            while is_blocked(&client).await != want {
                assert!(Instant::now() < end, "{about}: it does not become {want}");
                let path = started(&client, "c", "true").await;
                client.remove(&path).await.done();
            }
        };
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            run(program, &["-P", "FORWARD", "DROP"]);
            starts_until(true, program).await;
            run(program, &["-P", "FORWARD", "ACCEPT"]);
            starts_until(false, program).await;
        }
        drop_forwarded();
        becomes_blocked(&client, true).await;
        run("nft", &["delete table ip others"]);
        becomes_blocked(&client, false).await;
        std::fs::remove_file("/run/xtables.lock").unwrap();
    });
}
