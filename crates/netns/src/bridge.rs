//! Bridges on the host, and what the host's other networks occupy.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use rustix::io::Errno;

use crate::plan::{Observed, plan_bridge};
use crate::sys::Linux;
use crate::undo::{apply, is_gone};
use crate::{Bridge, Error, InterfaceName, Step};

/// What [`ensure_bridge`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// There was no such bridge; it was created.
    Created,
    /// It was there; what it lacked of addresses was added.
    AlreadyThere,
}

/// What [`remove_bridge`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It was there and is gone.
    Removed,
    /// There was no such interface.
    NotThere,
}

/// One change of a bridge at a time: two callers that complete the same bridge would each take
/// the other's part for an obstacle.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that `bridge` is there, up, has its addresses, and that the host forwards IPv4
/// packets if it has IPv4 addresses.
///
/// Forwarding is only written if it is off, logged then, and never switched off again.
///
/// # Errors
///
/// [`Error::NotABridge`] if the name belongs to another interface, [`Error::ReadInterface`],
/// [`Error::Step`].
pub fn ensure_bridge(bridge: &Bridge) -> Result<Ensured, Error> {
    let _guard = one_at_a_time();
    let mut kernel = Linux::default();
    let observed = observe(&mut kernel, &bridge.name)?;
    let steps = plan_bridge(bridge, &observed);
    if steps.contains(&Step::EnableForwarding) {
        tracing::info!(bridge = %bridge.name, "switching on IPv4 forwarding");
    }
    apply(&mut kernel, steps)?.commit();
    Ok(if observed.link.is_some() { Ensured::AlreadyThere } else { Ensured::Created })
}

fn observe(kernel: &mut Linux, name: &InterfaceName) -> Result<Observed, Error> {
    kernel.observe_bridge(name).map_err(|source| read_error(name, source))
}

/// The kernel seam says `EEXIST` for "exists, but is something else".
fn read_error(name: &InterfaceName, source: io::Error) -> Error {
    let interface = name.clone();
    match source.kind() {
        io::ErrorKind::AlreadyExists => Error::NotABridge { interface },
        _ => Error::ReadInterface { interface, source },
    }
}

/// Removes the bridge `name`, with its addresses.
///
/// # Errors
///
/// [`Error::NotABridge`] if the name belongs to another interface, [`Error::Step`].
pub fn remove_bridge(name: &InterfaceName) -> Result<Removed, Error> {
    let _guard = one_at_a_time();
    let mut kernel = Linux::default();
    match apply(&mut kernel, vec![Step::DeleteBridge(name.clone())]) {
        Ok(done) => {
            done.commit();
            Ok(Removed::Removed)
        }
        Err(Error::Step { source, .. }) if is_gone(&source) => Ok(Removed::NotThere),
        Err(Error::Step { source, .. }) if is_other_kind(&source) => {
            Err(Error::NotABridge { interface: name.clone() })
        }
        Err(error) => Err(error),
    }
}

fn is_other_kind(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EXIST.raw_os_error())
}

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
