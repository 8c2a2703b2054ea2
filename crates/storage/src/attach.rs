//! Mounts that the host sees: the exception, for callers that cannot take a descriptor.

mod holders;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub use holders::Holder;

use crate::error::{Error, Failure};
use crate::names::FileName;
use crate::sys::{self, perform};

/// Whether there was something to unmount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// It was mounted, and is not any more.
    Unmounted,
    /// Nothing was mounted there, or nothing is there.
    WasNotMounted,
}

/// Puts the detached mount `mount` over `name` in `dir`, a directory or a file as the mount is.
///
/// A link of that name is not followed. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// [`Error::Attach`].
pub fn attach(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &FileName) -> Result<(), Error> {
    perform(&sys::Attach { mount, dir, name: name.as_os_str() })
        .map_err(|source| Error::Attach { name: name.clone(), source })
}

/// Unmounts what is over `name` in `dir`. While somebody uses it, this tries again for so long.
///
/// A link of that name is not followed. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// [`Error::Busy`], with who uses it, or [`Error::Detach`]; it is still mounted then.
pub fn detach(dir: BorrowedFd<'_>, name: &FileName, patience: Duration) -> Result<Detached, Error> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        match perform(&sys::Detach { dir, name: name.as_os_str(), in_use: false }) {
            Ok(()) => return Ok(Detached::Unmounted),
            Err(failure) if failure.is(Errno::INVAL) || failure.is(Errno::NOENT) => {
                return Ok(Detached::WasNotMounted);
            }
            Err(failure) if failure.is(Errno::BUSY) && Instant::now() < deadline => {
                // The kernel tells nobody when a mount is no longer in use.
                std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            Err(failure) => return Err(in_use(dir, name, failure)),
        }
    }
}

/// Unmounts what is over `name` in `dir`, also while somebody uses it: who has something of it open keeps that,
/// and nobody finds it any more.
///
/// A link of that name is not followed. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// [`Error::Detach`]; it is still mounted then.
pub fn detach_now(dir: BorrowedFd<'_>, name: &FileName) -> Result<Detached, Error> {
    match perform(&sys::Detach { dir, name: name.as_os_str(), in_use: true }) {
        Ok(()) => Ok(Detached::Unmounted),
        Err(failure) if failure.is(Errno::INVAL) || failure.is(Errno::NOENT) => {
            Ok(Detached::WasNotMounted)
        }
        Err(source) => Err(Error::Detach { name: name.clone(), source }),
    }
}

fn in_use(dir: BorrowedFd<'_>, name: &FileName, source: Failure) -> Error {
    if source.is(Errno::BUSY) {
        return Error::Busy { name: name.clone(), holders: holders::of(dir, name), source };
    }
    Error::Detach { name: name.clone(), source }
}
