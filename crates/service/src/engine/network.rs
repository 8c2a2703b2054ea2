//! The default network: its bridge and table on the host, and addresses for containers.

mod subnet;

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
use super::records::Version;
use super::records::durable::{self, NetworkDefinition, NetworkRow};
use super::records::{self, volatile};
use super::view;
use crate::config;
use crate::db::Db;
use crate::instance::Tag;

/// Name of the network a container is on if nobody says otherwise.
pub(super) const DEFAULT: &str = "tare";
/// Key of the note that there is a firewall table of ours.
const TABLE: &str = "firewall-table";

/// The default network and what it has on the host.
#[derive(Debug)]
pub(super) struct Network {
    row: NetworkRow,
    state: Db,
    run: Db,
    tag: Tag,
    pool: Ipv4Net,
    quarantine: Duration,
    /// What it is when its bridge is there; until then the one in the row is an intention.
    subnet: OnceCell<Ipv4Net>,
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
        Ok(Self {
            row,
            state: state.clone(),
            run,
            tag,
            pool: config.pool,
            quarantine: config.quarantine,
            subnet: OnceCell::new(),
            firewall: OnceCell::new(),
        })
    }

    /// Makes the bridge before the first address is given, so that the subnet is this daemon's
    /// alone: with another one if somebody has taken it since it was chosen.
    pub(super) async fn settle(&self, name: &ContainerName) -> Result<(), Error> {
        self.subnet.get_or_try_init(|| self.take_subnet(name)).await.map(drop)
    }

    async fn take_subnet(&self, name: &ContainerName) -> Result<Ipv4Net, Error> {
        let lock = brief(subnet::lock_host).await?;
        let known = self.row.definition.subnet;
        let subnet = if self.run.run(volatile::leased).await?.is_empty() {
            let (bridge, pool) = (self.row.bridge.clone(), self.pool);
            brief(move || subnet::keep_or_choose(known, &bridge, pool)).await?
        } else {
            // Containers have addresses of it.
            known
        };
        if subnet != known {
            self.move_to(subnet).await?;
        }
        let (bridge, name) = (self.bridge_in(subnet), name.clone());
        brief(move || {
            let failed = |source| Error::Network { name, source: Box::new(source) };
            tare_netns::ensure_bridge(&bridge).map_err(failed)
        })
        .await?;
        drop(lock);
        Ok(subnet)
    }

    /// Writes down another subnet. Addresses that rest are of the one before, and go first: none
    /// of them may be given out in the new one.
    async fn move_to(&self, subnet: Ipv4Net) -> Result<(), Error> {
        tracing::info!("another has taken {}; containers get {subnet}", self.row.definition.subnet);
        self.run.run(|c| volatile::forget_free_leases(c, DEFAULT)).await?;
        let definition = NetworkDefinition { version: Version, subnet };
        self.state.run(move |c| durable::redefine_network(c, DEFAULT, &definition)).await?;
        Ok(())
    }

    fn subnet(&self) -> Ipv4Net {
        self.subnet.get().copied().unwrap_or(self.row.definition.subnet)
    }

    fn gateway(&self) -> IpAddr {
        gateway(self.subnet())
    }

    fn prefixed(&self, address: IpAddr) -> IpNet {
        IpNet::new_assert(address, self.subnet().prefix_len())
    }

    fn bridge_in(&self, subnet: Ipv4Net) -> Bridge {
        let gateways = vec![IpNet::new_assert(gateway(subnet), subnet.prefix_len())];
        Bridge { name: self.row.bridge.clone(), gateways, mtu: None, vlan: None }
    }

    /// Gives `id` an address; in one transaction with what is done with it, so that no address is
    /// taken by a container that was never begun.
    pub(super) fn lease(&self, c: &Connection, id: &ContainerId) -> Result<IpAddr, Error> {
        let exhausted = || Error::AddressesExhausted(DEFAULT.into());
        let subnet = IpNet::V4(self.subnet());
        let pool = Pool::new(subnet, self.gateway(), self.quarantine).map_err(|_| exhausted())?;
        let highest = volatile::highest_lease(c, DEFAULT)?;
        let oldest = volatile::oldest_free_lease(c, DEFAULT)?
            .map(|(address, at)| Freed { address, at: UNIX_EPOCH + Duration::from_micros(at.0) });
        let address = match (pool.choose(highest, oldest, std::time::SystemTime::now()), oldest) {
            (Choice::Fresh(address) | Choice::Reused(address), _) => address,
            // Where containers come and go faster than addresses rest, the one that has rested
            // longest is better than none.
            (Choice::Wait(_), Some(freed)) => freed.address,
            (Choice::Wait(_) | Choice::Exhausted, _) => return Err(exhausted()),
        };
        volatile::take_lease(c, DEFAULT, address, id)?;
        Ok(address)
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

    /// Makes bridge and table if they are not there, and then the container's namespace.
    pub(super) async fn set_up(&self, name: &ContainerName, wanted: Wanted) -> Result<(), Error> {
        let failed = {
            let name = name.clone();
            move |source| Error::Network { name: name.clone(), source: Box::new(source) }
        };
        let firewall = self.firewall().await.map_err(&failed)?;
        let bridge = self.bridge_in(self.subnet());
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
        let noted =
            run.run(|c| Ok::<_, Error>((records::meta(c, TABLE)?, volatile::leased(c)?))).await;
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
    /// `/run/netns` a mount point if nobody else is there.
    pub(super) async fn leave_host(&self) {
        let bridge = self.row.bridge.clone();
        let noted = self.run.run(|c| records::meta(c, TABLE)).await;
        // An earlier daemon may have made the table.
        let firewall = match noted.unwrap_or_default() {
            Some(_) => self.firewall().await.ok(),
            None => None,
        };
        let work = move || {
            if let Err(error) = tare_netns::release_directory() {
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
        if let Err(error) = self.run.run(|c| records::set_meta(c, TABLE, "made")).await {
            tracing::warn!("the firewall table may stay: {error}");
        }
        let table = self.tag.table();
        let open = tokio::task::spawn_blocking(move || Firewall::open(&table).map(Arc::new));
        open.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

async fn create(state: &Db, tag: &Tag, pool: Ipv4Net) -> Result<NetworkRow, Error> {
    let subnet = brief(move || subnet::choose(pool)).await?;
    let row = NetworkRow {
        name: DEFAULT.into(),
        id: super::random_id()?.to_string(),
        owner_uid: 0,
        created: Usec::now(),
        bridge: tag.default_bridge(),
        definition: NetworkDefinition { version: Version, subnet },
    };
    let written = row.clone();
    state.run(move |c| durable::insert_network(c, &written)).await?;
    Ok(row)
}

/// The first address of a subnet is the bridge's.
fn gateway(subnet: Ipv4Net) -> IpAddr {
    subnet.hosts().next().unwrap_or_else(|| subnet.network()).into()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Durability;

    /// A network with room for one container.
    fn small(run: &Db) -> Network {
        let row = NetworkRow::sample(DEFAULT);
        Network {
            pool: row.definition.subnet,
            row,
            state: run.clone(),
            run: run.clone(),
            tag: Tag::NONE,
            quarantine: Duration::ZERO,
            subnet: OnceCell::new(),
            firewall: OnceCell::new(),
        }
    }

    #[tokio::test]
    async fn a_container_that_cannot_have_all_its_addresses_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.db");
        let run = Db::open(&path, Durability::ProcessCrash, volatile::MIGRATIONS).unwrap();
        let (network, id) = (Arc::new(small(&run)), super::super::random_id().unwrap());
        let (both, one) = (network.clone(), id.clone());
        let refused = run.run(move |c| Ok((both.lease(c, &one)?, both.lease(c, &one)?))).await;
        assert!(matches!(refused, Err(Error::AddressesExhausted(_))), "{refused:?}");
        assert_eq!(run.run(volatile::leased).await.unwrap(), Vec::<IpAddr>::new());
        let one = run.run(move |c| network.lease(c, &id)).await.unwrap();
        assert_eq!(one, IpAddr::from([10, 88, 0, 2]));
    }
}
