//! Names of containers, as containers resolve them.

use std::collections::HashMap;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use system_tests::network::{in_network, make_outside};
use system_tests::{
    Asking, Client, Options, RESOLV_CONF, ROOT, Resolver, Setup, Tared, bin, on_scratch_host, run,
};
use zbus::{OwnedObjectPath, Variant};

use super::networks::namespace_of;
use super::started;

pub(crate) type Row = HashMap<String, Variant<'static>>;

/// A place on a network.
pub(crate) fn on(network: &'static str, aliases: &[&'static str]) -> Row {
    HashMap::from([
        ("Network".to_owned(), Variant::from(network)),
        ("Aliases".to_owned(), Variant::from(aliases.to_vec())),
    ])
}

pub(crate) async fn running(client: &Client, name: &str, networks: Vec<Row>) -> OwnedObjectPath {
    let command = ("Command", vec!["sleep", "1000"].into());
    let options = Options::from([command, ("Networks", networks.into())]);
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

pub(crate) async fn network(client: &Client, name: &str, options: Options<'_>) -> OwnedObjectPath {
    client.manager("CreateNetwork", &(name, options)).await.unwrap()
}

/// Addresses of a container on one of its networks, without their prefixes.
pub(crate) async fn addresses(
    client: &Client,
    path: &OwnedObjectPath,
    interface: &str,
) -> Vec<String> {
    let rows: Variant<'static> = client.container(path).await.get("IPAddresses");
    let rows: Vec<Row> = rows.try_into().unwrap();
    let text = |row: &Row, key: &str| String::try_from(row[key].try_clone().unwrap()).unwrap();
    let here = rows.iter().filter(|row| text(row, "Interface") == interface);
    here.map(|row| text(row, "Address").split_once('/').unwrap().0.to_owned()).collect()
}

/// What `nslookup` says, below its line about the server: addresses or names, else what failed.
pub(crate) async fn lookup(client: &Client, from: &OwnedObjectPath, question: &str) -> Vec<String> {
    let said = client.exec(from, &format!("nslookup {question} 2>&1")).await.stdout;
    let answers = said.lines().skip(2).filter_map(|line| {
        let failed = line.strip_prefix("** server can't find ").map(|f| f.rsplit(' ').next());
        let address = line.strip_prefix("Address: ").map(Some);
        let name = line.split_once("name = ").map(|(_, name)| Some(name));
        failed.or(address).or(name).flatten().map(str::to_owned)
    });
    let mut answers: Vec<_> = answers.collect();
    answers.sort();
    answers.dedup();
    if answers.is_empty() { vec![said] } else { answers }
}

/// The first 12 digits of its id.
fn short(path: &OwnedObjectPath) -> &str {
    &path.rsplit('/').next().unwrap()[..12]
}

#[test]
fn privileged_containers_find_each_other_by_their_names() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let net = network(&client, "net", Options::from([("IPv6", true.into())])).await;
        network(&client, "far", Options::new()).await;
        assert!(client.properties(&net, "Network").await.get::<bool>("DNS"));
        let db = running(&client, "db", vec![on("net", &["sql", "db.example"])]).await;
        let web = running(&client, "Web", vec![on("net", &[])]).await;
        let both = running(&client, "both", vec![on("far", &[]), on("net", &[])]).await;
        let far = running(&client, "far", vec![on("far", &[])]).await;

        let of_db = addresses(&client, &db, "eth0").await;
        let (v4, v6) = (&of_db[..1], &of_db[1..]);
        assert_eq!(of_db.len(), 2, "{of_db:?}");
        let id = format!("{}.", short(&db));
        for (name, from_afar) in [
            ("db.", "NXDOMAIN"),
            ("sql.", "NXDOMAIN"),
            ("db.tare.internal.", "NXDOMAIN"),
            (&id, "NXDOMAIN"),
            // It may be anybody's, and the host's resolver is not there.
            ("db.example.", "SERVFAIL"),
        ] {
            let a = lookup(&client, &web, &format!("-type=a {name}")).await;
            assert_eq!(a, v4, "{name}");
            let aaaa = lookup(&client, &web, &format!("-type=aaaa {name}")).await;
            assert_eq!(aaaa, v6, "{name}");
            assert_eq!(lookup(&client, &both, &format!("-type=a {name}")).await, v4, "{name}");
            assert_eq!(lookup(&client, &far, name).await, [from_afar], "{name}");
        }
        assert_eq!(lookup(&client, &web, "-type=a db").await[0], v4[0], "by its resolv.conf");
        for address in &of_db {
            assert_eq!(lookup(&client, &web, address).await, ["db"], "{address}");
            assert_eq!(lookup(&client, &far, address).await, ["NXDOMAIN"], "{address} from afar");
        }
        let of_far = addresses(&client, &far, "eth0").await;
        assert_eq!(lookup(&client, &both, "-type=a far.").await, of_far);
        assert_eq!(lookup(&client, &web, "far.").await, ["NXDOMAIN"]);
        // Who is not on a network cannot ask there either, though the host has the address.
        let server = lookup_server(&client, &web).await;
        let asked = client.exec(&far, &format!("timeout 3 nslookup db. {server} 2>&1")).await;
        assert!(!asked.stdout.contains(&v4[0]), "{asked:?}");

        client.stop(&db).await.done();
        assert_eq!(lookup(&client, &web, "db.").await, ["NXDOMAIN"], "it does not run");
        assert_eq!(lookup(&client, &web, &v4[0]).await, ["NXDOMAIN"]);
        client.start(&db).await.done();
        let of_db = addresses(&client, &db, "eth0").await;
        assert_eq!(lookup(&client, &web, "db.").await.len(), 2);
        client.call(&db, "Container", "Rename", &("store", 0_u64)).await.unwrap();
        assert_eq!(lookup(&client, &web, "db.").await, ["NXDOMAIN"]);
        assert_eq!(lookup(&client, &web, "-type=a store.").await, of_db[..1]);
        for path in [db, web, both, far] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

/// What whoever is at a name says, in a container that finds it out by itself. Not every busybox
/// resolves names where it connects: some of Debian crash there.
async fn said_by(client: &Client, from: &OwnedObjectPath, name: &str) -> String {
    let found = format!("nslookup -type=aaaa {name} | sed -n '1,2d; s/^Address: //p'");
    client.exec(from, &format!("nc -w 5 $({found}) 80")).await.stdout
}

/// By IPv6, where there is nothing else: the question goes that way, and so does what follows from it.
#[test]
fn privileged_containers_reach_each_other_by_their_names_over_ipv6() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let subnet = Row::from([("Subnet".to_owned(), Variant::from("fd00:99::/64"))]);
        network(&client, "six", Options::from([("Subnets", vec![subnet].into())])).await;
        let serve = "while :; do echo hello | nc -l -p 80; done";
        let options = Options::from([
            ("Command", vec!["sh", "-c", serve].into()),
            ("Networks", vec![on("six", &["pages"])].into()),
        ]);
        let web = client.create_with("web", options).await.unwrap();
        client.start(&web).await.done();
        let caller = running(&client, "caller", vec![on("six", &[])]).await;
        assert_eq!(addresses(&client, &web, "eth0").await, ["fd00:99::2"]);
        assert_eq!(lookup_server(&client, &caller).await, "fd00:99::1", "it is asked there");
        for name in ["web", "pages", "web.tare.internal.", short(&web)] {
            assert_eq!(said_by(&client, &caller, name).await, "hello\n", "{name}");
        }
        client.stop(&web).await.done();
        assert_eq!(lookup(&client, &caller, "web.").await, ["NXDOMAIN"], "it does not run");
        for path in [web, caller] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

/// The server that a container asks.
async fn lookup_server(client: &Client, path: &OwnedObjectPath) -> String {
    let file = client.exec(path, "grep nameserver /etc/resolv.conf").await.stdout;
    file.trim().strip_prefix("nameserver ").unwrap().to_owned()
}

#[test]
fn privileged_names_come_and_go_with_connections_and_survive_the_daemon() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let net = network(&client, "net", Options::new()).await;
        let web = running(&client, "web", vec![on("net", &[])]).await;
        let db = started(&client, "db", "sleep 1000").await;
        assert_eq!(lookup(&client, &web, "db.").await, ["NXDOMAIN"], "it is elsewhere");
        let alias = || Options::from([("Aliases", vec!["sql"].into())]);
        let connect = async |path: &OwnedObjectPath| {
            client.call(path, "Container", "ConnectNetwork", &(&net, alias())).await
        };
        connect(&db).await.unwrap();
        let of_db = addresses(&client, &db, "eth1").await;
        assert_eq!(lookup(&client, &web, "sql.").await, of_db);
        assert_eq!(lookup(&client, &web, "db.").await, of_db);
        assert_eq!(lookup(&client, &db, "web.").await, addresses(&client, &web, "eth0").await);
        // An alias is one container's.
        let third = client.create("third", "sleep 1000").await;
        let refused = connect(&third).await.unwrap_err();
        assert_eq!(refused.short(), "NameInUse");
        assert!(refused.message.contains("'db'"), "{refused:?}");

        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(lookup(&client, &web, "sql.").await, of_db, "it is answered again");
        let disconnect = (&net, 0_u64);
        client.call(&db, "Container", "DisconnectNetwork", &disconnect).await.unwrap();
        assert_eq!(lookup(&client, &web, "sql.").await, ["NXDOMAIN"]);
        for path in [web, db, third] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

/// A namespace beside the host with the host's resolver in it.
fn make_resolver() -> Resolver {
    make_outside();
    fs::write("/etc/resolv.conf", "nameserver 203.0.113.2\n").unwrap();
    Resolver::on(in_network("outside", || UdpSocket::bind("203.0.113.2:53").unwrap()))
}

fn remove_resolver() {
    run("ip", &["link", "del", "out0"]);
    run("ip", &["netns", "del", "outside"]);
    // `ip` made it a mount before the daemon was there, so it is not the daemon's to undo.
    unmount("/run/netns", UnmountFlags::empty()).unwrap();
    fs::write("/etc/resolv.conf", RESOLV_CONF).unwrap();
}

#[test]
fn privileged_other_names_are_asked_of_the_hosts_resolvers() {
    on_scratch_host(async |host| {
        let resolver = make_resolver();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "inside", Options::from([("Internal", true.into())])).await;
        network(&client, "apart", Options::from([("Isolate", true.into())])).await;
        network(&client, "mute", Options::from([("DNS", false.into())])).await;
        let open = running(&client, "open", vec![on("tare", &[])]).await;
        let apart = running(&client, "apart", vec![on("apart", &[])]).await;
        let inside = running(&client, "inside", vec![on("inside", &[])]).await;
        let mute = running(&client, "mute", vec![on("mute", &[])]).await;
        for path in [&open, &apart] {
            let found = lookup(&client, path, "-type=a www.example.org").await;
            assert_eq!(found, ["198.51.100.7"]);
        }
        assert_eq!(lookup(&client, &inside, "-type=a www.example.org").await, ["REFUSED"]);
        let own = addresses(&client, &inside, "eth0").await;
        assert_eq!(lookup(&client, &inside, "-type=a inside.").await, own, "but it is answered");
        for name in ["inside.", "nobody.", "nobody.tare.internal."] {
            assert_eq!(lookup(&client, &open, name).await, ["NXDOMAIN"], "{name}");
        }
        let file = client.exec(&mute, "cat /etc/resolv.conf").await.stdout;
        assert_eq!(file, "nameserver 203.0.113.2\n", "a network without names");
        let asked = resolver.asked();
        assert_eq!(asked, ["www.example.org"; 2], "and nothing else is told to anybody");
        for path in [open, apart, inside, mute] {
            client.remove(&path).await.done();
        }
        tared.stop();
        remove_resolver();
    });
}

#[test]
fn privileged_where_another_program_answers_there_are_no_names() {
    on_scratch_host(async |host| {
        let other = UdpSocket::bind("0.0.0.0:53").unwrap();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let tainted =
            async || client.properties(ROOT, "Manager").await.get::<Vec<String>>("Tainted");
        let answered = async || {
            let default = client.properties(ROOT, "Manager").await;
            let default: OwnedObjectPath = default.get("DefaultNetwork");
            client.properties(&default, "Network").await.get::<bool>("DNS")
        };
        assert!(answered().await, "nobody knows yet");
        let web = started(&client, "web", "sleep 1000").await;
        let file = client.exec(&web, "cat /etc/resolv.conf").await.stdout;
        assert_eq!(file, RESOLV_CONF);
        assert!(tainted().await.contains(&"dns-busy".to_owned()));
        assert!(!answered().await);
        drop(other);
        client.stop(&web).await.done();
        client.start(&web).await.done();
        assert_eq!(lookup(&client, &web, "web.").await, addresses(&client, &web, "eth0").await);
        assert!(!tainted().await.contains(&"dns-busy".to_owned()));
        assert!(answered().await);
        client.remove(&web).await.done();
        tared.stop();
    });
}

/// A daemon that takes over a network answers on it before any container starts.
#[test]
fn privileged_names_are_answered_again_where_nothing_runs() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "web", "sleep 1000").await;
        client.remove(&path).await.done();
        drop(client);
        let listens = || run("ss", &["-lun"]).contains(":53 ");
        assert!(listens());
        tared.kill9();
        assert!(!listens());
        let mut tared = tared.restart();
        assert!(listens());
        tared.stop();
    });
}

/// A `tare-names`, ended with the test.
struct TareNames(Child);

impl TareNames {
    fn start(socket: &Path) -> Self {
        let child = Command::new(bin("tare-names")).arg("--socket").arg(socket).spawn().unwrap();
        while !socket.exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
        Self(child)
    }

    /// As systemd does. Killed in the middle of an answer, it would not give that.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for TareNames {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn privileged_with_tare_names_no_answer_is_lost_whoever_is_restarted() {
    on_scratch_host(async |host| {
        let (socket, config) = (host.path("names.sock"), host.path("tared.toml"));
        fs::write(&config, format!("[network]\nnames = {:?}\n", socket.to_str().unwrap())).unwrap();
        let mut names = TareNames::start(&socket);
        let mut tared = Tared::with(Setup { config: Some(config), ..Setup::private(host) });
        let client = tared.client().await;
        client.import_busybox().await;
        let net = network(&client, "net", Options::new()).await;
        let db = running(&client, "db", vec![on("net", &["sql"])]).await;
        let web = running(&client, "web", vec![on("net", &[])]).await;
        let of_db = addresses(&client, &db, "eth0").await;
        let bytes = of_db[0].parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec();
        let server = lookup_server(&client, &web).await;
        let asking = Asking::from(&namespace_of(&web), &server, "sql");
        drop(client);
        for _ in 0..3 {
            tared.kill9();
            std::thread::sleep(Duration::from_millis(100));
            tared = tared.restart();
            names.stop();
            names = TareNames::start(&socket);
            // With both away, what was asked is lost.
            let has_sockets = format!("pid={},", names.0.id());
            while !run("ss", &["-lunp"]).contains(&has_sockets) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let client = tared.client().await;
        let late = running(&client, "late", vec![on("net", &[])]).await;
        assert_eq!(lookup(&client, &web, "late.").await, addresses(&client, &late, "eth0").await);
        let answers = asking.stop();
        let lost: Vec<_> =
            answers.iter().enumerate().filter(|(_, it)| it.as_ref() != Some(&bytes)).collect();
        assert!(answers.len() > 100 && lost.is_empty(), "of {}: {lost:?}", answers.len());

        client.stop(&db).await.done();
        assert_eq!(lookup(&client, &web, "db.").await, ["NXDOMAIN"], "it does not run");
        for path in [db, web, late] {
            client.remove(&path).await.done();
        }
        assert!(run("ss", &["-lunp"]).contains("tare-names"));
        client.call(&net, "Network", "Remove", &0_u64).await.unwrap();
        while run("ss", &["-lunp"]).contains("tare-names") {
            std::thread::sleep(Duration::from_millis(5));
        }
        tared.stop();
        names.stop();
    });
}
