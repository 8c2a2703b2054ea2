//! What there is on the host already.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::sys::{self, Linux};
use crate::undo::{apply, is_gone};
use crate::{Error, InterfaceName, NamespaceName, Removed, Step};

/// The networks that the host has addresses in or routes to, less its default routes.
///
/// The host is the network namespace of the calling thread. A default route in halves
/// (`0.0.0.0/1` and `128.0.0.0/1`, as VPNs set it) counts as one, as does IPv6's `2000::/3`.
///
/// # Errors
///
/// [`Error::ReadRoutes`].
pub fn host_prefixes() -> Result<Vec<IpNet>, Error> {
    let mut prefixes =
        Linux::default().prefixes().map_err(|source| Error::ReadRoutes { source })?;
    prefixes.retain(|net| !is_default(net));
    prefixes.sort_unstable();
    prefixes.dedup();
    Ok(prefixes)
}

/// The addresses that the host has, on all of its interfaces. It is the network namespace of the calling
/// thread.
///
/// # Errors
///
/// [`Error::ReadRoutes`].
pub fn host_addresses() -> Result<Vec<IpAddr>, Error> {
    Linux::default().addresses().map_err(|source| Error::ReadRoutes { source })
}

/// The names of all namespaces that are bound in `/run/netns`, by whomever: for a sweep of those
/// that bear a prefix of the caller's.
///
/// # Errors
///
/// [`Error::List`].
pub fn namespaces() -> Result<Vec<NamespaceName>, Error> {
    sys::names().map_err(|source| Error::List { what: "the network namespaces", source })
}

/// The veths among the ports of a bridge of the host, whoever made them: for a sweep of those that
/// bear a name of the caller's. There are none where there is no such bridge.
///
/// # Errors
///
/// [`Error::List`].
pub fn veths_on(bridge: &InterfaceName) -> Result<Vec<InterfaceName>, Error> {
    let found = Linux::default().veths_on(bridge);
    found.map_err(|source| Error::List { what: "the ports of a bridge", source })
}

/// Whether the host has an interface of that name, of whatever kind.
///
/// # Errors
///
/// [`Error::ReadInterface`].
pub fn has_interface(name: &InterfaceName) -> Result<bool, Error> {
    let found = Linux::default().has_interface(name);
    found.map_err(|source| Error::ReadInterface { interface: name.clone(), source })
}

/// Whether the host has an interface of that name that can be the parent of a
/// [`Driver::Macvlan`](crate::Driver::Macvlan): an Ethernet one, which the loopback is not.
///
/// # Errors
///
/// [`Error::ReadInterface`].
pub fn carries_macvlans(parent: &InterfaceName) -> Result<bool, Error> {
    let found = Linux::default().carries_macvlans(parent);
    found.map_err(|source| Error::ReadInterface { interface: parent.clone(), source })
}

/// Removes a veth pair by the name of its end on the host, and with it the other end.
///
/// # Errors
///
/// [`Error::Step`], also if the interface is no veth.
pub fn remove_veth(host_interface: &InterfaceName) -> Result<Removed, Error> {
    match apply(&mut Linux::default(), vec![Step::DeleteVeth(host_interface.clone())]) {
        Ok(done) => {
            done.commit();
            Ok(Removed::Removed)
        }
        Err(Error::Step { source, .. }) if is_gone(&source) => Ok(Removed::NotThere),
        Err(error) => Err(error),
    }
}

fn is_default(net: &IpNet) -> bool {
    match net {
        IpNet::V4(v4) => v4.prefix_len() <= 1,
        IpNet::V6(v6) => v6.prefix_len() <= 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_networks() {
        let cases = [
            ("0.0.0.0/0", true),
            ("128.0.0.0/1", true),
            ("10.0.0.0/8", false),
            ("::/0", true),
            ("2000::/3", true),
            ("fd00::/8", false),
        ];
        for (net, want) in cases {
            assert_eq!(is_default(&net.parse().unwrap()), want, "{net}");
        }
    }
}
