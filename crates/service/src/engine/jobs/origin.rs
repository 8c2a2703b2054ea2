//! For whom a job is done.

use crate::authority::Caller;

/// For whom a job is done.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum Origin<'a> {
    /// Somebody on the bus, who was asked about.
    Caller(&'a Caller),
    /// The host itself, by its service manager: whether it may was decided there. This is done also
    /// while the service is ending.
    Host,
}

impl Origin<'_> {
    /// As which user.
    pub(super) fn uid(self) -> u32 {
        match self {
            Self::Caller(caller) => caller.uid,
            Self::Host => 0,
        }
    }

    /// The unique name on the bus of whoever is told how far it has come.
    pub(super) fn listener(self) -> Option<String> {
        match self {
            Self::Caller(caller) => Some(caller.bus_name.clone()),
            Self::Host => None,
        }
    }
}
