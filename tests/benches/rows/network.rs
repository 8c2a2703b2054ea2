//! The network of one container.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tare_netns::{
    Attachment, Bridge, Firewall, MacAddress, Wanted, ensure_bridge, remove_bridge, setup, teardown,
};
use tokio::task::spawn_blocking;

use crate::condition::Condition;
use crate::figures::Summary;
use crate::row::{Promise, Rounds, Row, Unit, Who, Work, nothing};
use crate::stage::Stage;
use crate::{Result, millis};

const OURS: Who = Who::Library("tare-netns");

pub(crate) const BRIDGE: Row = Row {
    name: "network",
    measures: "namespace, veth, bridge port, address, route, firewall: set up, median of 20",
    unit: Unit::Millis,
    must: Some(Promise::Below(4.0)),
    aim: Some(Promise::Below(2.0)),
    contestants: &[OURS, Who::Programs("ip, nft")],
    rounds: Rounds { full: 15, quick: 2 },
    under: Condition::BOTH,
    prepare: nothing,
    sample,
    clean: nothing,
};

/// Containers in one turn.
const CONTAINERS: u8 = 20;
/// Of the bridge and the firewall's table.
const NAME: &str = "tare_bench";
const GATEWAY: [u8; 4] = [10, 99, 0, 1];

fn sample(_: &Stage, who: Who) -> Work<'_, f64> {
    // It blocks, and has a runtime of its own.
    Box::pin(async move { spawn_blocking(move || set_up_and_down(who)).await? })
}

fn set_up_and_down(who: Who) -> Result<f64> {
    let bridge = Bridge {
        name: NAME.parse()?,
        gateways: vec![format!("{}/24", IpAddr::from(GATEWAY)).parse()?],
        mtu: None,
    };
    ensure_bridge(&bridge)?;
    let firewall = Firewall::open(&NAME.parse()?)?;
    let times = (2..2 + CONTAINERS).map(|host| match who {
        OURS => by_library(&firewall, host),
        _ => by_programs(host),
    });
    let times: Vec<f64> = times.map(|took| took.map(millis)).collect::<Result<_>>()?;
    firewall.delete_table()?;
    remove_bridge(&bridge.name)?;
    Ok(Summary::of(times).ok_or("no containers")?.median)
}

fn by_library(firewall: &Firewall, host: u8) -> Result<Duration> {
    let (wanted, address) = container(host)?;
    let begun = Instant::now();
    let namespace = setup(&wanted)?;
    firewall.add(&[address])?;
    let took = begun.elapsed();
    firewall.remove(&[address])?;
    drop(namespace);
    teardown(&wanted)?;
    Ok(took)
}

fn container(host: u8) -> Result<(Wanted, IpAddr)> {
    let [a, b, c, _] = GATEWAY;
    let address = IpAddr::from([a, b, c, host]);
    let attachment = Attachment {
        bridge: NAME.parse()?,
        host_interface: format!("tb-{host}").parse()?,
        interface: "eth0".parse()?,
        mac: MacAddress::for_address(address),
        addresses: vec![format!("{address}/24").parse()?],
        gateways: vec![IpAddr::from(GATEWAY)],
    };
    let namespace = format!("tare-bench-{host}").parse()?;
    Ok((Wanted { namespace, attachments: vec![attachment] }, address))
}

/// The same by as few programs as can do it.
fn by_programs(host: u8) -> Result<Duration> {
    let name = format!("tare-bench-{host}");
    let port = format!(
        "link add tb-{host} type veth peer name eth0 netns {name}\n\
         link set tb-{host} master {NAME} up\n"
    );
    let inside = format!(
        "link set lo up\naddr add 10.99.0.{host}/24 dev eth0\n\
         link set eth0 up\nroute add default via 10.99.0.1\n"
    );
    let element = format!(
        "add table inet {NAME}_ip\n\
         add set inet {NAME}_ip containers {{ type ipv4_addr; }}\n\
         add element inet {NAME}_ip containers {{ 10.99.0.{host} }}\n"
    );
    let begun = Instant::now();
    run(&["ip", "netns", "add", &name], "")?;
    run(&["ip", "-batch", "-"], &port)?;
    run(&["ip", "-n", &name, "-batch", "-"], &inside)?;
    run(&["nft", "-f", "-"], &element)?;
    let took = begun.elapsed();
    run(&["ip", "netns", "delete", &name], "")?;
    run(&["nft", "delete", "table", "inet", &format!("{NAME}_ip")], "")?;
    Ok(took)
}

fn run(command: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new(command[0]).args(&command[1..]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(input.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
