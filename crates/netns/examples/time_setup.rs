//! Prints how long it takes to build and to remove the network of a container, and what netavark
//! takes for the same on the same machine.
//!
//! Needs root, and for the comparison netavark. Works in namespaces of its own and leaves nothing
//! behind: `cargo run --release --example time_setup [NETAVARK]`

#![allow(clippy::disallowed_methods, reason = "a program that measures makes its own surroundings")]
#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::error::Error;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use tare_netns::lease::{Choice, Freed};
use tare_netns::{
    ContainerRules, Driver, Firewall, IpFamily, MacAddress, Names, Network, NetworkOptions,
    PortRequest, Protocol, Publication, PublishedPort, Reach, SubnetOptions, Wanted, ensure_bridge,
    reserve, setup, teardown,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const CONTAINERS: u8 = 200;
const AT_ONCE: u8 = 100;
const NETAVARK_RUNS: u8 = 30;
const PORTS_PRESENT: u16 = 2000;

fn main() -> Result<()> {
    isolate()?;
    let host = Host::new()?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for number in 0..CONTAINERS {
        up.push(timed(|| host.add(number))?);
    }
    for number in 0..CONTAINERS {
        down.push(timed(|| host.remove(number))?);
    }
    print("set up: lease, namespace, veth, address, route, firewall, port", &up);
    print("tear down", &down);
    let mut turns = Vec::new();
    for number in 0..CONTAINERS {
        turns.push(timed(|| host.add(number))?);
        host.remove(number)?;
    }
    let ours = print("set up, each torn down before the next", &turns);
    host.time_ports()?;
    host.time_at_once()?;
    let netavark = std::env::args().nth(1);
    match time_netavark(netavark.as_deref().unwrap_or("/usr/lib/podman/netavark")) {
        Ok(theirs) => {
            let theirs = print("netavark setup, the namespace being there", &theirs);
            println!("ratio of the medians: {:.1}", theirs.as_secs_f64() / ours.as_secs_f64());
        }
        Err(error) => println!("netavark is not compared: {error}"),
    }
    Ok(())
}

/// A network and a firewall.
struct Host {
    network: Network,
    firewall: Firewall,
}

impl Host {
    fn new() -> Result<Self> {
        let network = Network::new(&NetworkOptions {
            driver: Driver::Bridge { interface: "tare0".parse()?, vlan: None },
            subnets: vec![SubnetOptions::new("10.88.0.0/24".parse()?)],
            mtu: None,
            reach: Reach::Open,
            names: Names::Off,
        })?;
        let firewall = Firewall::open(&"tare".parse()?)?;
        firewall.enable_forwarding(IpFamily::V4)?;
        ensure_bridge(&network.bridge().ok_or("a bridge network")?)?;
        firewall.add_network(&network.rules().ok_or("a bridge network")?)?;
        Ok(Self { network, firewall })
    }

    /// Everything from the choice of an address to the published port.
    fn add(&self, number: u8) -> Result<()> {
        let (wanted, rules) = self.container(number)?;
        setup(&wanted)?;
        Ok(self.firewall.admit(&rules)?)
    }

    fn remove(&self, number: u8) -> Result<()> {
        let (wanted, rules) = self.container(number)?;
        self.firewall.dismiss(&rules)?;
        Ok(teardown(&wanted)?)
    }

    fn container(&self, number: u8) -> Result<(Wanted, ContainerRules)> {
        let address = self.lease(number)?;
        let attachment = self.network.attachment(
            "eth0".parse()?,
            format!("ve-{number}").parse()?,
            MacAddress::for_address(address),
            &[address],
        );
        let rules = ContainerRules {
            members: self.network.member(&[address]).into_iter().collect(),
            publications: vec![publication(address, 10_000 + u16::from(number))?],
        };
        let namespace = format!("time-{number}").parse()?;
        Ok((Wanted { namespace, attachments: vec![attachment] }, rules))
    }

    fn lease(&self, number: u8) -> Result<IpAddr> {
        let pool = self.network.subnets()[0].pool(Duration::from_secs(60));
        let highest = Some(IpAddr::from([10, 88, 0, number]));
        match pool.choose(highest, None::<Freed>, SystemTime::now()) {
            Choice::Fresh(address) => Ok(address),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// One port more on a container, with none and with many present.
    fn time_ports(&self) -> Result<()> {
        let address = Ipv4Addr::new(10, 88, 0, 250).into();
        let one = |port| -> Result<ContainerRules> {
            let publications = vec![publication(address, port)?];
            Ok(ContainerRules { members: vec![], publications })
        };
        let measure = || -> Result<Vec<Duration>> {
            (0..CONTAINERS)
                .map(|number| {
                    let rules = one(50_000 + u16::from(number))?;
                    let added = timed(|| Ok(self.firewall.admit(&rules)?))?;
                    self.firewall.dismiss(&rules)?;
                    Ok(added)
                })
                .collect()
        };
        print("one port more, with none present", &measure()?);
        for port in 0..PORTS_PRESENT {
            self.firewall.admit(&one(20_000 + port)?)?;
        }
        print(&format!("one port more, with {PORTS_PRESENT} present"), &measure()?);
        for port in 0..PORTS_PRESENT {
            self.firewall.dismiss(&one(20_000 + port)?)?;
        }
        Ok(())
    }

    fn time_at_once(&self) -> Result<()> {
        let all = timed(|| at_once(|number| self.add(number)))?;
        println!("{AT_ONCE} set up at once: {all:?}");
        let all = timed(|| at_once(|number| self.remove(number)))?;
        println!("{AT_ONCE} torn down at once: {all:?}");
        Ok(())
    }
}

fn publication(address: IpAddr, port: u16) -> Result<Publication> {
    let IpAddr::V4(v4) = address else { return Err("IPv4 here".into()) };
    let bridge = Some("tare0".parse()?);
    Ok(Publication { port: reserved(port)?, bridge, v4: Some(v4), v6: None })
}

fn reserved(port: u16) -> Result<PublishedPort> {
    let any = Some(Ipv4Addr::UNSPECIFIED.into());
    Ok(reserve(&[PortRequest::new(any, Protocol::Tcp, port, 80, 1)?])?.ports[0])
}

fn at_once(work: impl Fn(u8) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicU8::new(0);
    let worker = || work(next.fetch_add(1, Ordering::Relaxed));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker died")?)
    })
}

/// The same network and one port by netavark.
fn time_netavark(program: &str) -> Result<Vec<Duration>> {
    std::fs::create_dir_all("/run/netavark")?;
    (0..NETAVARK_RUNS)
        .map(|number| {
            let name = format!("theirs-{number}");
            run(Command::new("ip").args(["netns", "add", &name]), "")?;
            let path = format!("/run/netns/{name}");
            let request = netavark_request(number);
            let netavark = |verb: &str| {
                let mut command = Command::new(program);
                command.args(["--config", "/run/netavark", verb, &path]);
                command
            };
            let time = timed(|| run(&mut netavark("setup"), &request))?;
            run(&mut netavark("teardown"), &request)?;
            run(Command::new("ip").args(["netns", "delete", &name]), "")?;
            Ok(time)
        })
        .collect()
}

fn netavark_request(number: u8) -> String {
    let id = "0".repeat(62) + &format!("{number:02x}");
    let port = 30_000 + u16::from(number);
    let address = Ipv4Addr::new(10, 89, 0, number + 2);
    format!(
        r#"{{"container_id":"{id}","container_name":"theirs-{number}",
        "networks":{{"theirs":{{"static_ips":["{address}"],"interface_name":"eth0"}}}},
        "network_info":{{"theirs":{{"name":"theirs","id":"{id}","driver":"bridge",
        "network_interface":"theirs0","created":"2026-01-01T00:00:00Z",
        "subnets":[{{"subnet":"10.89.0.0/24","gateway":"10.89.0.1"}}],"ipv6_enabled":false,
        "internal":false,"dns_enabled":false,"ipam_options":{{"driver":"host-local"}}}}}},
        "port_mappings":[{{"host_ip":"","container_port":80,"host_port":{port},"range":1,
        "protocol":"tcp"}}]}}"#
    )
}

fn run(command: &mut Command, input: &str) -> Result<()> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}").into()) }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// The median, which is printed with its neighbours.
fn print(what: &str, times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{what}: min {:?}, median {:?}, p95 {:?}", times[0], at(50), at(95));
    at(50)
}

fn isolate() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None)?;
    run(Command::new("ip").args(["link", "set", "lo", "up"]), "")
}
