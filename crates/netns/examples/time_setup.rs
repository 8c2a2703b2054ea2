//! Prints how long it takes to build and to remove the network of a container.
//!
//! Needs root. Works in namespaces of its own and leaves nothing behind:
//! `cargo run --release --example time_setup`

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::error::Error;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tare_netns::{
    Attachment, Bridge, Firewall, Link, MacAddress, Wanted, ensure_bridge, setup, teardown,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const CONTAINERS: u8 = 200;
const THREADS: usize = 16;

fn main() -> Result<()> {
    isolate()?;
    let bridge =
        Bridge { name: "tare0".parse()?, gateways: vec!["10.88.0.1/24".parse()?], mtu: None, vlan: None };
    ensure_bridge(&bridge)?;
    let firewall = Firewall::open(&"tare".parse()?)?;

    let (mut up, mut down, mut elements) = (Vec::new(), Vec::new(), Vec::new());
    for host in 2..CONTAINERS + 2 {
        let (built, added) = time_up(&firewall, host)?;
        up.push(built);
        elements.push(added);
    }
    for host in 2..CONTAINERS + 2 {
        down.push(time_down(&firewall, host)?);
    }
    print("set up, firewall included", up);
    print("firewall alone", elements);
    print("tear down", down);

    let mut both = Vec::new();
    for host in 2..CONTAINERS + 2 {
        both.push(time_up(&firewall, host)?.0 + time_down(&firewall, host)?);
    }
    print("set up and tear down by turns", both);

    let start = Instant::now();
    in_parallel(|host| {
        let (wanted, address) = container(host)?;
        setup(&wanted)?;
        firewall.add(&[address])?;
        Ok(())
    })?;
    let each = start.elapsed() / u32::from(CONTAINERS);
    println!("{CONTAINERS} set up by {THREADS} threads: {each:?} each");
    let start = Instant::now();
    in_parallel(|host| {
        let (wanted, address) = container(host)?;
        firewall.remove(&[address])?;
        Ok(teardown(&wanted)?)
    })?;
    let each = start.elapsed() / u32::from(CONTAINERS);
    println!("{CONTAINERS} torn down by {THREADS} threads: {each:?} each");
    Ok(())
}

/// The time for all of it, and that for the firewall.
fn time_up(firewall: &Firewall, host: u8) -> Result<(Duration, Duration)> {
    let (wanted, address) = container(host)?;
    let start = Instant::now();
    let _namespace = setup(&wanted)?;
    let built = Instant::now();
    firewall.add(&[address])?;
    Ok((start.elapsed(), built.elapsed()))
}

fn time_down(firewall: &Firewall, host: u8) -> Result<Duration> {
    let (wanted, address) = container(host)?;
    let start = Instant::now();
    firewall.remove(&[address])?;
    teardown(&wanted)?;
    Ok(start.elapsed())
}

fn in_parallel(work: impl Fn(u8) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicU8::new(2);
    let worker = || -> Result<()> {
        loop {
            let host = next.fetch_add(1, Ordering::Relaxed);
            if host >= CONTAINERS + 2 {
                return Ok(());
            }
            work(host)?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker died")?)
    })
}

fn container(host: u8) -> Result<(Wanted, IpAddr)> {
    let address = IpAddr::from([10, 88, 0, host]);
    let attachment = Attachment {
        link: Link::Bridge {
            bridge: "tare0".parse()?,
            host_interface: format!("ve-{host}").parse()?,
            vlan: None,
        },
        interface: "eth0".parse()?,
        mac: MacAddress::for_address(address),
        addresses: vec![format!("{address}/24").parse()?],
        gateways: vec!["10.88.0.1".parse()?],
    };
    let namespace = format!("time-{host}").parse()?;
    Ok((Wanted { namespace, attachments: vec![attachment] }, address))
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{what}: min {:?}, median {:?}, p95 {:?}", times[0], at(50), at(95));
}

#[expect(unsafe_code, reason = "unshare(2) is unsafe in rustix")]
fn isolate() -> Result<()> {
    let flags = UnshareFlags::FS | UnshareFlags::NEWNS | UnshareFlags::NEWNET;
    // SAFETY: descriptors stay shared, and there is no other thread yet.
    unsafe { unshare_unsafe(flags) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None)?;
    Ok(())
}
