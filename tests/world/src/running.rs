//! What a daemon that runs has more than one that has just begun, and has no container.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::things::Things;
use super::{Change, Difference, Scope};

/// What is on the host of the networks that were used, and what answers names there.
#[derive(Debug)]
pub(super) struct Running {
    /// Interfaces of the networks that it has.
    bridges: Vec<String>,
    /// Its tables.
    tables: Vec<String>,
    /// How many more descriptors it may have, each by what it is.
    descriptors: HashMap<String, usize>,
}

/// Where names are answered: a thread that waits for events, and what it is woken by.
const NAME_SERVER: [(&str, usize); 3] =
    [("eventfd", 1), ("eventpoll", 2), ("socket, unix stream", 1)];
/// At each address of a network it is asked there, by datagrams and by connections.
const NAMES: u16 = 53;
/// Who has the table, from the first network that is used on; and who is asked of connections, from the first
/// published port on.
const FILTER: (&str, usize) = ("socket, netlink netfilter", 2);
/// Sets of which the elements are networks. Those of the others are of containers.
const OF_NETWORKS: [&str; 6] = ["networks", "within", "localnet", "internal", "isolated", "closed"];

impl Running {
    /// By the rows and the addresses that are there.
    pub(super) fn of(rows: &Things, addresses: &Things) -> Self {
        let (mut bridges, mut tables) = (Vec::new(), Vec::new());
        for (name, how) in rows.iter() {
            let value = |key: &str| how.split(' ').find_map(|field| field.strip_prefix(key));
            if name.contains(".db networks ") {
                bridges.extend(value("bridge=").map(Into::into));
            } else if name.ends_with(".db meta tag") {
                let tag = value("value=").unwrap_or_default();
                tables.push(if tag.is_empty() {
                    "inet tare".into()
                } else {
                    format!("inet tare_{tag}")
                });
            }
        }
        let descriptors = HashMap::from([(FILTER.0.into(), FILTER.1)]);
        let mut running = Self { bridges, tables, descriptors };
        running.expect_names_at(addresses);
        running
    }

    /// Names are answered at those of these addresses that are of its networks.
    fn expect_names_at(&mut self, addresses: &Things) {
        let names = addresses.iter().map(|(name, _)| name);
        let ours: Vec<&str> = names.filter(|it| self.is_on_bridge(it, " on ")).collect();
        for address in &ours {
            let address = address.split('/').next().and_then(|it| it.parse::<IpAddr>().ok());
            let at = SocketAddr::new(address.expect("an address begins with it"), NAMES);
            for socket in [format!("socket, udp at {at}"), format!("socket, tcp, listens at {at}")]
            {
                self.descriptors.insert(socket, 1);
            }
        }
        if !ours.is_empty() {
            self.descriptors.extend(NAME_SERVER.map(|(what, count)| (what.into(), count)));
        }
    }

    /// Whether a difference is one of these.
    pub(super) fn keeps(&mut self, scope: &Scope, difference: &Difference) -> bool {
        let Change::New(how) = &difference.change else { return false };
        let name = difference.name.as_str();
        match difference.kind {
            "link" => how.contains("kind bridge ") && self.bridges.iter().any(|it| it == name),
            "address" => self.is_on_bridge(name, " on "),
            "route" => self.is_on_bridge(name, " dev "),
            "firewall" => {
                self.tables.iter().any(|table| is_of_table(table, name)) || self.passes(name)
            }
            "descriptor" => self.may_have(name),
            // That of all names, which is there for others to see.
            "mount" => name == "/run/netns" && how.starts_with("tmpfs /netns of "),
            "AppArmor profile" => scope.profiles.iter().any(|it| it == name),
            _ => false,
        }
    }

    fn is_on_bridge(&self, name: &str, word: &str) -> bool {
        let interface = name.split_once(word).and_then(|(_, rest)| rest.split(' ').next());
        interface.is_some_and(|it| self.bridges.iter().any(|bridge| bridge == it))
    }

    /// Whether a line of the listing is a rule that lets a bridge pass Docker's firewall.
    fn passes(&self, name: &str) -> bool {
        let comment = name.split_once("/chain DOCKER-USER: ").and_then(|(_, rule)| {
            let (_, comment) = rule.split_once("comment \"tare-netns ")?;
            comment.split([' ', '"']).next()
        });
        comment.is_some_and(|it| self.bridges.iter().any(|bridge| bridge == it))
    }

    fn may_have(&mut self, kind: &str) -> bool {
        let Some(more) = self.descriptors.get_mut(kind).filter(|more| **more > 0) else {
            return false;
        };
        *more -= 1;
        true
    }
}

/// Whether a line of the listing is of that table, and not of a container.
fn is_of_table(table: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(table) else { return false };
    let Some(rest) = rest.strip_prefix('/') else {
        return rest.is_empty() || rest.starts_with(':');
    };
    let (block, line) = rest.split_once(": ").unwrap_or((rest, ""));
    match block.split_once(' ') {
        Some(("set" | "map", set)) => {
            let says_how = ["", "type", "flags", "comment"];
            let word = line.split(' ').next().unwrap_or_default();
            says_how.contains(&word) || OF_NETWORKS.contains(&set)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_stays_and_the_elements_of_containers_do_not() {
        for (line, stays) in [
            ("inet tare_0a", true),
            ("inet tare_0a: flags owner", true),
            ("inet tare_0a/chain c: ip saddr 127.0.0.0/8 return", true),
            ("inet tare_0a/set members4: type ifname . ipv4_addr", true),
            ("inet tare_0a/set members4: \"tare0\" . 10.88.0.2", false),
            ("inet tare_0a/map ports4: tcp . 80 : 10.88.0.2 . 80", false),
            ("inet tare_0a/set networks: \"tare0\"", true),
            ("inet tare_0ab", false),
            ("inet other/set networks: \"tare0\"", false),
        ] {
            assert_eq!(is_of_table("inet tare_0a", line), stays, "{line}");
        }
    }

    #[test]
    fn names_are_answered_at_addresses_of_networks_and_nowhere_else() {
        let things = |name: &str, how: &str| -> Things {
            [(name.to_owned(), how.to_owned())].into_iter().collect()
        };
        let rows = things("/s/state.db networks tare", "id=x bridge=tare0 owner_uid=0");
        for (about, address, names) in [
            ("its network", "10.88.0.1/24 on tare0", 1),
            ("that of another", "10.88.0.1/24 on eth0", 0),
        ] {
            let mut running = Running::of(&rows, &things(address, "scope global"));
            let mut keeps = |kind, name: &str| {
                let change = Change::New("kind bridge mtu".into());
                let difference = Difference { kind, name: name.into(), change };
                running.keeps(&Scope::default(), &difference)
            };
            assert!(keeps("link", "tare0") && !keeps("link", "tare1"));
            assert_eq!(keeps("address", address), names == 1, "{about}");
            for (what, most) in [
                ("socket, udp at 10.88.0.1:53", names),
                ("socket, tcp, listens at 10.88.0.1:53", names),
                ("socket, unix stream", names),
                ("eventfd", names),
                FILTER,
                ("socket, udp at 10.88.0.2:53", 0),
                ("socket, udp", 0),
                ("socket", 0),
                ("pipe", 0),
            ] {
                let kept = (0..4).filter(|_| keeps("descriptor", what)).count();
                assert_eq!(kept, most, "{about}: {what}");
            }
        }
    }
}
