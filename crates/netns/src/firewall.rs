//! The firewall table of all containers.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::sys::Linux;
use crate::undo::apply;
use crate::{Error, Step, TableName};

/// Most addresses in one transaction: twice as many IPv6 elements, once to add and once to
/// delete, still fit into a netlink socket's default send buffer (212,992 bytes), and the
/// elements of one message into a netlink attribute (65,535 bytes).
const MAX_ADDRESSES: usize = 2048;

/// Who can change the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Only the [`Firewall`] that holds it: `nft flush ruleset` skips it, and it outlives its
    /// owner (flags `owner,persist`, Linux 6.9).
    Exclusive,
    /// Everybody with the privilege; a flush of the ruleset takes it away.
    Shared,
}

/// What was there under the table's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// No table.
    Nothing,
    /// A table of this crate's present layout that no running process owns.
    Ours(Ownership),
    /// Some other table that no running process owns.
    Foreign,
    /// A table that a running process owns.
    Owned,
}

/// The firewall table: it masquerades what the containers in its sets send to elsewhere.
///
/// A long-lived handle: its netlink socket owns the table in the network namespace of the thread
/// that opened it. When it is dropped the table stays, elements and all, for the next
/// [`open`](Self::open) to adopt.
pub struct Firewall {
    table: TableName,
    ownership: Ownership,
    kernel: Mutex<Linux>,
}

impl Firewall {
    /// Creates or adopts `inet <table>` and loads the rules into it, in one transaction.
    ///
    /// Elements of a table of this crate's present layout are kept; any other table of that name
    /// that nobody owns is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::TableOwned`] if another handle or process has it, [`Error::ReadTable`],
    /// [`Error::Step`].
    pub fn open(table: &TableName) -> Result<Self, Error> {
        let mut kernel = Linux::default();
        let found = kernel
            .find_table(table)
            .map_err(|source| Error::ReadTable { table: table.clone(), source })?;
        if found == Found::Owned {
            return Err(Error::TableOwned { table: table.clone() });
        }
        let ownership = load(&mut kernel, table, found)?;
        Ok(Self { table: table.clone(), ownership, kernel: Mutex::new(kernel) })
    }

    /// The table's name.
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// Whether others can change the table; then somebody has to watch it.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// Adds `addresses` to the containers' sets; those already there stay.
    ///
    /// Each 2,048 addresses are one transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Step`]; of the transaction that failed, nothing was added.
    pub fn add(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        let table = &self.table;
        self.run(addresses.chunks(MAX_ADDRESSES).map(|addresses| Step::AddElements {
            table: table.clone(),
            addresses: addresses.into(),
        }))
    }

    /// Removes `addresses` from the containers' sets; those not there are no error.
    ///
    /// Each 2,048 addresses are one transaction.
    ///
    /// # Errors
    ///
    /// [`Error::Step`]; of the transaction that failed, nothing was removed.
    pub fn remove(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        let table = &self.table;
        self.run(addresses.chunks(MAX_ADDRESSES).map(|addresses| Step::RemoveElements {
            table: table.clone(),
            addresses: addresses.into(),
        }))
    }

    /// The addresses that are in the sets now, in no order.
    ///
    /// # Errors
    ///
    /// [`Error::ReadTable`], which is also what a table that somebody deleted gives.
    pub fn list(&self) -> Result<Vec<IpAddr>, Error> {
        let read = self.kernel().elements(&self.table);
        read.map_err(|source| Error::ReadTable { table: self.table.clone(), source })
    }

    /// Deletes the table with all it holds.
    ///
    /// # Errors
    ///
    /// [`Error::Step`].
    pub fn delete_table(&self) -> Result<(), Error> {
        self.run([Step::DeleteTable(self.table.clone())])
    }

    fn run(&self, steps: impl IntoIterator<Item = Step>) -> Result<(), Error> {
        let mut kernel = self.kernel();
        apply(&mut *kernel, steps.into_iter().collect())?.commit();
        Ok(())
    }

    fn kernel(&self) -> MutexGuard<'_, Linux> {
        // A panic leaves nothing half done here: replies to the old request are skipped.
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loads the table as its exclusive owner, or, where the kernel has no such thing, as one of all.
fn load(kernel: &mut Linux, table: &TableName, found: Found) -> Result<Ownership, Error> {
    let mut attempt = |ownership| {
        let step = Step::LoadTable { table: table.clone(), found, ownership };
        apply(kernel, vec![step]).map(|done| {
            done.commit();
            ownership
        })
    };
    match attempt(Ownership::Exclusive) {
        Err(Error::Step { source, .. }) if is_unsupported(&source) => attempt(Ownership::Shared),
        result => result,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}

impl fmt::Debug for Firewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firewall")
            .field("table", &self.table)
            .field("ownership", &self.ownership)
            .finish_non_exhaustive()
    }
}
