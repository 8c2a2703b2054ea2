//! A subnet that nobody else on the host has.
//!
//! What tells others that a subnet is taken is the route of its bridge, and there is none before
//! the first container. So whoever makes a bridge looks at the routes again, under a lock that all
//! daemons of the host share, and gives the lock back when the bridge is there.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use ipnet::{IpNet, Ipv4Net};
use rustix::fs::{FlockOperation, OFlags, flock};
use tare_netns::InterfaceName;

use super::DEFAULT;
use crate::engine::Error;

/// Root's alone, so that nobody else can hold it. It stays: to remove a lock file is a race.
const LOCK: &str = "/run/tare-subnets.lock";
/// Subnets are cut from the pool in this size.
const PREFIX_LEN: u8 = 24;

/// No other daemon of this host makes a bridge as long as this lives.
#[derive(Debug)]
pub(super) struct HostLock(#[expect(dead_code, reason = "closing it gives it back")] File);

/// Waits until no other daemon makes a bridge; blocks.
pub(super) fn lock_host() -> Result<HostLock, Error> {
    let failed = |source| Error::Host { what: "lock the subnets of the host", source };
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).expect("flags of open(2) are an int");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = options.open(LOCK).map_err(failed)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    Ok(HostLock(file))
}

/// The first subnet of `pool` that no route of the host covers.
pub(super) fn choose(pool: Ipv4Net) -> Result<Ipv4Net, Error> {
    first_free(pool, &taken()?)
}

/// `known`, if it is free or has its bridge already, else another of `pool`.
pub(super) fn keep_or_choose(
    known: Ipv4Net,
    bridge: &InterfaceName,
    pool: Ipv4Net,
) -> Result<Ipv4Net, Error> {
    let interfaces = tare_netns::interfaces().map_err(|error| host("list interfaces", error))?;
    if interfaces.iter().any(|(name, _)| name == bridge) {
        return Ok(known);
    }
    let taken = taken()?;
    if is_free(known, &taken) { Ok(known) } else { first_free(pool, &taken) }
}

fn is_free(subnet: Ipv4Net, taken: &[IpNet]) -> bool {
    tare_netns::choose_subnet(subnet, subnet.prefix_len(), taken).is_some()
}

fn first_free(pool: Ipv4Net, taken: &[IpNet]) -> Result<Ipv4Net, Error> {
    let chosen = tare_netns::choose_subnet(pool, PREFIX_LEN, taken);
    chosen.ok_or(Error::NoSubnet { network: DEFAULT.into(), pool })
}

fn taken() -> Result<Vec<IpNet>, Error> {
    tare_netns::host_prefixes().map_err(|error| host("read the routes of the host", error))
}

fn host(what: &'static str, error: tare_netns::Error) -> Error {
    Error::Host { what, source: std::io::Error::other(error) }
}
