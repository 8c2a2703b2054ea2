//! A subnet that nobody else on the host has.
//!
//! What tells others that a subnet is taken is the route of its bridge, and there is none before
//! the first container. So whoever makes a bridge looks at the routes again, under a lock that all
//! daemons of the host share, and gives the lock back when the bridge is there.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tare_netns::{InterfaceName, Network, NetworkName, NetworkOptions, SubnetOptions};

use crate::effects;
use crate::engine::Error;
use crate::engine::records::durable::{NetworkDefinition, Subnets};

/// Root's alone, so that nobody else can hold it. It stays: to remove a lock file is a race.
const LOCK: &str = "/run/tare-subnets.lock";
/// Subnets are cut from the pool in this size,
const PREFIX_LEN: u8 = 24;
/// and in IPv6 in this one.
const PREFIX_LEN_6: u8 = 64;

/// No other daemon of this host makes a bridge as long as this lives.
#[derive(Debug)]
pub(super) struct HostLock(#[expect(dead_code, reason = "closing it gives it back")] File);

/// Waits until no other daemon makes a bridge; blocks.
pub(super) fn lock_host() -> Result<HostLock, Error> {
    let failed = |source| Error::Host { what: "lock the subnets of the host", source };
    let file = effects::open_lock(Path::new(LOCK)).map_err(failed)?;
    effects::wait_for_lock(&file).map_err(failed)?;
    Ok(HostLock(file))
}

/// What a subnet for a network is chosen from, and what it must not have in common with.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub(super) network: &'a NetworkName,
    pub(super) pool: Ipv4Net,
    /// The subnets of all other networks.
    pub(super) others: Vec<IpNet>,
}

impl Choice<'_> {
    /// The first subnet of the pool that neither a route of the host nor another network covers.
    pub(super) fn v4(&self) -> Result<SubnetOptions, Error> {
        let chosen = tare_netns::choose_subnet(self.pool, PREFIX_LEN, &self.taken()?);
        let chosen = chosen
            .ok_or_else(|| Error::NoSubnet { network: self.network.clone(), pool: self.pool })?;
        Ok(SubnetOptions::new(chosen.into()))
    }

    /// The same, of a network that is not made before somebody needs it: if there is none now, there may be
    /// by then, and until then the first of the pool is as good as another.
    pub(super) fn v4_for_later(&self) -> Result<SubnetOptions, Error> {
        match self.v4() {
            Err(Error::NoSubnet { .. }) => {
                let first =
                    Ipv4Net::new(self.pool.network(), PREFIX_LEN.max(self.pool.prefix_len()));
                let first = first.map_err(|error| Error::Bug(error.to_string()))?;
                Ok(SubnetOptions::new(first.into()))
            }
            chosen => chosen,
        }
    }

    /// A unique local one (RFC 4193).
    pub(super) fn v6(&self) -> Result<SubnetOptions, Error> {
        let random = super::super::random_id()?;
        let mut global_id = [0; 5];
        for (at, byte) in global_id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&random.as_str()[2 * at..2 * at + 2], 16).unwrap_or(0);
        }
        let pool: Ipv6Net = tare_netns::unique_local(global_id);
        let chosen = tare_netns::choose_subnet6(pool, PREFIX_LEN_6, &self.taken()?);
        let chosen = chosen.ok_or_else(|| Error::Bug(format!("no subnet in {pool}")))?;
        Ok(SubnetOptions::new(chosen.into()))
    }

    /// An error if a subnet that somebody asked for is taken.
    pub(super) fn check(&self, network: &Network) -> Result<(), Error> {
        self.check_beside(network, &self.taken()?)
    }

    /// The same, of those alone: what has no route of its own on the host may be where one leads to.
    pub(super) fn check_beside(&self, network: &Network, taken: &[IpNet]) -> Result<(), Error> {
        match network.overlap(taken) {
            None => Ok(()),
            Some((subnet, other)) => {
                Err(Error::SubnetOverlap { network: self.network.clone(), subnet, other })
            }
        }
    }

    /// What a network is to be that is about to be made on the host: with other subnets if those
    /// it had are taken by now, and it did not ask for them; `None` if it stays as it is.
    pub(super) fn renew(&self, definition: &NetworkDefinition) -> Result<Option<Network>, Error> {
        let network = &definition.network;
        match definition.bridge() {
            // Its own route is among those of the host.
            Some(bridge) if exists(bridge)? => return Ok(None),
            // Its subnet is that of its parent.
            None => return Ok(None),
            Some(_) => {}
        }
        match (self.check(network), definition.subnets) {
            (Ok(()), _) => Ok(None),
            (Err(Error::SubnetOverlap { .. }), Subnets::Chosen) => self.choose_anew(network),
            (Err(error), _) => Err(error),
        }
    }

    fn choose_anew(&self, network: &Network) -> Result<Option<Network>, Error> {
        let mut options: NetworkOptions = network.clone().into();
        for subnet in &mut options.subnets {
            *subnet = match subnet.subnet {
                IpNet::V4(_) => self.v4()?,
                IpNet::V6(_) => self.v6()?,
            };
        }
        let network = Network::new(&options).map_err(Error::InvalidNetwork)?;
        Ok(Some(network))
    }

    fn taken(&self) -> Result<Vec<IpNet>, Error> {
        let mut taken = tare_netns::host_prefixes()
            .map_err(|error| host("read the routes of the host", error))?;
        taken.extend(&self.others);
        Ok(taken)
    }
}

/// Whether the host has an interface of that name.
pub(super) fn exists(interface: &InterfaceName) -> Result<bool, Error> {
    tare_netns::has_interface(interface).map_err(looked_for)
}

/// What was to be known when that failed.
pub(super) fn looked_for(error: tare_netns::Error) -> Error {
    host("look for an interface", error)
}

/// An error if no container can have an interface on that one.
pub(super) fn check_parent(parent: &InterfaceName) -> Result<(), Error> {
    match tare_netns::carries_macvlans(parent) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::NoParent(parent.clone())),
        Err(error) => Err(looked_for(error)),
    }
}

/// The addresses that the host has.
pub(super) fn addresses_of_host() -> Result<Vec<IpAddr>, Error> {
    tare_netns::host_addresses().map_err(|error| host("read the addresses of the host", error))
}

fn host(what: &'static str, error: tare_netns::Error) -> Error {
    Error::Host { what, source: std::io::Error::other(error) }
}
