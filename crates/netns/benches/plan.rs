//! How long it takes to decide about a container's network.
#![expect(clippy::unwrap_used, reason = "a bench has no caller to report to")]

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use divan::{Bencher, black_box};
use tare_netns::lease::{Freed, Pool};
use tare_netns::{Attachment, Link, MacAddress, Wanted, choose_subnet};

fn main() {
    divan::main();
}

/// By the number of interfaces.
#[divan::bench(args = [1, 8])]
fn plan(bencher: Bencher<'_, '_>, interfaces: u8) {
    let wanted = Wanted {
        namespace: "bench".parse().unwrap(),
        attachments: (0..interfaces).map(attachment).collect(),
    };
    bencher.bench(|| tare_netns::plan(&wanted));
}

fn attachment(number: u8) -> Attachment {
    let address = IpAddr::from([10, 88, number, 2]);
    Attachment {
        link: Link::Bridge {
            bridge: format!("tare{number}").parse().unwrap(),
            host_interface: format!("ve-{number}").parse().unwrap(),
            vlan: None,
        },
        interface: format!("eth{number}").parse().unwrap(),
        mac: MacAddress::for_address(address),
        addresses: vec![format!("{address}/24").parse().unwrap()],
        gateways: vec![IpAddr::from([10, 88, number, 1])],
        position: number.into(),
    }
}

const NOON: SystemTime = SystemTime::UNIX_EPOCH;

#[divan::bench]
fn choose_an_address_that_is_new(bencher: Bencher<'_, '_>) {
    let (pool, highest) = (pool(), Some(address(100)));
    bencher.bench(|| pool.choose(black_box(highest), None, NOON));
}

#[divan::bench]
fn choose_an_address_that_was_freed(bencher: Bencher<'_, '_>) {
    let (pool, highest) = (pool(), Some(address(254)));
    let freed = Some(Freed { address: address(7), at: NOON });
    bencher.bench(|| pool.choose(black_box(highest), freed, NOON + Duration::from_secs(3600)));
}

fn pool() -> Pool {
    Pool::new("10.88.0.0/24".parse().unwrap(), address(1), Duration::from_secs(60)).unwrap()
}

fn address(host: u8) -> IpAddr {
    IpAddr::from([10, 88, 0, host])
}

/// By the number of prefixes that the host has routes for, all of them in the way.
#[divan::bench(args = [0, 200])]
fn choose_a_subnet(bencher: Bencher<'_, '_>, routes: u8) {
    let net = |number| format!("10.88.{number}.0/24").parse().unwrap();
    let avoid: Vec<_> = (0..routes).map(net).collect();
    let pool = "10.88.0.0/16".parse().unwrap();
    bencher.bench(|| choose_subnet(pool, 24, &avoid));
}
