//! Networks as objects, and containers on several of them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use system_tests::network::{self, in_network, netfilter_settings};
use system_tests::{Client, Options, Refused, Setup, Tared, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

use super::{started, traffic};

pub(super) type Row = HashMap<String, Variant<'static>>;

pub(super) async fn network(
    client: &Client,
    name: &str,
    options: Options<'_>,
) -> Result<OwnedObjectPath, Refused> {
    client.manager("CreateNetwork", &(name, options)).await
}

pub(super) fn row<'a>(pairs: impl IntoIterator<Item = (&'a str, Variant<'static>)>) -> Row {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Options of a container that runs a script, on these networks.
pub(super) fn on(script: &str, networks: Vec<Row>) -> Options<'_> {
    Options::from([
        ("Command", vec!["sh", "-c", script].into()),
        ("Networks", Variant::from(networks)),
    ])
}

async fn started_with(client: &Client, name: &str, options: Options<'_>) -> OwnedObjectPath {
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

/// Address without its prefix, by interface.
async fn addresses(client: &Client, path: &OwnedObjectPath) -> Vec<(String, String)> {
    let rows: Vec<Row> = rows(client, path, "IPAddresses").await;
    let text = |row: &Row, key: &str| String::try_from(row[key].try_clone().unwrap()).unwrap();
    let of = |row: &Row| {
        let address = text(row, "Address");
        (text(row, "Interface"), address.split_once('/').unwrap().0.to_owned())
    };
    rows.iter().map(of).collect()
}

async fn rows(client: &Client, path: &OwnedObjectPath, property: &str) -> Vec<Row> {
    let value: Variant<'static> = client.container(path).await.get(property);
    value.try_into().unwrap()
}

async fn on_container<B>(
    client: &Client,
    path: &OwnedObjectPath,
    method: &str,
    body: &B,
) -> Result<(), Refused>
where
    B: serde::Serialize + zbus::DynamicType,
{
    client.call(path, "Container", method, body).await.map(drop)
}

/// What a server at this address says, as soon as it is there.
fn said_by(address: &str, port: u16) -> String {
    until(|| {
        let mut stream = connect(address, port)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    })
}

pub(crate) fn connect(address: &str, port: u16) -> Option<TcpStream> {
    let to = (address.parse::<IpAddr>().unwrap(), port).into();
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    Some(stream)
}

/// Tries until something comes of it.
fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match attempt() {
            Some(done) => return done,
            None if Instant::now() > end => panic!("nothing came of it"),
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Says `word` to everybody who connects.
fn server(word: &str) -> String {
    format!("while :; do echo {word} | nc -l -p 80; done")
}

/// The network namespace of a container.
pub(crate) fn namespace_of(path: &OwnedObjectPath) -> String {
    let id = path.rsplit('/').next().unwrap();
    let names = std::fs::read_dir("/run/netns").unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find(|name| name.ends_with(&id[..12])).expect("it has one")
}

/// A namespace beside the host, at 203.0.113.2, whose way to everything is the host.
fn make_outside() {
    network::make_outside();
    run("ip", &["-n", "outside", "route", "add", "default", "via", "203.0.113.1"]);
}

fn remove_outside() {
    run("ip", &["netns", "del", "outside"]);
    until(|| (!run("ip", &["-o", "link"]).contains("out0")).then_some(()));
    // `ip` made it a mount before the daemon was there, so it is not the daemon's to undo.
    rustix::mount::unmount("/run/netns", rustix::mount::UnmountFlags::empty()).unwrap();
}

#[test]
fn privileged_networks_come_are_used_and_go() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let options = Options::from([("IPv6", true.into()), ("MTU", 1400_u32.into())]);
        let web = network(&client, "my-web", options).await.unwrap();
        assert_eq!(web.as_str(), "/org/tare/Containers1/network/my_2dweb");
        assert_eq!(
            client.manager::<_, OwnedObjectPath>("GetNetwork", &"my-web").await,
            Ok(web.clone())
        );
        let default: OwnedObjectPath =
            client.properties(system_tests::ROOT, "Manager").await.get("DefaultNetwork");
        assert_eq!(default.as_str(), "/org/tare/Containers1/network/tare");
        let seen = client.properties(&web, "Network").await;
        assert_eq!(
            (seen.text("Driver"), seen.text("InterfaceName")),
            ("bridge".into(), String::new())
        );

        let both = vec![
            row([("Network", Variant::from("tare"))]),
            row([("Network", Variant::from(zbus::ObjectPath::from(web.clone())))]),
        ];
        let server = started_with(&client, "server", on(&server("hello"), both)).await;
        let alone = vec![row([("Network", Variant::from("my-web"))])];
        let caller = started_with(&client, "caller", on("sleep 1000", alone)).await;
        assert_eq!(client.container(&server).await.paths("Networks"), [default, web.clone()]);
        let seen = client.properties(&web, "Network").await;
        assert!(seen.text("InterfaceName").starts_with("tare1"), "{seen:?}");
        assert_eq!(seen.paths("Containers").len(), 2);

        let known = addresses(&client, &server).await;
        let interfaces: Vec<_> = known.iter().map(|(interface, _)| interface.as_str()).collect();
        assert_eq!(interfaces, ["eth0", "eth1", "eth1"]);
        for (_, address) in known.iter().filter(|(interface, _)| interface == "eth1") {
            let heard = client.exec(&caller, &format!("nc -w 5 {address} 80")).await;
            assert_eq!(heard.stdout, "hello\n", "{address}: {heard:?}");
        }
        let mtu = client.exec(&caller, "cat /sys/class/net/eth0/mtu").await;
        assert_eq!(mtu.stdout, "1400\n");

        let in_use = client.call(&web, "Network", "Remove", &0_u64).await.unwrap_err();
        assert_eq!(in_use.short(), "NetworkInUse");
        assert!(
            in_use.message.contains("server") && in_use.message.contains("caller"),
            "{in_use:?}"
        );
        client.call(&web, "Network", "Remove", &1_u64).await.unwrap();
        assert_eq!(addresses(&client, &server).await.len(), 1);
        assert_eq!(addresses(&client, &caller).await, []);
        let left = client.exec(&caller, "ls /sys/class/net").await;
        assert_eq!(left.stdout, "lo\n");
        assert!(!run("ip", &["-o", "link"]).contains("tare1"), "its bridge is gone");
        for path in [server, caller] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_network_may_have_several_subnets_of_a_family_and_gateways_that_are_not_the_first() {
    on_scratch_host(async |host| {
        make_outside();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let subnets = vec![
            row([("Subnet", "10.99.0.0/24".into()), ("Gateway", "10.99.0.254".into())]),
            row([("Subnet", "10.98.0.0/24".into())]),
            row([("Subnet", "fd00:99::/64".into()), ("Gateway", "fd00:99::ff".into())]),
        ];
        network(&client, "web", Options::from([("Subnets", subnets.into())])).await.unwrap();
        let on_web = || vec![row([("Network", "web".into())])];
        let server = started_with(&client, "server", on(&server("hello"), on_web())).await;
        let caller = started_with(&client, "caller", on("sleep 1000", on_web())).await;
        let known = addresses(&client, &server).await;
        let begin = ["10.99.0.", "10.98.0.", "fd00:99::"];
        assert_eq!(known.len(), begin.len(), "{known:?}");
        for ((interface, address), begin) in known.iter().zip(begin) {
            assert!(interface == "eth0" && address.starts_with(begin), "{known:?}");
        }
        let addresses = known.iter().map(|(_, address)| address.as_str());
        for to in addresses.chain(["server"]) {
            let heard = client.exec(&caller, &format!("nc -w 5 {to} 80")).await;
            assert_eq!(heard.stdout, "hello\n", "{to}: {heard:?}");
        }
        let routes = "ip route show default; ip -6 route show default";
        let routes = client.exec(&caller, routes).await.stdout;
        for via in ["default via 10.99.0.254 ", "default via fd00:99::ff "] {
            assert!(routes.contains(via), "{routes}");
        }
        let outside = in_network("outside", || TcpListener::bind("203.0.113.2:80").unwrap());
        let greeted = std::thread::spawn(move || {
            outside.accept().unwrap().0.write_all(b"outside\n").unwrap();
        });
        let heard = client.exec(&caller, "nc -w 5 203.0.113.2 80").await;
        assert_eq!(heard.stdout, "outside\n", "{heard:?}");
        greeted.join().unwrap();
        for path in [server, caller] {
            client.remove(&path).await.done();
        }
        tared.stop();
        remove_outside();
    });
}

pub(super) fn port(host: u16, protocol: &'static str) -> Row {
    row([
        ("HostPort", host.into()),
        ("ContainerPort", 80_u16.into()),
        ("Protocol", protocol.into()),
    ])
}

/// On the default network.
pub(super) fn with_ports(script: &str, ports: Vec<Row>) -> Options<'_> {
    let mut options = on(script, vec![row([("Network", "tare".into())])]);
    options.insert("PublishedPorts", ports.into());
    options
}

/// As whom a server sees whoever connects to it so.
fn calls(server: &TcpListener, connect: impl FnOnce() -> Option<TcpStream>) -> IpAddr {
    let _stream = connect().expect("it leads there");
    server.accept().unwrap().1.ip()
}

/// Somebody who may write to it.
fn writer() -> UdpSocket {
    UdpSocket::bind("0.0.0.0:0").unwrap()
}

/// As whom it sees one who writes to it and is answered.
fn writes(server: &UdpSocket, caller: &UdpSocket, to: &str) -> IpAddr {
    for socket in [server, caller] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    caller.send_to(b"hi", to).unwrap();
    let mut heard = [0; 16];
    let (_, peer) = server.recv_from(&mut heard).unwrap();
    server.send_to(b"hello", peer).unwrap();
    let (n, from) = caller.recv_from(&mut heard).unwrap();
    assert_eq!((&heard[..n], from.to_string().as_str()), (&b"hello"[..], to), "who was asked");
    peer.ip()
}

#[test]
fn privileged_a_published_port_is_reached_from_everywhere() {
    on_scratch_host(async |host| {
        make_outside();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let ports = vec![port(8080, "tcp"), port(8080, "udp")];
        let web = started_with(&client, "web", with_ports("sleep 1000", ports)).await;
        let sibling = started_with(&client, "sibling", with_ports("sleep 1000", vec![])).await;
        let (inside, beside) = (namespace_of(&web), namespace_of(&sibling));
        let tcp = in_network(&inside, || TcpListener::bind("0.0.0.0:80").unwrap());
        let udp = in_network(&inside, || UdpSocket::bind("0.0.0.0:80").unwrap());
        let outside: IpAddr = [203, 0, 113, 2].into();
        // By a container of its network, and by itself, through the host and back.
        let around = ["outside", &beside, &inside];
        for setting in netfilter_settings() {
            setting.apply();
            for from in around {
                let seen = calls(&tcp, || in_network(from, || connect("203.0.113.1", 8080)));
                assert_eq!(seen == outside, from == "outside", "{setting:?}, from {from}");
                let seen = writes(&udp, &in_network(from, writer), "203.0.113.1:8080");
                assert_eq!(seen == outside, from == "outside", "{setting:?}, from {from}");
            }
            for to in ["203.0.113.1", "127.0.0.1"] {
                let seen = calls(&tcp, || connect(to, 8080));
                assert!(seen != outside && !seen.is_loopback(), "{setting:?}, to {to}: {seen}");
                let seen = writes(&udp, &writer(), &format!("{to}:8080"));
                assert!(seen != outside && !seen.is_loopback(), "{setting:?}, to {to}: {seen}");
            }
        }
        // A namespace stays as long as there is a socket in it.
        drop((tcp, udp));
        client.remove(&sibling).await.done();
        client.remove(&web).await.done();
        assert!(in_network("outside", || connect("203.0.113.1", 8080)).is_none());
        tared.stop();
        remove_outside();
    });
}

#[test]
fn privileged_ports_are_published_and_withdrawn_while_a_container_runs() {
    on_scratch_host(async |host| {
        make_outside();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let reached = |port| in_network("outside", || said_by("203.0.113.1", port));
        let script = server("hello");
        let options = with_ports(&script, vec![port(8080, "tcp")]);
        let web = started_with(&client, "web", options).await;
        assert_eq!(reached(8080), "hello\n");
        // The same port is another container's, and says so.
        let second = with_ports("sleep 1000", vec![port(8080, "tcp")]);
        let second = client.create_with("second", second).await.unwrap();
        let ended = client.start(&second).await;
        assert_eq!(ended.error_name, "org.tare.Containers1.Error.PortInUse");
        assert!(ended.error_message.contains("'web'"), "{ended:?}");

        let more = vec![port(0, "tcp")];
        let reply = client.call(&web, "Container", "PublishPorts", &(more, 0_u64)).await.unwrap();
        let published: Vec<HashMap<String, zbus::OwnedVariant>> =
            reply.body().deserialize().unwrap();
        let free = u16::try_from(published[0]["HostPort"].try_clone().unwrap()).unwrap();
        assert_ne!(free, 0);
        assert_eq!(reached(free), "hello\n");

        drop((reply, client));
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(rows(&client, &web, "PublishedPorts").await.len(), 2);
        assert!(TcpListener::bind(("0.0.0.0", free)).is_err(), "it is held again");
        assert_eq!(reached(free), "hello\n");
        let gone = vec![port(8080, "tcp")];
        on_container(&client, &web, "UnpublishPorts", &(gone.clone(), 0_u64)).await.unwrap();
        assert!(in_network("outside", || connect("203.0.113.1", 8080)).is_none());
        let refused = on_container(&client, &web, "UnpublishPorts", &(gone, 0_u64)).await;
        assert_eq!(refused.unwrap_err().short(), "InvalidState");
        assert_eq!(rows(&client, &web, "PublishedPorts").await.len(), 1);
        client.start(&second).await.done();
        for path in [web, second] {
            client.remove(&path).await.done();
        }
        tared.stop();
        remove_outside();
    });
}

#[test]
fn privileged_networks_keep_apart_what_is_to_be_kept_apart() {
    on_scratch_host(async |host| {
        traffic::make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        for (name, more) in
            [("open", None), ("apart", Some("Isolate")), ("inside", Some("Internal"))]
        {
            let options = [Some("IPv6"), more].into_iter().flatten();
            let options = options.map(|option| (option, true.into())).collect();
            network(&client, name, options).await.unwrap();
        }
        let script = server("hello");
        let on_one = |name: &'static str| on(&script, vec![row([("Network", name.into())])]);
        let open = started_with(&client, "open", on_one("open")).await;
        let apart = started_with(&client, "apart", on_one("apart")).await;
        let inside = started_with(&client, "inside", on_one("inside")).await;
        let neighbour = started_with(&client, "neighbour", on_one("inside")).await;
        let reach = async |from: &OwnedObjectPath, to: &str| {
            let heard = client.exec(from, &format!("nc -w 2 {to} 80")).await;
            heard.stdout == "hello\n"
        };
        for (family, outside) in ["203.0.113.2", "2001:db8:f::2"].into_iter().enumerate() {
            let address = async |path| addresses(&client, path).await[family].1.clone();
            let (at_open, at_apart) = (address(&open).await, address(&apart).await);
            let (at_inside, at_neighbour) = (address(&inside).await, address(&neighbour).await);
            assert!(!reach(&open, &at_apart).await, "into an isolated one: {at_apart}");
            assert!(!reach(&apart, &at_open).await, "out of an isolated one: {at_open}");
            assert!(!reach(&inside, &at_open).await, "out of an internal one: {at_open}");
            assert!(!reach(&open, &at_inside).await, "into an internal one: {at_inside}");
            assert!(reach(&inside, &at_neighbour).await, "within an internal one");
            let to: IpAddr = outside.parse().unwrap();
            let listener = in_network("outside", || TcpListener::bind((to, 80)).unwrap());
            let served = std::thread::spawn(move || {
                for stream in listener.incoming().take(2) {
                    stream.unwrap().write_all(b"hello\n").unwrap();
                }
            });
            for (from, reaches) in [(&open, true), (&apart, true), (&inside, false)] {
                assert_eq!(reach(from, outside).await, reaches, "{from} to {to}");
            }
            served.join().unwrap();
        }
        for path in [open, apart, inside, neighbour] {
            client.remove(&path).await.done();
        }
        tared.stop();
        remove_outside();
    });
}

#[test]
fn privileged_a_running_container_is_connected_and_disconnected() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let subnets = vec![row([("Subnet", "10.99.0.0/24".into())])];
        let web =
            network(&client, "web", Options::from([("Subnets", subnets.into())])).await.unwrap();
        let first = started(&client, "first", "sleep 1000").await;
        let second = started(&client, "second", &server("hello")).await;
        let fixed = Options::from([
            ("Addresses", vec!["10.99.0.9"].into()),
            ("MAC", "02:00:00:00:00:99".into()),
            ("Interface", "web0".into()),
        ]);
        let connect = async |path, options: Options<'_>| {
            on_container(&client, path, "ConnectNetwork", &(&web, options)).await
        };
        connect(&second, fixed.clone()).await.unwrap();
        connect(&first, Options::new()).await.unwrap();
        let again = connect(&first, Options::new()).await.unwrap_err();
        assert_eq!(again.short(), "InvalidState");
        let of_second = addresses(&client, &second).await;
        assert_eq!(of_second[1], ("web0".into(), "10.99.0.9".into()));
        let mac = client.exec(&second, "cat /sys/class/net/web0/address").await;
        assert_eq!(mac.stdout, "02:00:00:00:00:99\n");
        let heard = client.exec(&first, "nc -w 5 10.99.0.9 80").await;
        assert_eq!(heard.stdout, "hello\n", "{heard:?}");
        let route = client.exec(&first, "ip route show default").await;
        assert!(
            route.stdout.contains("dev eth0"),
            "the first network stays the way out: {route:?}"
        );

        // What it asked for is kept for it, also while it does not run.
        client.stop(&second).await.done();
        let third = client.create("third", "sleep 1000").await;
        let taken = connect(&third, fixed).await.unwrap_err();
        assert_eq!(taken.short(), "AddressInUse");
        assert!(taken.message.contains("'second'"), "{taken:?}");
        client.start(&second).await.done();
        assert_eq!(addresses(&client, &second).await[1].1, "10.99.0.9");

        let disconnect =
            async |path| on_container(&client, path, "DisconnectNetwork", &(&web, 0_u64)).await;
        disconnect(&first).await.unwrap();
        assert_eq!(disconnect(&first).await.unwrap_err().short(), "InvalidState");
        let left = client.exec(&first, "ls /sys/class/net").await;
        assert_eq!(left.stdout, "eth0\nlo\n");
        // The addresses are another's only after the kernel has forgotten their connections.
        connect(&first, Options::new()).await.unwrap();
        assert_eq!(addresses(&client, &first).await.len(), 2);
        // Who was off the first of its networks when it started comes back to it as the first.
        let usual: OwnedObjectPath = client.manager("GetNetwork", &"tare").await.unwrap();
        on_container(&client, &first, "DisconnectNetwork", &(&usual, 0_u64)).await.unwrap();
        client.stop(&first).await.done();
        client.start(&first).await.done();
        let body = (&usual, Options::new());
        on_container(&client, &first, "ConnectNetwork", &body).await.unwrap();
        let routes = client.exec(&first, "ip route show default").await.stdout;
        let ways: Vec<_> = routes.lines().filter(|line| line.starts_with("default")).collect();
        assert!(ways.len() == 2 && ways[0].contains("dev eth0  metric 100"), "{routes}");
        for path in [first, second, third] {
            client.remove(&path).await.done();
        }
        client.call(&web, "Network", "Remove", &0_u64).await.unwrap();
        tared.stop();
    });
}

/// What `ip` and `nft` say, to the byte, and which addresses are somebody's; those that rest are many, but
/// of the network where a container has its own.
fn traces(runtime: &std::path::Path) -> Vec<String> {
    // A bridge without ports is down a second later.
    while run("ip", &["-o", "link"]).contains(" state UP ") {
        std::thread::sleep(Duration::from_millis(20));
    }
    let links = run("ip", &["-d", "link"]);
    // How long something takes yet is said as well.
    let is_timer = |word: &str| word.ends_with("_timer");
    let words: Vec<_> = links.split_whitespace().collect();
    let links: Vec<_> = (0..words.len())
        .filter(|at| !(*at > 0 && is_timer(words[at - 1])))
        .map(|at| words[at])
        .collect();
    let database = rusqlite::Connection::open(runtime.join("db/run.db")).unwrap();
    let mut leases = database
        .prepare(
            "SELECT network || hex(address) || chosen || ifnull(container, '') FROM leases
             WHERE container IS NOT NULL OR network = 'web' ORDER BY 1",
        )
        .unwrap();
    let leases: Vec<String> =
        leases.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    vec![
        links.join(" "),
        run("nft", &["list", "ruleset"]),
        run("ip", &["netns"]),
        leases.join("\n"),
    ]
}

/// Addresses of a container on two networks, one of which has IPv6: so many are had at a time, and so
/// many may not rest yet.
const FEW: i64 = 3;

/// How many addresses somebody has, or had.
fn known_addresses(runtime: &std::path::Path) -> i64 {
    let database = rusqlite::Connection::open(runtime.join("db/run.db")).unwrap();
    database.query_row("SELECT count(*) FROM leases", [], |row| row.get(0)).unwrap()
}

#[test]
fn privileged_two_hundred_lives_leave_what_one_did() {
    on_scratch_host(async |host| {
        let mut setup = Setup::private(host);
        let config = host.path("tared.toml");
        std::fs::write(&config, "[network]\nquarantine-sec = 0\n").unwrap();
        setup.config = Some(config);
        let mut tared = Tared::with(setup.clone());
        let client = tared.client().await;
        client.import_busybox().await;
        let subnets = ["10.99.0.0/24", "fd00:99::/64"].map(|net| row([("Subnet", net.into())]));
        let subnets = Options::from([("Subnets", subnets.to_vec().into())]);
        network(&client, "web", subnets).await.unwrap();
        let own = ("Addresses", vec!["10.99.0.9", "fd00:99::9"].into());
        let both = vec![row([("Network", "tare".into())]), row([("Network", "web".into()), own])];
        let mut options = on("true", both);
        options.insert("PublishedPorts", vec![port(8080, "tcp"), port(8080, "udp")].into());
        let path = client.create_with("c", options).await.unwrap();
        let live = async || {
            client.start(&path).await.done();
            while client.container(&path).await.text("State") != "exited" {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        live().await;
        host.world_at_rest();
        let before = traces(&setup.runtime);
        for _ in 0..200 {
            live().await;
        }
        host.world_at_rest();
        assert_eq!(traces(&setup.runtime), before);
        let known = known_addresses(&setup.runtime);
        assert!(known < 10 * FEW, "{known} addresses were given to {FEW} at a time");
        client.remove(&path).await.done();
        tared.stop();
    });
}
