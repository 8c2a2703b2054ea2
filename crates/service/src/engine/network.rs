//! The default network: its bridge and table on the host, and addresses for containers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ipnet::{IpNet, Ipv4Net};
use rusqlite::Connection;
use tare_netns::lease::{Choice, Freed, Pool};
use tare_netns::{Attachment, Bridge, Firewall, InterfaceName, IpFamily, Link, MacAddress, Wanted};
use tare_runtime::{ContainerId, ContainerName};
use tokio::sync::OnceCell;

use super::Error;
use super::blocking::brief;
use super::clock::Usec;
use super::records::durable::{self, NetworkRow};
use super::records::{self, volatile};
use super::view;
use crate::config;
use crate::db::{self, Db};
use crate::instance::Tag;

/// Name of the network a container is on if nobody says otherwise.
pub(super) const DEFAULT: &str = "tare";
/// Key of the note that we made `/run/netns` a mount point.
const NETNS_DIRECTORY: &str = "netns-directory";
/// Key of the note that there is a firewall table of ours.
const TABLE: &str = "firewall-table";
/// Subnets are cut from the pool in this size.
const PREFIX_LEN: u8 = 24;

/// The default network and what it has on the host.
#[derive(Debug)]
pub(super) struct Network {
    row: NetworkRow,
    run: Db,
    tag: Tag,
    quarantine: Duration,
    /// Made when a container first needs it.
    firewall: OnceCell<Arc<Firewall>>,
}

impl Network {
    /// The default network, as it is in the database, or as it is chosen now: the first subnet of
    /// `pool` that no route of the host covers.
    pub(super) async fn open(
        state: &Db,
        run: Db,
        tag: Tag,
        config: &config::Network,
    ) -> Result<Self, Error> {
        let known = state.run(durable::networks).await?;
        let row = match known.into_iter().find(|row| row.name == DEFAULT) {
            Some(row) => row,
            None => create(state, &tag, config.pool).await?,
        };
        Ok(Self { row, run, tag, quarantine: config.quarantine, firewall: OnceCell::new() })
    }

    fn gateway(&self) -> IpAddr {
        let gateway = self.row.subnet.hosts().next().unwrap_or_else(|| self.row.subnet.network());
        gateway.into()
    }

    fn prefixed(&self, address: IpAddr) -> IpNet {
        IpNet::new_assert(address, self.row.subnet.prefix_len())
    }

    fn bridge(&self) -> Bridge {
        let gateways = vec![self.prefixed(self.gateway())];
        Bridge { name: self.row.bridge.clone(), gateways, mtu: None, vlan: None }
    }

    /// Gives `id` an address; in one transaction with what is done with it, so that no address is
    /// taken by a container that was never begun.
    pub(super) fn lease(&self, c: &Connection, id: &ContainerId) -> Result<Lease, db::Error> {
        let subnet = IpNet::V4(self.row.subnet);
        let Ok(pool) = Pool::new(subnet, self.gateway(), self.quarantine) else {
            return Ok(Lease::Exhausted);
        };
        let highest = volatile::highest_lease(c, DEFAULT)?;
        let oldest = volatile::oldest_free_lease(c, DEFAULT)?
            .map(|(address, at)| Freed { address, at: UNIX_EPOCH + Duration::from_micros(at.0) });
        let address = match (pool.choose(highest, oldest, std::time::SystemTime::now()), oldest) {
            (Choice::Fresh(address) | Choice::Reused(address), _) => address,
            // Where containers come and go faster than addresses rest, the one that has rested
            // longest is better than none.
            (Choice::Wait(_), Some(freed)) => freed.address,
            (Choice::Wait(_) | Choice::Exhausted, _) => return Ok(Lease::Exhausted),
        };
        volatile::take_lease(c, DEFAULT, address, id)?;
        Ok(Lease::Taken(address))
    }

    /// What the container's own network is to be, with that address.
    pub(super) fn wanted(&self, id: &ContainerId, address: IpAddr) -> Wanted {
        Wanted {
            namespace: self.tag.namespace(id),
            attachments: vec![Attachment {
                link: Link::Bridge {
                    bridge: self.row.bridge.clone(),
                    host_interface: host_interface(id),
                    vlan: None,
                },
                interface: interface(),
                mac: MacAddress::for_address(address),
                addresses: vec![self.prefixed(address)],
                gateways: vec![self.gateway()],
            }],
        }
    }

    /// What others see of it.
    pub(super) fn seen(&self, address: IpAddr) -> view::Address {
        view::Address {
            network: DEFAULT.into(),
            interface: interface(),
            address: self.prefixed(address),
            gateway: Some(self.gateway()),
            mac: MacAddress::for_address(address),
        }
    }

    /// Makes what has to be there before a container's mount namespace is made: that shows the
    /// container's network namespace only if `/run/netns` was a mount point by then.
    pub(super) async fn get_ready(&self, name: &ContainerName) -> Result<(), Error> {
        let ready = self.firewall().await.map(drop);
        ready.map_err(|source| Error::Network { name: name.clone(), source: Box::new(source) })
    }

    /// Makes bridge and table if they are not there, and then the container's namespace.
    pub(super) async fn set_up(&self, name: &ContainerName, wanted: Wanted) -> Result<(), Error> {
        let failed = {
            let name = name.clone();
            move |source| Error::Network { name: name.clone(), source: Box::new(source) }
        };
        let firewall = self.firewall().await.map_err(&failed)?;
        let bridge = self.bridge();
        brief(move || {
            tare_netns::ensure_bridge(&bridge).map_err(&failed)?;
            tare_netns::enable_forwarding(IpFamily::V4).map_err(&failed)?;
            tare_netns::setup(&wanted).map_err(&failed)?;
            firewall.add(&addresses(&wanted)).map_err(&failed)
        })
        .await
    }

    /// Takes down what [`set_up`](Self::set_up) made, or what is there of it.
    pub(super) async fn tear_down(&self, wanted: Wanted) -> Vec<tare_netns::Error> {
        let firewall = self.firewall().await;
        let work = move || {
            let elements = firewall.and_then(|firewall| firewall.remove(&addresses(&wanted)));
            let namespace = tare_netns::teardown(&wanted);
            Ok([elements, namespace].into_iter().filter_map(Result::err).collect())
        };
        brief(work).await.unwrap_or_default()
    }

    /// Takes addresses out of the firewall that no container has, and puts those in that one has:
    /// the table may have been made anew.
    pub(super) async fn sweep(&self, run: &Db) {
        let noted = run.run(|c| Ok((records::meta(c, TABLE)?, volatile::leased(c)?))).await;
        let Ok((Some(_), leased)) = noted else { return };
        let firewall = match self.firewall().await {
            Ok(firewall) => firewall,
            Err(error) => return tracing::warn!("the firewall is not swept: {error}"),
        };
        let work = move || {
            let swept = firewall.list().and_then(|listed| {
                let strays: Vec<_> =
                    listed.into_iter().filter(|address| !leased.contains(address)).collect();
                firewall.remove(&strays)?;
                firewall.add(&leased)
            });
            if let Err(error) = swept {
                tracing::warn!("the firewall is not swept: {error}");
            }
            Ok(())
        };
        let _: Result<(), Error> = brief(work).await;
    }

    /// Takes what is the same for all containers off the host: bridge, table, and what made
    /// `/run/netns` a mount point if that was us.
    pub(super) async fn leave_host(&self) {
        let bridge = self.row.bridge.clone();
        let notes =
            self.run.run(|c| Ok((records::meta(c, NETNS_DIRECTORY)?, records::meta(c, TABLE)?)));
        let (directory, table) = notes.await.unwrap_or_default();
        let ours = directory.is_some();
        // An earlier daemon may have made the table.
        let firewall = match table {
            Some(_) => self.firewall().await.ok(),
            None => None,
        };
        let work = move || {
            if ours && let Err(error) = tare_netns::release_directory() {
                tracing::warn!("cannot leave /run/netns as it was: {error}");
            }
            if let Err(error) = tare_netns::remove_bridge(&bridge) {
                tracing::warn!("cannot remove bridge {bridge}: {error}");
            }
            if let Some(Err(error)) = firewall.map(|firewall| firewall.delete_table()) {
                tracing::warn!("cannot delete the firewall table: {error}");
            }
            Ok(())
        };
        let _: Result<(), Error> = brief(work).await;
    }

    async fn firewall(&self) -> Result<Arc<Firewall>, tare_netns::Error> {
        self.firewall.get_or_try_init(|| self.first_use()).await.cloned()
    }

    /// The table; and a note for [`leave_host`](Self::leave_host), written before the effect.
    async fn first_use(&self) -> Result<Arc<Firewall>, tare_netns::Error> {
        let prepared = tare_netns::directory_is_prepared()?;
        let noted = self.run.run(move |c| {
            records::set_meta(c, TABLE, "made")?;
            if prepared { Ok(()) } else { records::set_meta(c, NETNS_DIRECTORY, "ours") }
        });
        if let Err(error) = noted.await {
            tracing::warn!("the firewall table and /run/netns may stay: {error}");
        }
        let table = self.tag.table();
        let open = tokio::task::spawn_blocking(move || {
            tare_netns::prepare_directory()?;
            Firewall::open(&table).map(Arc::new)
        });
        open.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

/// The outcome of [`Network::lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// This address.
    Taken(IpAddr),
    /// None is free.
    Exhausted,
}

async fn create(state: &Db, tag: &Tag, pool: Ipv4Net) -> Result<NetworkRow, Error> {
    let subnet = brief(move || {
        let avoid = tare_netns::host_prefixes().map_err(|error| Error::Host {
            what: "read the routes of the host",
            source: std::io::Error::other(error),
        })?;
        tare_netns::choose_subnet(pool, PREFIX_LEN, &avoid)
            .ok_or(Error::NoSubnet { network: DEFAULT.into(), pool })
    })
    .await?;
    let row = NetworkRow {
        name: DEFAULT.into(),
        id: super::random_id()?.to_string(),
        owner_uid: 0,
        created: Usec::now(),
        bridge: tag.default_bridge(),
        subnet,
    };
    let written = row.clone();
    state.run(move |c| durable::insert_network(c, &written)).await?;
    Ok(row)
}

fn addresses(wanted: &Wanted) -> Vec<IpAddr> {
    wanted.attachments.iter().flat_map(|a| &a.addresses).map(IpNet::addr).collect()
}

/// The first interface of a container.
fn interface() -> InterfaceName {
    "eth0".parse().expect("eth0 is an interface name")
}

/// The host's end of the veth pair: `ve` and the first twelve digits of the id make 14 bytes.
fn host_interface(id: &ContainerId) -> InterfaceName {
    format!("ve{}", id.short()).parse().expect("14 hex digits and letters are an interface name")
}
