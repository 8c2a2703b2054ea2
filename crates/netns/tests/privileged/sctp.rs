//! SCTP that passes through. The kernel need not speak it itself, and many do not: what begins an
//! association is made by hand, sent and received by raw sockets (RFC 9260).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom, sendto,
    socket_with,
};
use tare_netns::{Namespace, Protocol, Reach};

use crate::common::on_scratch_host;
use crate::lab::{CLIENT, HOST, Lab, port, within};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// By which both ends know each other.
const TAG: u32 = 0x7461_7265;

/// What one begins with, or answers.
fn packet(kind: u8, from: u16, to: u16, tag: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([kind, 0, 0, 20]);
    packet.extend(TAG.to_be_bytes());
    packet.extend(65_536_u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1_u32.to_be_bytes());
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, byte)
}

fn raw(namespace: &Namespace, family: AddressFamily) -> OwnedFd {
    let open = || {
        let socket =
            socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::SCTP));
        let socket = socket.unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(10))).unwrap();
        socket
    };
    within(Some(namespace), open)
}

fn send(socket: &OwnedFd, to: &str, packet: &[u8]) {
    let to = SocketAddr::new(to.parse().unwrap(), 0);
    sendto(socket, packet, SendFlags::empty(), &to).unwrap();
}

/// Kind, ports, and from where; nothing if nothing comes.
fn receive(socket: &OwnedFd) -> io::Result<(u8, u16, u16, IpAddr)> {
    let mut buffer = [0; 256];
    let (length, _, from) = recvfrom(socket, &mut buffer, RecvFlags::empty())?;
    let from = SocketAddr::try_from(from.unwrap()).unwrap().ip();
    // IPv4 comes with its header.
    let start = if from.is_ipv4() { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
    let packet = &mut buffer[start..length];
    let sum = u32::from_le_bytes(packet[8..12].try_into().unwrap());
    packet[8..12].fill(0);
    assert_eq!(crc32c(packet), sum, "whoever changed a port made it right again");
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    Ok((packet[12], port(0), port(2), from))
}

#[test]
fn privileged_an_association_begins_through_a_published_port() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let ports = [port(None, Protocol::Sctp, 9000, 9001)];
        let web = lab.publishing(&lab.network(0, Reach::Open), 2, &ports);
        for (at, family) in [(0, AddressFamily::INET), (1, AddressFamily::INET6)] {
            let (client, server) = (raw(&lab.client, family), raw(&web.namespace, family));
            send(&client, HOST[at], &packet(INIT, 7000, 9000, 0));
            let of_client: IpAddr = CLIENT[at].parse().unwrap();
            let seen = receive(&server).expect("it arrives");
            assert_eq!(seen, (INIT, 7000, 9001, of_client), "and says who sent it");
            send(&server, CLIENT[at], &packet(INIT_ACK, 9001, 7000, TAG));
            let answer = receive(&client).expect("so does the answer");
            assert_eq!(
                answer,
                (INIT_ACK, 9000, 7000, HOST[at].parse().unwrap()),
                "from who was asked"
            );
        }
        lab.remove(&web);
    });
}

#[test]
fn a_known_sum_is_right() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
