//! Bridges on the host.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::plan::{Mark, ObservedBridge, Vlans, is_ours, plan_bridge};
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

/// The alias of a bridge that was made here, as ip-link(8) shows it: one of the same name that does not have
/// it is the host's own.
pub(crate) const ALIAS: &str = "tare-netns";

/// One change of a bridge at a time: two callers that complete the same bridge would each take
/// the other's part for an obstacle.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that `bridge` is there, up, and has its addresses.
///
/// # Errors
///
/// Those of [`find_bridge`], before anything is changed; [`Error::Step`].
pub fn ensure_bridge(bridge: &Bridge) -> Result<Ensured, Error> {
    let _guard = one_at_a_time();
    let mut kernel = Linux::default();
    let observed = observe(&mut kernel, bridge)?;
    apply(&mut kernel, plan_bridge(bridge, observed.as_ref()))?.commit();
    Ok(if observed.is_some() { Ensured::AlreadyThere } else { Ensured::Created })
}

/// Whether `bridge` is there, whatever it may lack.
///
/// # Errors
///
/// [`Error::NotABridge`] if the name belongs to another interface, [`Error::ForeignBridge`] if it is one
/// that was not made here, [`Error::VlansMixed`] if it has to keep VLANs apart and is one that does
/// not, [`Error::ReadInterface`].
pub fn find_bridge(bridge: &Bridge) -> Result<bool, Error> {
    observe(&mut Linux::default(), bridge).map(|found| found.is_some())
}

/// Whether the host has a bridge of that name that was made here, whatever it was made for.
///
/// # Errors
///
/// [`Error::ReadInterface`].
pub fn has_own_bridge(name: &InterfaceName) -> Result<bool, Error> {
    match Linux::default().observe_bridge(name).map_err(|source| read_error(name, source)) {
        Err(Error::NotABridge { .. }) => Ok(false),
        found => Ok(found?.is_some_and(|found| found.mark == Mark::Alias)),
    }
}

fn observe(kernel: &mut Linux, bridge: &Bridge) -> Result<Option<ObservedBridge>, Error> {
    let name = &bridge.name;
    let observed = kernel.observe_bridge(name).map_err(|source| read_error(name, source))?;
    let Some(found) = &observed else { return Ok(None) };
    if !is_ours(bridge, found) {
        return Err(Error::ForeignBridge { interface: name.clone() });
    }
    if bridge.vlan.is_some() && found.vlans == Vlans::Mixed {
        return Err(Error::VlansMixed { interface: name.clone() });
    }
    Ok(observed)
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
/// [`Error::NotABridge`] if the name belongs to another interface, [`Error::ForeignBridge`] if it is one
/// that was not made here, [`Error::ReadInterface`], [`Error::Step`].
pub fn remove_bridge(name: &InterfaceName) -> Result<Removed, Error> {
    let _guard = one_at_a_time();
    let mut kernel = Linux::default();
    let found = kernel.observe_bridge(name).map_err(|source| read_error(name, source))?;
    if found.is_some_and(|found| found.mark != Mark::Alias) {
        return Err(Error::ForeignBridge { interface: name.clone() });
    }
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
