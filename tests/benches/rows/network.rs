//! The network of one container.

mod leases;
mod netavark;
mod table;

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use leases::Leases;
use tare_netns::{
    Bridge, ContainerRules, Driver, Firewall, MacAddress, Names, Network, NetworkOptions,
    PortRequest, Protocol, Publication, Reach, SubnetOptions, Wanted, ensure_bridge, remove_bridge,
    reserve, setup, teardown,
};
use tokio::task::spawn_blocking;

use crate::condition::Condition;
use crate::figures::Summary;
use crate::row::{Promise, Rounds, Row, Unit, Who, Work, nothing};
use crate::stage::Stage;
use crate::{Result, millis};

const OURS: Who = Who::Library("tare-netns");
/// It is given the namespace, and not asked to make it.
const NETAVARK: Who = Who::Programs("netavark");
/// The same as ours where nothing is published yet.
const FIRST: Who = Who::Library("the first port");

pub(super) const ROWS: &[Row] = &[BRIDGE, BESIDE, AT_ONCE, PORT, TABLE];

const BRIDGE: Row = Row {
    name: "network",
    measures: "lease, namespace, veth, bridge port, address, route, firewall: set up, median of 20",
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

const BESIDE: Row = Row {
    name: "network-netavark",
    measures: "the same beside what podman has for it, which is given the namespace",
    unit: Unit::Millis,
    must: Some(Promise::Times(8.0, NETAVARK)),
    aim: None,
    contestants: &[OURS, NETAVARK],
    rounds: Rounds { full: 10, quick: 2 },
    under: Condition::BOTH,
    prepare: nothing,
    sample,
    clean: nothing,
};

const AT_ONCE: Row = Row {
    name: "network-at-once",
    measures: "the same for 100 containers at once, all of them",
    unit: Unit::Millis,
    must: Some(Promise::Below(400.0)),
    aim: None,
    contestants: &[OURS],
    rounds: Rounds { full: 10, quick: 2 },
    under: Condition::BOTH,
    prepare: nothing,
    sample: |_, _| Box::pin(async { spawn_blocking(hundred_at_once).await? }),
    clean: nothing,
};

const PORT: Row = Row {
    name: "port",
    measures: "one published port more, with 2,000 present, median of 100",
    unit: Unit::Micros,
    must: Some(Promise::Over(10.0, FIRST)),
    aim: Some(Promise::Over(5.0, FIRST)),
    contestants: &[OURS, FIRST],
    rounds: Rounds { full: 15, quick: 2 },
    under: Condition::BOTH,
    prepare: nothing,
    sample: |_, who| {
        let present = if who == OURS { PORTS } else { 0 };
        Box::pin(async move { spawn_blocking(move || port_more(present)).await? })
    },
    clean: nothing,
};

const TABLE: Row = Row {
    name: "table-back",
    measures: "a table that others can delete, with 2,000 ports: from deleted until it is back",
    unit: Unit::Millis,
    must: Some(Promise::Below(1000.0)),
    aim: None,
    contestants: &[OURS],
    rounds: Rounds { full: 10, quick: 2 },
    under: Condition::PLAIN,
    prepare: nothing,
    sample: |_, _| Box::pin(async { spawn_blocking(table::put_back).await? }),
    clean: nothing,
};

/// Containers in one turn.
const CONTAINERS: u8 = 20;
/// Containers that are set up at once.
const MANY: u8 = 100;
/// Ports that are published already.
const PORTS: u16 = 2000;
/// Of the bridge, and of the firewall's table.
const NAME: &str = "tare_bench";

fn sample(_: &Stage, who: Who) -> Work<'_, f64> {
    // It blocks, and has a runtime of its own.
    Box::pin(async move { spawn_blocking(move || set_up_and_down(who)).await? })
}

fn set_up_and_down(who: Who) -> Result<f64> {
    let host = Host::new()?;
    let times = (0..CONTAINERS).map(|number| match who {
        OURS => host.by_library(number),
        NETAVARK => netavark::set_up(number),
        _ => by_programs(number),
    });
    let times: Vec<f64> = times.map(|took| took.map(millis)).collect::<Result<_>>()?;
    host.clean()?;
    if who == NETAVARK {
        netavark::clean()?;
    }
    Ok(Summary::of(times).ok_or("no containers")?.median)
}

fn hundred_at_once() -> Result<f64> {
    let host = Host::new()?;
    let begun = Instant::now();
    let containers = thread::scope(|scope| {
        let make = |number| host.make(number).map_err(text);
        let one = |number| scope.spawn(move || make(number));
        let all: Vec<_> = (0..MANY).map(one).collect();
        let died = |_| Err("a thread died".into());
        all.into_iter().map(|one| one.join().unwrap_or_else(died)).collect::<Vec<_>>()
    });
    let took = begun.elapsed();
    for made in containers {
        host.unmake(made?)?;
    }
    host.clean()?;
    Ok(millis(took))
}

/// An error that can leave its thread.
fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Microseconds of one more port, where there are so many.
fn port_more(present: u16) -> Result<f64> {
    let host = Host::new()?;
    let ports: Vec<_> = (0..present).map(|at| published(20_000 + at)).collect::<Result<_>>()?;
    ports.iter().try_for_each(|port| host.firewall.admit(port))?;
    let more = |port| -> Result<f64> {
        let rules = published(port)?;
        let begun = Instant::now();
        host.firewall.admit(&rules)?;
        let took = begun.elapsed();
        host.firewall.dismiss(&rules)?;
        Ok(millis(took) * 1000.0)
    };
    let times: Vec<f64> = (50_000..50_100).map(more).collect::<Result<_>>()?;
    host.clean()?;
    Ok(Summary::of(times).ok_or("no ports")?.median)
}

/// A port of the host that leads to a container.
fn published(port: u16) -> Result<ContainerRules> {
    let any = Some(Ipv4Addr::UNSPECIFIED.into());
    let held = reserve(&[PortRequest::new(any, Protocol::Tcp, port, 80, 1)?])?;
    let (v4, v6) = (Some(Ipv4Addr::new(10, 99, 0, 250)), None);
    let publication = Publication { port: held.ports[0], bridge: Some(NAME.parse()?), v4, v6 };
    Ok(ContainerRules { members: Vec::new(), publications: vec![publication] })
}

/// A network, a firewall, and who has which address.
struct Host {
    leases: Leases,
    network: Network,
    bridge: Bridge,
    firewall: Firewall,
}

impl Host {
    fn new() -> Result<Self> {
        Self::with(Firewall::open(&NAME.parse()?)?)
    }

    fn with(firewall: Firewall) -> Result<Self> {
        let network = Network::new(&NetworkOptions {
            driver: Driver::Bridge { interface: NAME.parse()?, vlan: None },
            subnets: vec![SubnetOptions::new("10.99.0.0/24".parse()?)],
            mtu: None,
            reach: Reach::Open,
            names: Names::Off,
        })?;
        let bridge = network.bridge().ok_or("no bridge")?;
        ensure_bridge(&bridge)?;
        firewall.add_network(&network.rules().ok_or("no rules")?)?;
        Ok(Self { leases: Leases::open()?, network, bridge, firewall })
    }

    /// From the lease on.
    fn by_library(&self, number: u8) -> Result<Duration> {
        let begun = Instant::now();
        let made = self.make(number)?;
        let took = begun.elapsed();
        self.unmake(made)?;
        Ok(took)
    }

    fn make(&self, number: u8) -> Result<(Wanted, ContainerRules)> {
        let (wanted, rules) = self.container(number)?;
        drop(setup(&wanted)?);
        self.firewall.admit(&rules)?;
        Ok((wanted, rules))
    }

    fn unmake(&self, (wanted, rules): (Wanted, ContainerRules)) -> Result<()> {
        self.firewall.dismiss(&rules)?;
        Ok(teardown(&wanted)?)
    }

    fn container(&self, number: u8) -> Result<(Wanted, ContainerRules)> {
        let address = self.leases.take(&self.network.subnets()[0], number)?;
        let attachment = self.network.attachment(
            "eth0".parse()?,
            format!("tb-{number}").parse()?,
            MacAddress::for_address(address),
            &[address],
        );
        let namespace = format!("tare-bench-{number}").parse()?;
        let members = self.network.member(&[address]).into_iter().collect();
        let rules = ContainerRules { members, publications: Vec::new() };
        Ok((Wanted { namespace, attachments: vec![attachment] }, rules))
    }

    fn clean(self) -> Result<()> {
        self.firewall.delete_table()?;
        remove_bridge(&self.bridge.name)?;
        self.leases.clean()
    }
}

/// The same by as few programs as can do it.
fn by_programs(number: u8) -> Result<Duration> {
    let host = number + 2;
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
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(input.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
