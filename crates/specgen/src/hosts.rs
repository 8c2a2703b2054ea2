//! The container's `/etc/hosts`; see hosts(5).
//!
//! The host's own file is not copied: it tells names of the host's world, and its entry for the
//! host's own name is wrong in the container.

use std::fmt::Write;
use std::net::IpAddr;

use crate::effective::Effective;
use crate::facts::{NetworkFacts, Placement};
use crate::names::{DomainName, Hostname};

/// The name under which a container finds its host.
pub const HOST_NAME: &str = "host.tare.internal";

const LOCALHOST: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// The text of the file.
pub(crate) fn hosts(effective: &Effective, placement: &Placement, hostname: &Hostname) -> String {
    let mut text = LOCALHOST.to_owned();
    for (name, address) in &effective.hosts {
        let _ = writeln!(text, "{address} {name}");
    }
    let names = own_names(hostname, &placement.names);
    for address in own_addresses(&placement.networks) {
        let _ = writeln!(text, "{address} {names}");
    }
    if let Some(gateway) = placement.networks.iter().find_map(|net| net.gateways.first()) {
        let _ = writeln!(text, "{gateway} {HOST_NAME}");
    }
    text
}

/// Without an address of its own a container still finds itself, on loopback.
fn own_addresses(networks: &[NetworkFacts]) -> Vec<IpAddr> {
    let addresses: Vec<_> = networks.iter().flat_map(|net| &net.addresses).copied().collect();
    if addresses.is_empty() { vec![IpAddr::from([127, 0, 0, 1])] } else { addresses }
}

fn own_names(hostname: &Hostname, others: &[DomainName]) -> String {
    let mut names = vec![hostname.as_str()];
    for other in others {
        if !names.contains(&other.as_str()) {
            names.push(other.as_str());
        }
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn build(request: &str, change: impl FnOnce(&mut Placement)) -> String {
        let mut placement = testing::placement();
        change(&mut placement);
        let text = hosts(&testing::effective(request), &placement, &"web".parse().unwrap());
        text.strip_prefix(LOCALHOST).expect("localhost comes first").to_owned()
    }

    #[test]
    fn own_names_and_others() {
        let bridged = build("", |_| {});
        assert_eq!(bridged, "10.88.0.2 web\n10.88.0.1 host.tare.internal\n");

        let named = build("", |placement| {
            placement.names = ["web", "www", "www"].map(|name| name.parse().unwrap()).to_vec();
            placement
                .networks
                .push(NetworkFacts::new(vec!["2001:db8::2".parse().unwrap()], vec![]));
        });
        let want = "10.88.0.2 web www\n2001:db8::2 web www\n10.88.0.1 host.tare.internal\n";
        assert_eq!(named, want);

        let alone = build("", |placement| placement.networks.clear());
        assert_eq!(alone, "127.0.0.1 web\n");

        let asked = build(r#""Hosts":{"db":"192.0.2.7","api":"2001:db8::9"}"#, |placement| {
            placement.networks.clear();
        });
        assert_eq!(asked, "2001:db8::9 api\n192.0.2.7 db\n127.0.0.1 web\n");
    }

    proptest! {
        #[test]
        fn every_line_is_an_address_and_names(
            names in proptest::collection::vec(any::<String>(), 0..4),
            plain in proptest::collection::vec("[a-z.]{1,5}", 0..4),
        ) {
            let count = build("", |placement| {
                placement.names =
                    names.iter().chain(&plain).filter_map(|name| name.parse().ok()).collect();
            });
            prop_assert_eq!(count.lines().count(), 2);
            for line in count.lines() {
                let mut words = line.split(' ');
                prop_assert!(words.next().unwrap().parse::<IpAddr>().is_ok());
                prop_assert!(words.all(|name| name.parse::<DomainName>().is_ok()));
            }
        }
    }
}
