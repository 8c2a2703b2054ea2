//! Networks.

use ipnet::Ipv4Net;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tare_netns::InterfaceName;

use super::text;
use crate::db::Error;
use crate::engine::clock::Usec;
use crate::engine::records::document::{Version, from_document, to_document};

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkRow {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) owner_uid: u32,
    pub(crate) created: Usec,
    pub(crate) bridge: InterfaceName,
    pub(crate) definition: NetworkDefinition,
}

/// What was asked for, or chosen, when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct NetworkDefinition {
    #[serde(rename = "v")]
    pub(crate) version: Version<1>,
    pub(crate) subnet: Ipv4Net,
}

/// Adds a network.
pub(crate) fn insert_network(c: &Connection, network: &NetworkRow) -> Result<(), Error> {
    c.execute(
        "INSERT INTO networks (name, id, owner_uid, created_usec, bridge, definition)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            network.name,
            network.id,
            network.owner_uid,
            network.created.as_i64(),
            network.bridge.as_str(),
            to_document("network", &network.definition)?,
        ],
    )?;
    Ok(())
}

/// From now on a network is as `definition` says.
pub(crate) fn redefine_network(
    c: &Connection,
    name: &str,
    definition: &NetworkDefinition,
) -> Result<(), Error> {
    let definition = to_document("network", definition)?;
    let changed =
        c.execute("UPDATE networks SET definition = ?2 WHERE name = ?1", [name, &definition])?;
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed).into()) }
}

/// All networks.
pub(crate) fn networks(c: &Connection) -> Result<Vec<NetworkRow>, Error> {
    let mut query = c.prepare("SELECT * FROM networks ORDER BY name")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let definition: String = row.get("definition")?;
        found.push(NetworkRow {
            name: row.get("name")?,
            id: row.get("id")?,
            owner_uid: row.get("owner_uid")?,
            created: Usec::from_i64(row.get("created_usec")?),
            bridge: text(row, "bridge")?,
            definition: from_document("network", &definition)?,
        });
    }
    Ok(found)
}

#[cfg(test)]
impl NetworkRow {
    pub(crate) fn sample(name: &str) -> Self {
        Self {
            name: name.into(),
            id: format!("{:064x}", 7),
            owner_uid: 0,
            created: Usec(1),
            bridge: "tare0".parse().unwrap(),
            definition: NetworkDefinition {
                version: Version,
                subnet: "10.88.0.0/30".parse().unwrap(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::scratch;

    #[test]
    fn a_network_is_read_as_it_was_written() {
        let c = scratch();
        let network = NetworkRow::sample("n");
        insert_network(&c, &network).unwrap();
        assert_eq!(networks(&c).unwrap(), [network]);
        let stored: String =
            c.query_row("SELECT definition FROM networks", [], |row| row.get(0)).unwrap();
        assert_eq!(stored, r#"{"v":1,"Subnet":"10.88.0.0/30"}"#, "the stored form is a format");
        let mut other = NetworkRow::sample("n");
        other.definition.subnet = "10.88.7.0/24".parse().unwrap();
        redefine_network(&c, "n", &other.definition).unwrap();
        redefine_network(&c, "m", &other.definition).unwrap_err();
        assert_eq!(networks(&c).unwrap(), [other]);
    }
}
