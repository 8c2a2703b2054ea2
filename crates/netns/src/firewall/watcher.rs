//! Being told when others change the table.

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
