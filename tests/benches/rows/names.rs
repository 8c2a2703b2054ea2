//! An answer to who asks for the name of a container.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tare_names::{Directory, Foreign, Host, Server, Sockets};
use tokio::task::spawn_blocking;

use crate::condition::Condition;
use crate::figures::Summary;
use crate::row::{Promise, Rounds, Row, Unit, Who, nothing};
use crate::{Result, micros};

pub(super) const ROWS: &[Row] = &[ANSWER];

const ANSWER: Row = Row {
    name: "names",
    measures: "the address of one container of 2,000, from a socket to a socket; median of 1,000",
    unit: Unit::Micros,
    must: Some(Promise::Below(50.0)),
    aim: None,
    contestants: &[Who::Library("tare-names")],
    rounds: Rounds { full: 10, quick: 2 },
    under: Condition::PLAIN,
    prepare: nothing,
    sample: |_, _| Box::pin(async { spawn_blocking(ask).await? }),
    clean: nothing,
};

const CONTAINERS: u16 = 2000;
const TIMES: usize = 1000;
const NETWORK: &str = "bench";
/// Where the address of `c7`, the container that is asked for, ends an answer.
const ADDRESS: [u8; 4] = [10, 88, 0, 7];

/// Microseconds of an answer.
fn ask() -> Result<f64> {
    let directory = Arc::new(RwLock::new(directory()?));
    let server = Server::start(directory, "/none/such".into())?;
    let sockets = Sockets {
        udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
        tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
    };
    let caller = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    caller.set_read_timeout(Some(Duration::from_secs(10)))?;
    caller.connect(sockets.udp.local_addr()?)?;
    let serving = server.serve(NETWORK, sockets)?;
    let times = (0..TIMES).map(|_| one(&caller)).collect::<Result<Vec<_>>>()?;
    drop(serving);
    Ok(Summary::of(times).ok_or("no answers")?.median)
}

fn one(caller: &UdpSocket) -> Result<f64> {
    let mut answer = [0; 512];
    let begun = Instant::now();
    caller.send(&question())?;
    let length = caller.recv(&mut answer)?;
    let took = begun.elapsed();
    if answer[..length].ends_with(&ADDRESS) { Ok(micros(took)) } else { Err("not found".into()) }
}

/// For the address of `c7`; RFC 1035, 4.1.
fn question() -> Vec<u8> {
    let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header[..], b"\x02c7\0", &[0, 1, 0, 1]].concat()
}

fn directory() -> Result<Directory> {
    let mut directory = Directory::new("tare.internal");
    directory.set_network(NETWORK, vec!["10.88.0.0/16".parse()?], Foreign::Refused);
    for at in 0..CONTAINERS {
        let [high, low] = at.to_be_bytes();
        let address: IpAddr = [10, 88, high, low].into();
        let host =
            Host { names: vec![format!("c{at}")], aliases: Vec::new(), addresses: vec![address] };
        directory.set_host(&format!("id{at}"), vec![(NETWORK.into(), host)]);
    }
    Ok(directory)
}
