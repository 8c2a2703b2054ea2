//! Being told when the host gets out by another way.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use crate::Error;
use crate::sys::UplinkWatch;

/// Tells when the host's default routes may lead out by other bridges: what [`pass_user_chain`] lets through
/// may not be so any more.
///
/// Its descriptor becomes readable with every change of the host's routes and interfaces, then
/// [`changed`](Self::changed) tells whether it was one of these.
///
/// [`pass_user_chain`]: crate::pass_user_chain
pub struct UplinkWatcher(UplinkWatch);

impl UplinkWatcher {
    /// One for the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`Error::ReadRoutes`].
    pub fn new() -> Result<Self, Error> {
        UplinkWatch::connect().map(Self).map_err(|source| Error::ReadRoutes { source })
    }

    /// Whether that happened since this was asked last. Does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::ReadRoutes`].
    pub fn changed(&mut self) -> Result<bool, Error> {
        self.0.changed().map_err(|source| Error::ReadRoutes { source })
    }
}

impl AsFd for UplinkWatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for UplinkWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UplinkWatcher").finish_non_exhaustive()
    }
}
