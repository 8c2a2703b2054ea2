//! Ports of the host that lead to containers, and who holds them.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use system_tests::network::in_network;
use system_tests::{Client, Options, Tared, on_scratch_host};
use zbus::{OwnedObjectPath, Variant};

use crate::crash::pid;
use crate::networks::namespace_of;

type Row = HashMap<String, Variant<'static>>;

fn port(host: u16, protocol: &'static str) -> Row {
    HashMap::from([
        ("HostPort".to_owned(), host.into()),
        ("ContainerPort".to_owned(), 80_u16.into()),
        ("Protocol".to_owned(), protocol.into()),
    ])
}

async fn with_ports(client: &Client, name: &str, ports: Vec<Row>) -> OwnedObjectPath {
    let command = ("Command", vec!["sleep", "1000"].into());
    let options = Options::from([command, ("PublishedPorts", ports.into())]);
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

/// Whether anybody could have it, in either family.
fn is_free(port: u16) -> bool {
    let tcp = ["0.0.0.0", "[::]", "[::1]", "127.0.0.1"]
        .iter()
        .all(|at| TcpListener::bind(format!("{at}:{port}")).is_ok());
    tcp && UdpSocket::bind(("0.0.0.0", port)).is_ok()
}

fn becomes_free(port: u16) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_free(port) {
        assert!(Instant::now() < end, "port {port} is still taken");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a process has open, beside files.
fn sockets_of(pid: i32) -> Vec<String> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let to = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let names = to.map(|to| to.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("socket:")).collect()
}

#[test]
fn privileged_ports_are_held_as_long_as_the_container_lives() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let ports = vec![port(8080, "tcp"), port(8080, "udp"), port(8090, "tcp")];
        let web = with_ports(&client, "web", ports).await;
        let publish = |number| (vec![port(number, "tcp")], 0_u64);
        client.call(&web, "Container", "PublishPorts", &publish(8081)).await.unwrap();
        let process = pid(&client.container(&web).await);
        let held = [8080, 8081, 8090];
        drop(client);
        for _ in 0..2 {
            tared.kill9();
            for number in held {
                assert!(!is_free(number), "{number} is held while nobody serves");
            }
            assert_eq!(sockets_of(process.as_raw_nonzero().get()), Vec::<String>::new());
            tared = tared.restart();
        }
        let client = tared.client().await;
        let unpublish = |number| (vec![port(number, "tcp")], 0_u64);
        for number in [8081, 8090] {
            assert!(!is_free(number));
            client.call(&web, "Container", "UnpublishPorts", &unpublish(number)).await.unwrap();
            assert!(is_free(number), "{number} is anybody's at once");
        }
        assert!(!is_free(8080), "and the others are not");
        client.call(&web, "Container", "PublishPorts", &publish(8082)).await.unwrap();

        drop(client);
        tared.kill9();
        assert!(!is_free(8082));
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        for number in [8080, 8082] {
            becomes_free(number);
        }
        let mut tared = tared.restart();
        let client = tared.client().await;
        client.start(&web).await.done();
        assert!(!is_free(8080));
        client.remove(&web).await.done();
        assert!(is_free(8080) && is_free(8082), "with the container they go");
        tared.stop();
    });
}

#[test]
fn privileged_a_published_port_answers_at_the_hosts_own_loopback_of_ipv6() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let web = with_ports(&client, "web", vec![port(8080, "tcp")]).await;
        let inside = in_network(&namespace_of(&web), || TcpListener::bind("0.0.0.0:80").unwrap());
        let talk = |mut caller: TcpStream| {
            let (mut server, peer) = inside.accept().unwrap();
            assert!(!peer.ip().is_loopback(), "it is called by the host: {peer}");
            caller.write_all(b"hello").unwrap();
            let mut heard = [0; 5];
            server.read_exact(&mut heard).unwrap();
            server.write_all(&heard).unwrap();
            drop(server);
            let mut back = Vec::new();
            caller.read_to_end(&mut back).unwrap();
            assert_eq!(back, b"hello");
        };
        let call = |port: u16| TcpStream::connect(("::1", port));
        talk(call(8080).unwrap());
        let more = (vec![port(8081, "tcp")], 0_u64);
        client.call(&web, "Container", "PublishPorts", &more).await.unwrap();
        talk(call(8081).unwrap());
        drop(client);
        tared.kill9();
        let waits = call(8080).expect("it is let in, and waits");
        let mut tared = tared.restart();
        talk(waits);
        talk(call(8081).unwrap());
        let client = tared.client().await;
        let kept = call(8081).unwrap();
        let (server, _) = inside.accept().unwrap();
        let gone = (vec![port(8081, "tcp")], 0_u64);
        client.call(&web, "Container", "UnpublishPorts", &gone).await.unwrap();
        assert_eq!(call(8081).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        (&kept).write_all(b"x").unwrap();
        (&server).read_exact(&mut [0]).expect("connections that exist stay");
        drop((server, kept, inside));
        let hanging = call(8080).unwrap();
        client.remove(&web).await.done();
        hanging.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!((&hanging).read(&mut [0]).unwrap_or(0), 0, "it does not wait for nobody");
        assert_eq!(call(8080).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        // Closed connections linger on the port, and it can be had all the same.
        let web = with_ports(&client, "again", vec![port(8080, "tcp")]).await;
        let inside = in_network(&namespace_of(&web), || TcpListener::bind("0.0.0.0:80").unwrap());
        assert!(!is_free(8080));
        let _caller = call(8080).unwrap();
        inside.accept().unwrap();
        drop(inside);
        client.remove(&web).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_a_published_port_of_datagrams_answers_at_the_hosts_own_loopback_of_ipv6() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let web = with_ports(&client, "web", vec![port(8080, "udp")]).await;
        let patience = Some(Duration::from_secs(10));
        let inside = in_network(&namespace_of(&web), || UdpSocket::bind("0.0.0.0:80").unwrap());
        inside.set_read_timeout(patience).unwrap();
        let caller = || {
            let caller = UdpSocket::bind("[::1]:0").unwrap();
            caller.set_read_timeout(patience).unwrap();
            caller
        };
        // Says something at a port, and whom the container took the caller for.
        let talk = |caller: &UdpSocket, to: u16, said: &[u8]| {
            caller.send_to(said, ("::1", to)).unwrap();
            let mut heard = [0; 16];
            let received = inside.recv_from(&mut heard);
            let (length, from) = received.unwrap_or_else(|error| panic!("{to} {said:?}: {error}"));
            assert_eq!(&heard[..length], said);
            assert!(!from.ip().is_loopback(), "it is called by the host: {from}");
            inside.send_to(b"back", from).unwrap();
            let (length, by) = caller.recv_from(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"back");
            assert_eq!(by, format!("[::1]:{to}").parse().unwrap(), "from where it was asked");
            from
        };
        let (first, second) = (caller(), caller());
        let known_as = talk(&first, 8080, b"one");
        assert_ne!(talk(&second, 8080, b"two"), known_as);
        assert_eq!(talk(&first, 8080, b"three"), known_as);
        let more = (vec![port(8081, "udp")], 0_u64);
        client.call(&web, "Container", "PublishPorts", &more).await.unwrap();
        talk(&first, 8081, b"four");
        client.call(&web, "Container", "UnpublishPorts", &more).await.unwrap();
        UdpSocket::bind("[::1]:8081").expect("nobody keeps it");
        drop(client);
        tared.kill9();
        first.send_to(b"waits", "[::1]:8080").unwrap();
        let mut tared = tared.restart();
        let mut heard = [0; 16];
        let (length, _) = inside.recv_from(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"waits", "it is passed on when somebody is there again");
        talk(&second, 8080, b"five");
        let client = tared.client().await;
        drop(inside);
        client.remove(&web).await.done();
        UdpSocket::bind("[::1]:8080").expect("with the container it goes");
        tared.stop();
    });
}
