//! An answer to who asks for the name of a container.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Arc, RwLock};
use std::thread;
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
    measures: "the address of one container of 2,000, beside the same bytes sent back; median of 1,000",
    unit: Unit::Micros,
    must: Some(Promise::Over(50.0, ECHO)),
    aim: None,
    contestants: &[Who::Library("tare-names"), ECHO],
    rounds: Rounds { full: 10, quick: 2 },
    under: Condition::PLAIN,
    prepare: nothing,
    sample: |_, who| Box::pin(async move { spawn_blocking(move || answered(who)).await? }),
    clean: nothing,
};

/// A thread that sends back what comes: what it takes that two processors wake each other up, which in
/// a virtual machine is many times what an answer takes.
const ECHO: Who = Who::Programs("an echo");

const CONTAINERS: u16 = 2000;
const TIMES: usize = 1000;
const NETWORK: &str = "bench";
/// Where the address of `c7`, the container that is asked for, ends an answer.
const ADDRESS: [u8; 4] = [10, 88, 0, 7];

/// Microseconds until what was sent is answered.
fn answered(who: Who) -> Result<f64> {
    if who == ECHO { echoed() } else { resolved() }
}

fn resolved() -> Result<f64> {
    let directory = Arc::new(RwLock::new(directory()?));
    let server = Server::start(directory, "/none/such".into())?;
    let sockets = Sockets {
        udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
        tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
    };
    let caller = caller_of(&sockets.udp)?;
    let serving = server.serve(NETWORK, sockets)?;
    let times = asked(&caller, |answer| answer.ends_with(&ADDRESS));
    drop(serving);
    times
}

fn echoed() -> Result<f64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let caller = caller_of(&socket)?;
    let echo = thread::spawn(move || -> std::io::Result<()> {
        let mut bytes = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut bytes)?;
            // Nothing is the end.
            if length == 0 {
                return Ok(());
            }
            socket.send_to(&bytes[..length], from)?;
        }
    });
    let times = asked(&caller, |answer| answer == question());
    caller.send(&[])?;
    echo.join().map_err(|_| "the echo has panicked")??;
    times
}

fn caller_of(socket: &UdpSocket) -> Result<UdpSocket> {
    let caller = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    caller.set_read_timeout(Some(Duration::from_secs(10)))?;
    caller.connect(socket.local_addr()?)?;
    Ok(caller)
}

fn asked(caller: &UdpSocket, fits: impl Fn(&[u8]) -> bool) -> Result<f64> {
    let times = (0..TIMES).map(|_| one(caller, &fits)).collect::<Result<Vec<_>>>()?;
    Ok(Summary::of(times).ok_or("no answers")?.median)
}

fn one(caller: &UdpSocket, fits: impl Fn(&[u8]) -> bool) -> Result<f64> {
    let mut answer = [0; 512];
    let begun = Instant::now();
    caller.send(&question())?;
    let length = caller.recv(&mut answer)?;
    let took = begun.elapsed();
    if fits(&answer[..length]) { Ok(micros(took)) } else { Err("not found".into()) }
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
