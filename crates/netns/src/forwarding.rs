//! The host as a router.

use crate::sys::Linux;
use crate::undo::apply;
use crate::{Error, IpFamily, Step};

/// What [`enable_forwarding`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// The host forwarded packets of that family already.
    AlreadyOn,
    /// It did not, and does now.
    SwitchedOn,
}

/// Lets the host forward packets of that family, all of them, if it does not yet.
///
/// Logged, and never switched off again.
/// [`Firewall::enable_forwarding`](crate::Firewall::enable_forwarding) is the one that makes no
/// router of a host.
///
/// # Errors
///
/// [`Error::ReadForwarding`], [`Error::Step`].
pub fn enable_forwarding(family: IpFamily) -> Result<Forwarding, Error> {
    enable(&mut Linux::default(), family, Vec::new())
}

/// Whether the host forwards packets of that family.
///
/// # Errors
///
/// [`Error::ReadForwarding`].
pub fn is_forwarding(family: IpFamily) -> Result<bool, Error> {
    Linux::forwards(family).map_err(|source| Error::ReadForwarding { family, source })
}

/// The same, with `first` before it if it is necessary.
pub(crate) fn enable(
    kernel: &mut Linux,
    family: IpFamily,
    first: Vec<Step>,
) -> Result<Forwarding, Error> {
    if is_forwarding(family)? {
        return Ok(Forwarding::AlreadyOn);
    }
    let failed = |source| Error::ReadForwarding { family, source };
    let mut steps = first;
    if family == IpFamily::V6 {
        let advertised = Linux::advertised().map_err(failed)?;
        steps.extend(advertised.into_iter().map(Step::KeepAdvertisements));
    }
    steps.push(Step::EnableForwarding(family));
    tracing::info!("switching on {family} forwarding");
    apply(kernel, steps)?.commit();
    Ok(Forwarding::SwitchedOn)
}
