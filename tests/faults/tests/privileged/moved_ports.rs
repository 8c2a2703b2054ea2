//! A container that is taken off the network its published port leads to, and a daemon that is killed
//! before that leads to the next one.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use fault_tests::lab::Lab;
use system_tests::faults::{Effect, Fault};
use system_tests::network::in_network;
use system_tests::{Client, Options, on_busy_scratch_host};
use zbus::{OwnedObjectPath, Variant};

const PORT: u16 = 8080;

async fn publishing(client: &Client) -> OwnedObjectPath {
    let port = HashMap::from([
        ("HostPort", Variant::from(PORT)),
        ("ContainerPort", Variant::from(80_u16)),
    ]);
    let networks = ["one", "two"].map(|name| HashMap::from([("Network", Variant::from(name))]));
    let options = Options::from([
        ("Command", vec!["/bin/busybox", "sleep", "1000"].into()),
        ("Networks", networks.to_vec().into()),
        ("PublishedPorts", vec![port].into()),
    ]);
    let web = client.create_with("web", options).await.unwrap();
    client.start(&web).await.done();
    web
}

fn listen(path: &OwnedObjectPath) -> TcpListener {
    let id = path.rsplit('/').next().unwrap();
    let names = std::fs::read_dir("/run/netns").unwrap();
    let mut names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
    let namespace = names.find(|name| name.ends_with(&id[..12])).expect("it has one");
    in_network(&namespace, || TcpListener::bind("[::]:80").unwrap())
}

/// Says something through a new connection to the published port.
fn talk(listener: &TcpListener, when: &str) {
    for to in [SocketAddr::from(([127, 0, 0, 1], PORT)), format!("[::1]:{PORT}").parse().unwrap()] {
        let caller = TcpStream::connect_timeout(&to, Duration::from_secs(10));
        let mut caller = caller.unwrap_or_else(|error| panic!("{when}: {to}: {error}"));
        let (mut server, _) = listener.accept().unwrap();
        caller.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn privileged_a_port_leads_to_the_next_network_wherever_the_daemon_is_killed() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        let mut networks = Vec::new();
        for name in ["one", "two"] {
            let body = (name, Options::new());
            let made = lab.client().manager::<_, OwnedObjectPath>("CreateNetwork", &body).await;
            networks.push(made.unwrap());
        }
        let web = publishing(lab.client()).await;
        let listener = listen(&web);
        talk(&listener, "on both");
        lab.faults.count();
        let body = (&networks[0], 0_u64);
        lab.client().call(&web, "Container", "DisconnectNetwork", &body).await.unwrap();
        talk(&listener, "on the second");
        let seen = lab.faults.seen();
        let gone = seen.iter().position(|it| it.text.starts_with("delete veth"));
        let is_for_ports = |it: &&Effect| it.part == "netns" && !it.text.starts_with("forget");
        let after: Vec<Effect> =
            seen[gone.unwrap() + 1..].iter().filter(is_for_ports).cloned().collect();
        assert!(after.iter().any(|it| it.text.starts_with("add ")), "{seen:?}");
        for effect in after {
            let connect = (&networks[0], Options::new());
            lab.client().call(&web, "Container", "ConnectNetwork", &connect).await.unwrap();
            lab.faults.arm([(&effect, Fault::Hang)]);
            tokio::select! {
                done = lab.client().call(&web, "Container", "DisconnectNetwork", &body) => {
                    panic!("'{effect}' did not come by: {done:?}")
                }
                () = lab.faults.hit(1) => {}
            }
            lab.kill_and_restart().await;
            talk(&listener, &format!("killed before '{effect}'"));
        }
        drop(listener);
        lab.client().remove(&web).await.done();
        for network in networks {
            lab.client().call(&network, "Network", "Remove", &0_u64).await.unwrap();
        }
        lab.end();
    });
}
