//! What containers need to be there: one index, for every kind of thing.
//!
//! It is written with the container, and its foreign keys refuse to let go of what is in it. So
//! whether something is in use is never found out by looking into containers.

use rusqlite::{Connection, params};
use tare_runtime::ContainerId;
use tare_specgen::{NetworkMode, Request};

use crate::db::Error;
use crate::engine::network;

/// Something a container needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The network of that name.
    Network(String),
}

/// All that a container of that request needs.
pub(crate) fn uses(request: &Request) -> Vec<Use> {
    match request.network_mode {
        NetworkMode::Private => vec![Use::Network(network::DEFAULT.into())],
        _ => Vec::new(),
    }
}

/// Writes down what a container needs, instead of what it did before.
pub(super) fn replace(c: &Connection, id: &ContainerId, uses: &[Use]) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM uses WHERE container = ?1")?.execute([id.as_str()])?;
    let mut insert = c.prepare_cached("INSERT INTO uses (container, network) VALUES (?1, ?2)")?;
    for Use::Network(network) in uses {
        insert.execute(params![id.as_str(), network])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::Usec;
    use crate::engine::records::durable::{
        ContainerRow, ImageRow, NetworkRow, delete_container, insert_container, insert_network,
        put_image, scratch, update_definition,
    };
    use tare_storage::Digest;

    #[test]
    fn what_a_container_needs_cannot_be_deleted_before_it() {
        let c = scratch();
        let image = Digest::of(b"image");
        let (layers, references) = (Vec::new(), Vec::new());
        put_image(&c, &ImageRow { id: image, pulled: Usec(1), size: 1, layers, references })
            .unwrap();
        insert_network(&c, &NetworkRow::sample(network::DEFAULT)).unwrap();
        let row = ContainerRow::sample("c");
        insert_container(&c, &row).unwrap();
        let delete = |table: &str| c.execute(&format!("DELETE FROM {table}"), []);
        for needed in ["networks", "images"] {
            assert!(delete(needed).is_err(), "{needed}");
        }
        let mut changed = row.definition.clone();
        changed.request.network_mode = NetworkMode::None;
        update_definition(&c, &row.id, &changed).unwrap();
        let networks: i64 = c.query_row("SELECT count(*) FROM uses", [], |row| row.get(0)).unwrap();
        assert_eq!(networks, 0, "what it needs follows what it is");
        update_definition(&c, &row.id, &row.definition).unwrap();
        assert!(delete("networks").is_err());
        delete_container(&c, &row.id).unwrap();
        for free in ["networks", "images"] {
            assert_eq!(delete(free).unwrap(), 1, "{free}");
        }
    }

    #[test]
    fn a_container_without_a_network_of_its_own_needs_none() {
        for (mode, networks) in
            [(NetworkMode::Private, 1), (NetworkMode::None, 0), (NetworkMode::Host, 0)]
        {
            let mut request = Request::default();
            request.network_mode = mode.clone();
            assert_eq!(uses(&request).len(), networks, "{mode:?}");
        }
    }
}
