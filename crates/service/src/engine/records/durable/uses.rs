//! What containers need to be there: one index, for every kind of thing.
//!
//! It is written with the container, and its foreign keys refuse to let go of what is in it. So
//! whether something is in use is never found out by looking into containers.

use rusqlite::{Connection, params};
use tare_netns::NetworkName;
use tare_runtime::ContainerId;
use tare_specgen::SecretName;
use tare_storage::{Digest, VolumeName};

use super::DefinitionRow;
use crate::db::Error;
use crate::engine::{mount, secret, volume};

/// Something a container needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The network of that name.
    Network(NetworkName),
    /// The volume of that name.
    Volume(VolumeName),
    /// An image that it mounts; the one it is made from is in its row.
    Image(Digest),
    /// The secret of that name.
    Secret(SecretName),
    /// The container of that id: it shares namespaces of it.
    Container(ContainerId),
}

/// All that a container of that definition needs.
pub(super) fn uses(definition: &DefinitionRow) -> Vec<Use> {
    let networks = definition.connections.networks.iter();
    let networks = networks.map(|joined| Use::Network(joined.network.clone()));
    let volumes = volume::used(&definition.request).map(Use::Volume);
    let images = mount::mounted_images(&definition.request).into_iter().map(Use::Image);
    let others = definition.request.shares_with().into_iter();
    let others = others.filter_map(|id| id.as_str().parse().ok()).map(Use::Container);
    let secrets = secret::used(&definition.request).into_iter().map(Use::Secret);
    networks.chain(volumes).chain(secrets).chain(images).chain(others).collect()
}

/// Writes down what a container needs, instead of what it did before.
pub(super) fn replace(c: &Connection, id: &ContainerId, uses: &[Use]) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM uses WHERE container = ?1")?.execute([id.as_str()])?;
    for it in uses {
        let (column, key) = match it {
            Use::Network(name) => ("network", name.to_string()),
            Use::Volume(name) => ("volume", name.to_string()),
            Use::Image(id) => ("image", id.to_string()),
            Use::Secret(name) => ("secret", name.to_string()),
            Use::Container(id) => ("other", id.to_string()),
        };
        c.prepare_cached(&format!("INSERT INTO uses (container, {column}) VALUES (?1, ?2)"))?
            .execute(params![id.as_str(), key])?;
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

    #[test]
    fn a_container_cannot_be_deleted_before_those_who_share_its_network() {
        let c = scratch();
        put_image(&c, &ImageRow { id: Digest::of(b"image"), ..ImageRow::sample("i") }).unwrap();
        let owner = ContainerRow::sample("owner");
        insert_container(&c, &owner).unwrap();
        let mut sharer = ContainerRow::sample("sharer");
        let id = owner.id.as_str().parse().unwrap();
        sharer.definition.request.network_mode = tare_specgen::NetworkMode::Container(id);
        insert_container(&c, &sharer).unwrap();
        assert!(delete_container(&c, &owner.id).unwrap_err().is_in_use());
        delete_container(&c, &sharer.id).unwrap();
        delete_container(&c, &owner.id).unwrap();
        assert!(insert_container(&c, &sharer).unwrap_err().is_in_use(), "there is none");
    }
}
