//! Being told when others change the table, or rules of their own.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::Watch;
use crate::{Error, TableName};

/// Tells when others changed the table of a [`Firewall`](crate::Firewall).
///
/// For one that is [`Shared`](crate::Ownership::Shared): its descriptor becomes readable with every
/// change of the host's rules, then [`others_changed`](Self::others_changed) tells whether the
/// table has to be [`restore`](crate::Firewall::restore)d.
pub struct Watcher {
    table: TableName,
    watch: Watch,
}

impl Watcher {
    pub(super) fn new(table: TableName, watch: Watch) -> Self {
        Self { table, watch }
    }

    /// Whether somebody else changed the table since this was asked last. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::ReadTable`].
    pub fn others_changed(&mut self) -> Result<bool, Error> {
        let read = self.watch.others_changed(&self.table);
        read.map_err(|source| Error::ReadTable { table: self.table.clone(), source })
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("table", &self.table).finish_non_exhaustive()
    }
}

/// Tells when rules of other tables than ours changed: what [`foreign_forward_chains`] said may not be so
/// any more.
///
/// Its descriptor becomes readable with every change of the host's rules. Those of the old `iptables`
/// (legacy) are not among them.
///
/// [`foreign_forward_chains`]: crate::foreign_forward_chains
pub struct ForeignWatcher(Watcher);

impl ForeignWatcher {
    /// One for the network namespace of the calling thread, where `ours` is our table.
    ///
    /// # Errors
    ///
    /// [`Error::ReadTable`].
    pub fn new(ours: &TableName) -> Result<Self, Error> {
        let failed = |source| Error::ReadTable { table: ours.clone(), source };
        Ok(Self(Watcher::new(ours.clone(), Watch::of_others().map_err(failed)?)))
    }

    /// Whether rules of others changed since this was asked last. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::ReadTable`].
    pub fn changed(&mut self) -> Result<bool, Error> {
        let Watcher { table, watch } = &mut self.0;
        let read = watch.rules_of_others_changed(table);
        read.map_err(|source| Error::ReadTable { table: table.clone(), source })
    }
}

impl AsFd for ForeignWatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for ForeignWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ForeignWatcher").field(&self.0.table).finish()
    }
}
