//! What is there still of a network that a container could not be put on, or taken off: it is no secret, and
//! the next one who asks takes it away.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use fault_tests::lab::Lab;
use rustix::io::Errno;
use system_tests::faults::{Effect, Fault};
use system_tests::network::in_network;
use system_tests::{Client, Options, Refused, on_busy_scratch_host};
use zbus::{OwnedObjectPath, Variant};

const PORT: u16 = 8080;
const FAILS: Fault = Fault::Fail(Errno::IO);

async fn network(client: &Client, name: &str) -> OwnedObjectPath {
    client.manager("CreateNetwork", &(name, Options::new())).await.unwrap()
}

/// A container on these networks.
fn on(networks: &[&'static str], ports: &[u16]) -> Options<'static> {
    let networks = networks.iter().map(|name| HashMap::from([("Network", Variant::from(*name))]));
    Options::from([
        ("Command", vec!["/bin/busybox", "sleep", "1000"].into()),
        ("Networks", networks.collect::<Vec<_>>().into()),
        ("PublishedPorts", ports.iter().map(|at| port(*at)).collect::<Vec<_>>().into()),
    ])
}

/// One that runs, on the usual network.
async fn running(client: &Client) -> OwnedObjectPath {
    let web = client.create_with("web", on(&["tare"], &[])).await.unwrap();
    client.start(&web).await.done();
    web
}

fn port(host: u16) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([("HostPort", host.into()), ("ContainerPort", 80_u16.into())])
}

async fn connect(
    client: &Client,
    web: &OwnedObjectPath,
    network: &OwnedObjectPath,
) -> Result<(), Refused> {
    client.call(web, "Container", "ConnectNetwork", &(network, Options::new())).await.map(drop)
}

async fn disconnect(
    client: &Client,
    web: &OwnedObjectPath,
    network: &OwnedObjectPath,
) -> Result<(), Refused> {
    client.call(web, "Container", "DisconnectNetwork", &(network, 0_u64)).await.map(drop)
}

async fn remove(client: &Client, network: &OwnedObjectPath) -> Result<(), Refused> {
    client.call(network, "Network", "Remove", &0_u64).await.map(drop)
}

/// The first of those that were seen that begins so.
fn effect(seen: &[Effect], begins: &str) -> Effect {
    let found = seen.iter().find(|it| it.part == "netns" && it.text.starts_with(begins));
    found.unwrap_or_else(|| panic!("'{begins}' is not among {seen:?}")).clone()
}

/// What lets through who is connected, and what takes the interface away again.
async fn connecting(lab: &Lab<'_>, web: &OwnedObjectPath, one: &OwnedObjectPath) -> [Effect; 2] {
    lab.faults.count();
    connect(lab.client(), web, one).await.unwrap();
    let let_through = effect(&lab.faults.seen(), "add N elements");
    lab.faults.count();
    disconnect(lab.client(), web, one).await.unwrap();
    [let_through, effect(&lab.faults.seen(), "delete veth")]
}

#[test]
fn privileged_a_container_that_could_not_be_taken_off_again_is_on_the_network_until_it_is() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        let client = lab.client();
        let one = network(client, "one").await;
        let web = running(client).await;
        // Its bridge is there then.
        connect(client, &web, &one).await.unwrap();
        disconnect(client, &web, &one).await.unwrap();
        let [let_through, take_away] = connecting(&lab, &web, &one).await;
        let in_vain = async || {
            lab.faults.arm([(&let_through, FAILS), (&take_away, FAILS)]);
            let refused = connect(client, &web, &one).await.unwrap_err();
            assert_eq!(refused.short(), "NetworkFailed", "{refused:?}");
            lab.faults.count();
            let refused = remove(client, &one).await.unwrap_err();
            assert_eq!(refused.short(), "NetworkInUse", "its interface is there: {refused:?}");
        };
        in_vain().await;
        connect(client, &web, &one).await.expect("what is there of it goes first");
        disconnect(client, &web, &one).await.unwrap();
        in_vain().await;
        disconnect(client, &web, &one).await.expect("it can be taken off");
        in_vain().await;
        client.stop(&web).await.done();
        remove(client, &one).await.expect("with the container all of it is gone");
        client.remove(&web).await.done();
        lab.end();
    });
}

fn listen(path: &OwnedObjectPath) -> TcpListener {
    let id = path.rsplit('/').next().unwrap();
    let names = std::fs::read_dir("/run/netns").unwrap();
    let mut names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
    let namespace = names.find(|name| name.ends_with(&id[..12])).expect("it has one");
    in_network(&namespace, || TcpListener::bind("0.0.0.0:80").unwrap())
}

/// Says something through a new connection to the published port.
fn talk(listener: &TcpListener) {
    let to = SocketAddr::from(([127, 0, 0, 1], PORT));
    let mut caller = TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    caller.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
}

/// That it is owed is written down in one place alone, where other changes are written down, too.
#[test]
fn privileged_what_is_owed_to_a_container_is_done_before_anything_else() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        let client = lab.client();
        let (one, two) = (network(client, "one").await, network(client, "two").await);
        let web = client.create_with("web", on(&["one", "two"], &[PORT])).await.unwrap();
        client.job(&web, "Container", "Prepare", &Options::new()).await.unwrap().done();
        lab.faults.count();
        disconnect(client, &web, &one).await.unwrap();
        let lead_on = effect(&lab.faults.seen(), "add N elements");
        connect(client, &web, &one).await.unwrap();
        lab.faults.arm([(&lead_on, FAILS)]);
        let refused = disconnect(client, &web, &one).await.unwrap_err();
        assert_eq!(refused.short(), "NetworkFailed", "{refused:?}");
        lab.faults.count();
        client.start(&web).await.done();
        let listener = listen(&web);
        talk(&listener);
        drop(listener);
        client.remove(&web).await.done();
        for network in [one, two] {
            remove(client, &network).await.unwrap();
        }
        lab.end();
    });
}

#[test]
fn privileged_a_port_that_could_not_be_taken_back_is_held_until_it_is() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        let client = lab.client();
        let web = running(client).await;
        let publish = async || {
            let body = (vec![port(PORT)], 0_u64);
            client.call(&web, "Container", "PublishPorts", &body).await.map(drop)
        };
        let unpublish = async || {
            let body = (vec![port(PORT)], 0_u64);
            client.call(&web, "Container", "UnpublishPorts", &body).await.map(drop)
        };
        lab.faults.count();
        publish().await.unwrap();
        let lead = effect(&lab.faults.seen(), "add N elements");
        lab.faults.count();
        unpublish().await.unwrap();
        let take_back = effect(&lab.faults.seen(), "remove N elements");
        TcpListener::bind(("0.0.0.0", PORT)).expect("nobody has it");
        lab.faults.arm([(&lead, FAILS), (&take_back, FAILS)]);
        let refused = publish().await.unwrap_err();
        assert_eq!(refused.short(), "NetworkFailed", "{refused:?}");
        lab.faults.count();
        TcpListener::bind(("0.0.0.0", PORT)).expect_err("it may lead to the container");
        unpublish().await.expect("it can be taken back");
        TcpListener::bind(("0.0.0.0", PORT)).expect("nobody has it any more");
        client.remove(&web).await.done();
        lab.end();
    });
}

/// Who removes a network, and who is put on it, one in the middle of the other.
#[test]
fn privileged_nobody_comes_to_a_network_that_goes_and_none_goes_that_somebody_comes_to() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        let (client, faults) = (lab.client(), &lab.faults);
        let web = running(client).await;
        let rests = client.create("rests", "true").await;
        let mut one = network(client, "one").await;
        faults.count();
        connect(client, &web, &one).await.unwrap();
        let coming = effect(&faults.seen(), "create veth");
        disconnect(client, &web, &one).await.unwrap();
        faults.count();
        remove(client, &one).await.unwrap();
        let going = effect(&faults.seen(), "delete bridge");

        one = network(client, "one").await;
        connect(client, &web, &one).await.unwrap();
        disconnect(client, &web, &one).await.unwrap();
        for who in [&web, &rests] {
            faults.arm([(&going, Fault::Hang)]);
            let comes = async {
                faults.hit(1).await;
                let refused = connect(client, who, &one).await.unwrap_err();
                assert_eq!(refused.short(), "NoSuchNetwork", "{refused:?}");
                faults.let_go();
            };
            tokio::join!(async { remove(client, &one).await.expect("nobody is on it") }, comes);
            one = network(client, "one").await;
            connect(client, &web, &one).await.unwrap();
            disconnect(client, &web, &one).await.unwrap();
        }
        faults.arm([(&coming, Fault::Hang)]);
        let goes = async {
            faults.hit(1).await;
            let refused = remove(client, &one).await.unwrap_err();
            assert_eq!(refused.short(), "NetworkInUse", "{refused:?}");
            faults.let_go();
        };
        tokio::join!(async { connect(client, &web, &one).await.expect("it is there") }, goes);
        for path in [web, rests] {
            client.remove(&path).await.done();
        }
        remove(client, &one).await.unwrap();
        lab.end();
    });
}
