//! Ports of the host, taken before anything is set up.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use tare_netns::{Error, ErrorKind, HeldPort, PortRequest, Protocol, reserve};

use crate::common::{name, on_scratch_host};

fn request(at: Option<&str>, protocol: Protocol, host: u16, count: u16) -> PortRequest {
    PortRequest::new(at.map(name), protocol, host, 80, count).unwrap()
}

fn tcp(at: Option<&str>, host: u16) -> PortRequest {
    request(at, Protocol::Tcp, host, 1)
}

#[test]
fn privileged_a_reserved_port_is_nobody_elses() {
    on_scratch_host(|| {
        let held = reserve(&[
            tcp(None, 8080),
            request(Some("0.0.0.0"), Protocol::Udp, 5353, 2),
            request(None, Protocol::Sctp, 9000, 1),
        ])
        .unwrap();
        assert_eq!(
            held.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["8080/tcp", "0.0.0.0:5353-5354/udp", "9000/sctp"]
        );
        for taken in ["0.0.0.0:8080", "127.0.0.1:8080", "[::]:8080", "[::1]:8080"] {
            let error = TcpListener::bind(taken).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{taken}");
        }
        UdpSocket::bind("0.0.0.0:5354").unwrap_err();
        UdpSocket::bind("[::1]:5354").unwrap();
        TcpStream::connect("127.0.0.1:8080").expect_err("nobody listens yet");
        drop(held);
        TcpListener::bind("0.0.0.0:8080").unwrap();
    });
}

#[test]
fn privileged_a_port_in_use_is_named_and_the_others_are_given_back() {
    on_scratch_host(|| {
        let _theirs = TcpListener::bind("[::1]:8081").unwrap();
        let error = reserve(&[tcp(None, 8080), tcp(None, 8081)]).unwrap_err();
        assert_eq!(error.to_string(), "port 8081/tcp of the host is in use");
        assert_eq!(error.kind(), ErrorKind::InUse);
        TcpListener::bind("[::]:8080").unwrap();
        reserve(&[tcp(Some("127.0.0.1"), 8081)]).unwrap();

        let error = reserve(&[tcp(Some("192.0.2.77"), 8080)]).unwrap_err();
        assert_eq!(error.to_string(), "the host has no address 192.0.2.77");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let error = reserve(&[tcp(Some("2001:db8::77"), 8080)]).unwrap_err();
        assert!(matches!(error, Error::NoHostAddress { .. }), "{error:?}");
        let error = reserve(&[tcp(None, 80), tcp(Some("127.0.0.1"), 80)]).unwrap_err();
        assert!(matches!(error, Error::InvalidPorts { .. }), "{error:?}");
    });
}

#[test]
fn privileged_a_port_left_open_is_the_same_in_both_families() {
    on_scratch_host(|| {
        let held = reserve(&[tcp(None, 0), request(None, Protocol::Udp, 0, 1)]).unwrap();
        for port in &held.ports {
            assert_ne!(port.host(), 0);
            let is_its = |it: &&HeldPort| it.protocol == port.protocol() && !it.listens();
            let ours: Vec<_> = held.sockets.iter().filter(is_its).collect();
            assert!(ours.iter().all(|held| held.address.port() == port.host()), "{ours:?}");
            let families = [ours[0].address.is_ipv6(), ours[1].address.is_ipv4()];
            assert_eq!(families, [true, true]);
        }
    });
}

#[test]
fn privileged_closed_connections_do_not_keep_a_port() {
    on_scratch_host(|| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let client = thread::spawn(|| TcpStream::connect("127.0.0.1:8080").unwrap());
        let (server, _) = listener.accept().unwrap();
        // Who closes first waits.
        drop(server);
        drop(client.join().unwrap());
        drop(listener);
        let states = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        assert!(states.contains(":1F90 0100007F"), "one is waiting: {states}");
        for _ in 0..10 {
            let held = reserve(&[tcp(None, 8080)]).unwrap();
            let all: Vec<SocketAddr> = held.sockets.iter().map(|held| held.address).collect();
            assert_eq!(
                all,
                [
                    (Ipv6Addr::UNSPECIFIED, 8080).into(),
                    (Ipv6Addr::LOCALHOST, 8080).into(),
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
                ]
            );
            TcpListener::bind("127.0.0.1:8080").unwrap_err();
            TcpStream::connect("127.0.0.1:8080").expect_err("nobody listens there");
        }
    });
}

#[test]
fn privileged_a_port_listens_at_the_loopback_of_ipv6_alone() {
    on_scratch_host(|| {
        for (at, listens) in
            [(None, true), (Some("::"), true), (Some("::1"), true), (Some("127.0.0.1"), false)]
        {
            // The second time closed connections linger on it.
            for _ in 0..2 {
                let held = reserve(&[tcp(at, 8080)]).unwrap();
                let listening: Vec<_> = held.sockets.iter().filter(|it| it.listens()).collect();
                assert_eq!(listening.len(), usize::from(listens), "{at:?}");
                let called = TcpStream::connect("[::1]:8080");
                assert_eq!(called.is_ok(), listens, "{at:?}");
                assert_eq!(TcpListener::bind("[::1]:8080").is_err(), listens, "{at:?}");
                for listener in listening {
                    let listener = TcpListener::from(listener.socket.try_clone().unwrap());
                    // Who closes first waits.
                    drop(listener.accept().unwrap());
                }
                drop(called);
            }
        }
    });
}

#[test]
fn privileged_datagrams_come_in_at_the_loopback_of_ipv6() {
    on_scratch_host(|| {
        let caller = UdpSocket::bind("[::1]:0").unwrap();
        let loopback = SocketAddr::from((Ipv6Addr::LOCALHOST, 8080));
        for at in [None, Some("::"), Some("::1")] {
            let held = reserve(&[request(at, Protocol::Udp, 8080, 1)]).unwrap();
            let listening: Vec<_> = held.sockets.iter().filter(|it| it.listens()).collect();
            let [listener] = listening[..] else { panic!("{at:?}: {held:?}") };
            caller.send_to(b"hello", loopback).unwrap();
            let listener = UdpSocket::from(listener.socket.try_clone().unwrap());
            listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut heard = [0; 5];
            let (_, from) = listener.recv_from(&mut heard).unwrap();
            assert_eq!((&heard, from), (b"hello", caller.local_addr().unwrap()), "{at:?}");
            // Who says that it would share gets nothing either.
            for address in [loopback, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080))] {
                let socket = socket(AddressFamily::INET6, SocketType::DGRAM, None).unwrap();
                set_socket_reuseaddr(&socket, true).unwrap();
                bind(&socket, &address).expect_err("it is taken");
            }
        }
    });
}
