//! How long an answer takes: by the directory alone, and from a socket to a socket.
#![expect(clippy::disallowed_methods, reason = "a bench makes its own surroundings")]
#![expect(clippy::unwrap_used, reason = "a bench has no caller to report to")]

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Arc, RwLock};

use divan::{Bencher, black_box};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tare_names::{Directory, Foreign, Host, Question, Server, Sockets};

const CONTAINERS: [usize; 2] = [10, 2000];

fn main() {
    divan::main();
}

fn directory(containers: usize) -> Directory {
    let mut directory = Directory::new("tare.internal");
    directory.set_network("n", vec!["10.88.0.0/16".parse().unwrap()], Foreign::Refused);
    for at in 0..containers {
        directory.set_host(&format!("id{at}"), vec![("n".into(), host(at))]);
    }
    directory
}

fn host(at: usize) -> Host {
    let [high, low] = u16::try_from(at).unwrap().to_be_bytes();
    let address: IpAddr = [10, 88, high, low].into();
    Host { names: vec![format!("c{at}")], aliases: Vec::new(), addresses: vec![address] }
}

#[divan::bench(args = CONTAINERS)]
fn looked_up(bencher: Bencher<'_, '_>, containers: usize) {
    let directory = directory(containers);
    let from = [10, 88, 0, 1].into();
    bencher.bench_local(|| directory.answer("n", from, Question::Addresses(black_box("c7"))));
}

#[divan::bench(args = CONTAINERS)]
fn a_container_comes_and_goes(bencher: Bencher<'_, '_>, containers: usize) {
    let mut directory = directory(containers);
    bencher.bench_local(|| {
        directory.set_host("new", vec![("n".into(), host(60_000))]);
        directory.set_host("new", Vec::new());
    });
}

#[divan::bench(args = CONTAINERS)]
fn asked_by_a_socket(bencher: Bencher<'_, '_>, containers: usize) {
    let directory = Arc::new(RwLock::new(directory(containers)));
    let server = Server::start(directory, "/none/such".into()).unwrap();
    let sockets = Sockets {
        udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
    };
    let caller = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    caller.connect(sockets.udp.local_addr().unwrap()).unwrap();
    let serving = server.serve("n", sockets).unwrap();
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii("c7.").unwrap(), RecordType::A));
    let question = query.to_vec().unwrap();
    let mut answer = [0; 512];
    bencher.bench_local(|| {
        caller.send(&question).unwrap();
        caller.recv(&mut answer).unwrap()
    });
    drop(serving);
}
