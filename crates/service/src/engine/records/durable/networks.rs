//! Networks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tare_netns::{Driver, InterfaceName, Names, NetworkName};

use super::text;
use crate::db::Error;
use crate::engine::clock::Usec;
use crate::engine::records::document::{Version, from_document, to_document};

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkRow {
    pub(crate) name: NetworkName,
    pub(crate) id: String,
    pub(crate) owner_uid: u32,
    pub(crate) created: Usec,
    pub(crate) definition: NetworkDefinition,
}

/// What was asked for, or chosen, when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct NetworkDefinition {
    #[serde(rename = "v")]
    pub(crate) version: Version<1>,
    pub(crate) network: tare_netns::Network,
    pub(crate) subnets: Subnets,
    pub(crate) labels: BTreeMap<String, String>,
    /// Who is asked about names that are no container's, in place of the host's resolvers.
    #[serde(rename = "DNSServers", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) servers: Vec<IpAddr>,
}

/// Where the subnets of a network come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Subnets {
    /// Somebody asked for them.
    Given,
    /// They were chosen here, and others are if they are taken by the time they are needed.
    Chosen,
}

impl NetworkDefinition {
    /// The bridge that is its own.
    pub(crate) fn bridge(&self) -> Option<&InterfaceName> {
        match self.network.driver() {
            Driver::Bridge { interface, .. } => Some(interface),
            Driver::Macvlan { .. } => None,
        }
    }

    /// Whether names of containers are answered on it: the host has a place there only on a bridge.
    pub(crate) fn answers_names(&self) -> bool {
        self.network.names() == Names::Answered && self.bridge().is_some()
    }
}

/// Adds a network.
pub(crate) fn insert_network(c: &Connection, network: &NetworkRow) -> Result<(), Error> {
    c.execute(
        "INSERT INTO networks (name, id, owner_uid, created_usec, bridge, definition)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            network.name.as_str(),
            network.id,
            network.owner_uid,
            network.created.as_i64(),
            network.definition.bridge().map(InterfaceName::as_str),
            to_document("network", &network.definition)?,
        ],
    )?;
    Ok(())
}

/// From now on a network is as `definition` says.
pub(crate) fn redefine_network(
    c: &Connection,
    name: &NetworkName,
    definition: &NetworkDefinition,
) -> Result<(), Error> {
    let definition = to_document("network", definition)?;
    let changed = c.execute(
        "UPDATE networks SET definition = ?2 WHERE name = ?1",
        [name.as_str(), &definition],
    )?;
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed).into()) }
}

/// Takes a network out. It is refused while a container needs it.
pub(crate) fn delete_network(c: &Connection, name: &NetworkName) -> Result<(), Error> {
    c.execute("DELETE FROM networks WHERE name = ?1", [name.as_str()])?;
    Ok(())
}

/// A network as it is found: one that cannot be read is no reason not to read the others.
pub(crate) type FoundNetwork = Result<NetworkRow, Error>;

/// All networks.
pub(crate) fn networks(c: &Connection) -> Result<Vec<FoundNetwork>, Error> {
    let mut query = c.prepare("SELECT * FROM networks ORDER BY name")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(network(row));
    }
    Ok(found)
}

fn network(row: &rusqlite::Row<'_>) -> FoundNetwork {
    let definition: String = row.get("definition")?;
    Ok(NetworkRow {
        name: text(row, "name")?,
        id: row.get("id")?,
        owner_uid: row.get("owner_uid")?,
        created: Usec::from_i64(row.get("created_usec")?),
        definition: from_document("network", &definition)?,
    })
}

#[cfg(test)]
impl NetworkRow {
    pub(crate) fn sample(name: &str) -> Self {
        let options = serde_json::json!({
            "driver": {"bridge": {"interface": "tare0", "vlan": null}},
            "subnets": [{"subnet": "10.88.0.0/30", "gateway": null, "range": null}],
        });
        Self {
            name: name.parse().unwrap(),
            id: format!("{:064x}", 7),
            owner_uid: 0,
            created: Usec(1),
            definition: NetworkDefinition {
                version: Version,
                network: serde_json::from_value(options).unwrap(),
                subnets: Subnets::Chosen,
                labels: BTreeMap::new(),
                servers: Vec::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::scratch;

    fn read(c: &Connection) -> Vec<NetworkRow> {
        networks(c).unwrap().into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn a_network_is_read_as_it_was_written() {
        let c = scratch();
        let network = NetworkRow::sample("n");
        insert_network(&c, &network).unwrap();
        assert_eq!(read(&c), std::slice::from_ref(&network));
        let stored: String =
            c.query_row("SELECT definition FROM networks", [], |row| row.get(0)).unwrap();
        let form = serde_json::json!({
            "v": 1,
            "Network": {
                "driver": {"bridge": {"interface": "tare0", "vlan": null}},
                "subnets": [{"subnet": "10.88.0.0/30", "gateway": "10.88.0.1", "range": null}],
                "mtu": null,
                "reach": "open",
                "names": "answered",
            },
            "Subnets": "chosen",
            "Labels": {},
        });
        let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
        assert_eq!(stored, form, "the stored form is a format");
        let mut other = network;
        other.definition.labels.insert("a".into(), "b".into());
        other.definition.servers.push("192.0.2.1".parse().unwrap());
        redefine_network(&c, &other.name, &other.definition).unwrap();
        redefine_network(&c, &"m".parse().unwrap(), &other.definition).unwrap_err();
        assert_eq!(read(&c), [other.clone()]);
        delete_network(&c, &other.name).unwrap();
        assert_eq!(read(&c), []);
    }

    #[test]
    fn one_that_cannot_be_read_hides_no_other() {
        let c = scratch();
        insert_network(&c, &NetworkRow::sample("n")).unwrap();
        c.execute_batch("INSERT INTO networks VALUES ('bad', '', 0, 0, 'tare9', '{\"v\":2}')")
            .unwrap();
        let found = networks(&c).unwrap();
        assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
    }
}
