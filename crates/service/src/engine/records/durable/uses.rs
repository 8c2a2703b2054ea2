//! What containers need to be there: one index, for every kind of thing.
//!
//! It is written with the container, and its foreign keys refuse to let go of what is in it. So
//! whether something is in use is never found out by looking into containers.

use rusqlite::{Connection, params};
use tare_netns::NetworkName;
use tare_runtime::ContainerId;
use tare_storage::VolumeName;

use super::DefinitionRow;
use crate::db::Error;
use crate::engine::volume;

/// Something a container needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The network of that name.
    Network(NetworkName),
    /// The volume of that name.
    Volume(VolumeName),
}

/// All that a container of that definition needs.
pub(super) fn uses(definition: &DefinitionRow) -> Vec<Use> {
    let networks = definition.connections.networks.iter();
    let networks = networks.map(|joined| Use::Network(joined.network.clone()));
    networks.chain(volume::used(&definition.request).map(Use::Volume)).collect()
}

/// Writes down what a container needs, instead of what it did before.
pub(super) fn replace(c: &Connection, id: &ContainerId, uses: &[Use]) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM uses WHERE container = ?1")?.execute([id.as_str()])?;
    let mut insert =
        c.prepare_cached("INSERT INTO uses (container, network, volume) VALUES (?1, ?2, ?3)")?;
    for it in uses {
        let (network, volume) = match it {
            Use::Network(name) => (Some(name.as_str()), None),
            Use::Volume(name) => (None, Some(name.as_str())),
        };
        insert.execute(params![id.as_str(), network, volume])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::engine::records::durable::{
        ContainerRow, ImageRow, Joined, NetworkRow, delete_container, delete_network,
        insert_container, insert_network, put_image, scratch, update_definition,
    };
    use tare_storage::Digest;

    #[test]
    fn what_a_container_needs_cannot_be_deleted_before_it() {
        let c = scratch();
        put_image(&c, &ImageRow { id: Digest::of(b"image"), ..ImageRow::sample("i") }).unwrap();
        let network = NetworkRow::sample("n");
        insert_network(&c, &network).unwrap();
        let mut row = ContainerRow::sample("c");
        row.definition.connections.networks.push(Joined {
            network: network.name.clone(),
            position: 0,
            interface: "eth0".parse().unwrap(),
            addresses: Vec::new(),
            mac: None,
            aliases: Vec::new(),
        });
        insert_container(&c, &row).unwrap();
        let delete = |table: &str| c.execute(&format!("DELETE FROM {table}"), []);
        for needed in ["networks", "images"] {
            assert!(delete(needed).is_err(), "{needed}");
        }
        let mut changed = row.definition.clone();
        changed.connections.networks.clear();
        update_definition(&c, &row.id, &changed).unwrap();
        let networks: i64 = c.query_row("SELECT count(*) FROM uses", [], |row| row.get(0)).unwrap();
        assert_eq!(networks, 0, "what it needs follows what it is");
        update_definition(&c, &row.id, &row.definition).unwrap();
        assert!(delete_network(&c, &network.name).unwrap_err().is_in_use());
        delete_container(&c, &row.id).unwrap();
        for free in ["networks", "images"] {
            assert_eq!(delete(free).unwrap(), 1, "{free}");
        }
    }
}
