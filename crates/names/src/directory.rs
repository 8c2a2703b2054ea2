//! Who is on which network, and what that means for a question. Plain data.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::handover;

/// What is done about names that are nobody's here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Foreign {
    /// The host's resolvers are asked.
    Forwarded,
    /// These are asked, one after the other, and the host's are not.
    Asked(Vec<IpAddr>),
    /// The question is refused.
    Refused,
}

/// A container as it is on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// What it is called; its addresses are the first one's.
    pub names: Vec<String>,
    /// What else it answers to, where nobody is called that.
    pub aliases: Vec<String>,
    /// Where it is.
    pub addresses: Vec<IpAddr>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// Where is who is called this?
    Addresses(&'a str),
    /// What is whoever is there called?
    Name(IpAddr),
    /// Something else about that name.
    Other(&'a str),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There.
    Addresses(Vec<IpAddr>),
    /// This.
    Name(String),
    /// There is one, of which nothing is known of what is asked.
    Nothing,
    /// There is none.
    Unknown,
    /// Others may know: these, or, where none are named, the host's resolvers.
    Elsewhere(Vec<IpAddr>),
    /// Nobody here may ask others.
    Refused,
}

/// Who is on which network. Hosts have keys, which are the same on all networks.
#[derive(Clone, Debug)]
pub struct Directory {
    /// With a dot before it.
    domain: String,
    networks: BTreeMap<String, Zone>,
}

/// One network.
#[derive(Clone, Debug)]
struct Zone {
    subnets: Vec<IpNet>,
    foreign: Foreign,
    hosts: HashMap<String, Host>,
    names: HashMap<String, BTreeSet<(Rank, String)>>,
    addresses: HashMap<IpAddr, String>,
}

/// Whose a name is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Name,
    Alias,
}

impl Directory {
    /// One without networks. All names are below `domain`, too; it is written without a dot at
    /// either end.
    pub fn new(domain: &str) -> Self {
        Self { domain: format!(".{}", domain.to_ascii_lowercase()), networks: BTreeMap::new() }
    }

    /// A network is this from now on; who is on it stays.
    pub fn set_network(&mut self, network: &str, subnets: Vec<IpNet>, foreign: Foreign) {
        let zone =
            self.networks.entry(network.to_owned()).or_insert_with(|| Zone::new(foreign.clone()));
        (zone.subnets, zone.foreign) = (subnets, foreign);
    }

    /// Forgets a network, and who is on it.
    pub fn remove_network(&mut self, network: &str) {
        self.networks.remove(network);
    }

    /// From now on the host of that key is this, and on these networks, as far as they are known,
    /// and no others.
    pub fn set_host(&mut self, key: &str, places: Vec<(String, Host)>) {
        for zone in self.networks.values_mut() {
            zone.remove(key);
        }
        for (network, host) in places {
            if let Some(zone) = self.networks.get_mut(&network) {
                zone.insert(key, host);
            }
        }
    }

    /// All of it, with the networks that are asked.
    pub(crate) fn whole(&self, served: Vec<String>) -> handover::Whole {
        let zone = |zone: &Zone| handover::Zone {
            subnets: zone.subnets.clone(),
            foreign: zone.foreign.clone(),
            hosts: zone.hosts.iter().map(|(key, host)| (key.clone(), host.clone())).collect(),
        };
        let networks = self.networks.iter().map(|(name, it)| (name.clone(), zone(it))).collect();
        handover::Whole { domain: self.domain[1..].to_owned(), networks, served }
    }

    /// The one that [`whole`](Self::whole) was said of.
    pub(crate) fn from_whole(domain: &str, networks: BTreeMap<String, handover::Zone>) -> Self {
        let mut directory = Self::new(domain);
        for (name, known) in networks {
            let mut zone = Zone::new(known.foreign);
            zone.subnets = known.subnets;
            for (key, host) in known.hosts {
                zone.insert(&key, host);
            }
            directory.networks.insert(name, zone);
        }
        directory
    }

    /// What is to be answered to somebody who asks on a network. Names are in small letters,
    /// without a dot at the end.
    pub fn answer(&self, network: &str, from: IpAddr, question: Question<'_>) -> Answer {
        let zones = self.zones_of(network, from);
        let elsewhere = || {
            zones
                .iter()
                .find_map(|zone| zone.elsewhere())
                .map_or(Answer::Refused, Answer::Elsewhere)
        };
        match question {
            Question::Name(address) if self.has(address) => {
                let name = zones.iter().find_map(|zone| zone.name_at(address));
                name.map_or(Answer::Unknown, |name| Answer::Name(name.to_owned()))
            }
            Question::Addresses(name) => match find(&zones, self.relative(name)) {
                Some(addresses) => Answer::Addresses(addresses),
                // Nobody outside is to learn the names of containers, or to answer for one that
                // does not run.
                None if self.is_ours(name) || !name.contains('.') => Answer::Unknown,
                None => elsewhere(),
            },
            Question::Other(name) if find(&zones, self.relative(name)).is_some() => Answer::Nothing,
            Question::Other(name) if self.is_ours(name) => Answer::Unknown,
            Question::Name(_) | Question::Other(_) => elsewhere(),
        }
    }

    /// The key of who has an address on a network, if a host does.
    pub(crate) fn host_at(&self, network: &str, address: IpAddr) -> Option<&str> {
        self.networks.get(network)?.addresses.get(&address).map(String::as_str)
    }

    /// The network that is asked on, and those that who asks is on as well: resolvers believe the
    /// first server that says there is no such name.
    fn zones_of(&self, network: &str, from: IpAddr) -> Vec<&Zone> {
        let Some(first) = self.networks.get(network) else { return Vec::new() };
        let key = self.host_at(network, from);
        let others = self.networks.iter().filter(|(name, zone)| {
            name.as_str() != network && key.is_some_and(|key| zone.hosts.contains_key(key))
        });
        std::iter::once(first).chain(others.map(|(_, zone)| zone)).collect()
    }

    fn has(&self, address: IpAddr) -> bool {
        self.networks.values().any(|zone| zone.subnets.iter().any(|net| net.contains(&address)))
    }

    fn is_ours(&self, name: &str) -> bool {
        name.ends_with(&self.domain) || *name == self.domain[1..]
    }

    fn relative<'a>(&self, name: &'a str) -> &'a str {
        name.strip_suffix(self.domain.as_str()).unwrap_or(name)
    }
}

fn find(zones: &[&Zone], name: &str) -> Option<Vec<IpAddr>> {
    zones.iter().find_map(|zone| zone.find(name))
}

impl Zone {
    fn new(foreign: Foreign) -> Self {
        Self {
            subnets: Vec::new(),
            foreign,
            hosts: HashMap::new(),
            names: HashMap::new(),
            addresses: HashMap::new(),
        }
    }

    fn insert(&mut self, key: &str, host: Host) {
        for (rank, name) in host.ranked() {
            self.names.entry(name).or_default().insert((rank, key.to_owned()));
        }
        self.addresses.extend(host.addresses.iter().map(|address| (*address, key.to_owned())));
        self.hosts.insert(key.to_owned(), host);
    }

    fn remove(&mut self, key: &str) {
        let Some(host) = self.hosts.remove(key) else { return };
        for (rank, name) in host.ranked() {
            if let Some(holders) = self.names.get_mut(&name) {
                holders.remove(&(rank, key.to_owned()));
                if holders.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
        for address in &host.addresses {
            if self.addresses.get(address).is_some_and(|holder| holder == key) {
                self.addresses.remove(address);
            }
        }
    }

    /// The addresses of those who have a name before all others.
    fn find(&self, name: &str) -> Option<Vec<IpAddr>> {
        let holders = self.names.get(name)?;
        let (best, _) = holders.first()?;
        let hosts = holders.iter().take_while(|(rank, _)| rank == best);
        let hosts = hosts.filter_map(|(_, key)| self.hosts.get(key));
        Some(hosts.flat_map(|host| host.addresses.iter().copied()).collect())
    }

    /// Who is asked about what is nobody's here, if that may be asked.
    fn elsewhere(&self) -> Option<Vec<IpAddr>> {
        match &self.foreign {
            Foreign::Forwarded => Some(Vec::new()),
            Foreign::Asked(resolvers) => Some(resolvers.clone()),
            Foreign::Refused => None,
        }
    }

    fn name_at(&self, address: IpAddr) -> Option<&str> {
        let host = self.hosts.get(self.addresses.get(&address)?)?;
        host.names.iter().find(|name| is_answerable(name)).map(String::as_str)
    }
}

impl Host {
    /// Its names as they are asked for.
    fn ranked(&self) -> impl Iterator<Item = (Rank, String)> {
        let names = self.names.iter().map(|name| (Rank::Name, name));
        let aliases = self.aliases.iter().map(|alias| (Rank::Alias, alias));
        names.chain(aliases).map(|(rank, name)| (rank, name.to_ascii_lowercase()))
    }
}

/// Whether a question can have this name: labels of 1 to 63 bytes, 253 in all (RFC 1035).
fn is_answerable(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
