//! Containers in a VLAN of their bridge, by what arrives: over whatever bus, on whatever host.

use std::collections::HashMap;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use zbus::{OwnedObjectPath, Variant};

use crate::network::{greet_once, in_network};
use crate::replies::Ended;
use crate::{Client, Options, run};

/// Longer than anybody takes to get through.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who does not get through in this time does not.
const A_WHILE: Duration = Duration::from_secs(2);
const NUMBER: u16 = 100;

type Row = HashMap<String, Variant<'static>>;

fn row<const N: usize>(pairs: [(&str, Variant<'static>); N]) -> Row {
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

/// A network in a VLAN, with a container that serves, one that calls, and a guest on the same bridge that
/// nobody but this test knows of. There has to be an [`outside`](crate::network::make_outside) with a
/// way back.
#[derive(Debug)]
pub struct Vlan {
    network: OwnedObjectPath,
    web: OwnedObjectPath,
    caller: OwnedObjectPath,
}

impl Vlan {
    /// Makes the network and the containers, which do not run yet.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn make(client: &Client) -> Self {
        let subnets = vec![row([("Subnet", "10.99.0.0/24".into())])];
        let options = Options::from([("VLAN", NUMBER.into()), ("Subnets", subnets.into())]);
        let network = client.manager("CreateNetwork", &("vlan", options)).await.unwrap();
        let published = row([("HostPort", 8080_u16.into()), ("ContainerPort", 80_u16.into())]);
        let create = async |name, address: &'static str, ports: Vec<Row>| {
            let place = row([("Network", "vlan".into()), ("Addresses", vec![address].into())]);
            let options = Options::from([
                ("Command", vec!["sleep", "1000"].into()),
                ("Networks", vec![place].into()),
                ("PublishedPorts", ports.into()),
            ]);
            client.create_with(name, options).await.unwrap()
        };
        Self {
            network,
            web: create("web", "10.99.0.2", vec![published]).await,
            caller: create("caller", "10.99.0.3", Vec::new()).await,
        }
    }

    /// Starts them, and is joined by the guest; how that ends.
    ///
    /// # Panics
    ///
    /// If the second does not start although the first did.
    pub async fn start(&self, client: &Client) -> Ended {
        let ended = client.start(&self.web).await;
        if ended.result == "done" {
            client.start(&self.caller).await.done();
            let bridge = client.properties(&self.network, "Network").await.text("InterfaceName");
            make_guest(&bridge);
        }
        ended
    }

    /// They reach each other and the world, and are reached by it; the guest reaches them in their VLAN alone.
    ///
    /// # Panics
    ///
    /// If not.
    pub async fn all_reach(&self, client: &Client) {
        let id = self.web.rsplit('/').next().unwrap();
        let inside = run("ip", &["netns"]);
        let inside = inside.lines().find_map(|line| {
            let name = line.split(' ').next()?;
            name.ends_with(&id[..12]).then(|| name.to_owned())
        });
        let inside = inside.expect("it has a namespace");
        for (place, at, seen) in [
            (inside.as_str(), "10.99.0.2:80", "10.99.0.3"),
            ("outside", "203.0.113.2:80", "203.0.113.1"),
        ] {
            let to: SocketAddr = at.parse().unwrap();
            let served = greet_once(in_network(place, || TcpListener::bind(to).unwrap()));
            let heard = client.exec(&self.caller, &format!("nc -w 30 {} 80", to.ip())).await;
            assert_eq!(heard.stdout, "hello\n", "{at}");
            assert_eq!(served.join().unwrap(), seen.parse::<IpAddr>().unwrap(), "{at}");
        }
        let server = in_network(&inside, || TcpListener::bind("10.99.0.2:80").unwrap());
        let mut from_outside =
            in_network("outside", || called("203.0.113.1:8080", PATIENCE)).unwrap();
        assert_eq!(
            greet_once(server.try_clone().unwrap()).join().unwrap().to_string(),
            "203.0.113.2"
        );
        from_outside.set_read_timeout(Some(PATIENCE)).unwrap();
        from_outside.read_exact(&mut [0; 6]).unwrap();
        move_guest(NUMBER, 200);
        in_network("guest", || called("10.99.0.2:80", A_WHILE)).expect_err("another VLAN");
        move_guest(200, NUMBER);
        in_network("guest", || called("10.99.0.2:80", PATIENCE)).expect("the same one");
    }

    /// Takes all of it away.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn remove(self, client: &Client) {
        if run("ip", &["netns"]).contains("guest") {
            run("ip", &["netns", "del", "guest"]);
        }
        for path in [self.web, self.caller] {
            client.remove(&path).await.done();
        }
        client.call(&self.network, "Network", "Remove", &0_u64).await.unwrap();
    }
}

fn make_guest(bridge: &str) {
    let master = format!("link set guest0 master {bridge} up");
    for command in [
        "netns add guest",
        "link add guest0 type veth peer name eth0 netns guest",
        &master,
        "-n guest addr add 10.99.0.200/24 dev eth0",
        "-n guest link set eth0 up",
    ] {
        run("ip", &command.split(' ').collect::<Vec<_>>());
    }
}

/// To another VLAN of the bridge.
fn move_guest(from: u16, to: u16) {
    let vlan = |verb: &str, number: u16, flags: &[&str]| {
        let number = number.to_string();
        run("bridge", &[&["vlan", verb, "dev", "guest0", "vid", &number], flags].concat());
    };
    vlan("del", from, &[]);
    vlan("add", to, &["pvid", "untagged"]);
}

fn called(address: &str, patience: Duration) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&address.parse().unwrap(), patience)
}
