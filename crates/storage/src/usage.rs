//! How much the store takes on the disk.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};

use crate::error::{Error, Failure};
use crate::store::{Store, open_directory};
use crate::sys;
use crate::volumes::DATA;
use crate::walk::Walk;

impl Store {
    /// Bytes that blobs, layers, containers and volumes take on the disk.
    ///
    /// Layers are not looked through: they have what was written down when they were unpacked, holes of
    /// files counted. Containers and volumes are, which takes a while if they are large. What goes away
    /// meanwhile, or cannot be read, is left out.
    ///
    /// # Errors
    ///
    /// [`Error::List`].
    pub fn usage(&self) -> Result<u64, Error> {
        let mut bytes = 0_u64;
        for blob in self.blobs()? {
            let stat = sys::stat_at(&self.blobs, OsStr::new(&blob.hex()));
            bytes = bytes.saturating_add(stat.map_or(0, |stat| stat.allocated));
        }
        for layer in self.layers()? {
            bytes = bytes.saturating_add(known(self.size_of_layer(&layer)));
        }
        for key in self.containers()? {
            bytes = bytes.saturating_add(known(below(self.containers.as_fd(), key.as_str())));
        }
        for volume in self.volumes()? {
            let data = format!("{}/{DATA}", volume.as_str());
            bytes = bytes.saturating_add(known(below(self.volumes.as_fd(), &data)));
        }
        Ok(bytes)
    }
}

fn below(dir: BorrowedFd<'_>, path: &str) -> Result<u64, Failure> {
    of_tree(open_directory(dir, path)?.as_fd())
}

fn known(bytes: Result<u64, Failure>) -> u64 {
    bytes.unwrap_or_else(|failure| {
        tracing::debug!("it is not known how much there is: {failure}");
        0
    })
}

/// Bytes a tree takes on the disk, each file once.
pub(crate) fn of_tree(top: BorrowedFd<'_>) -> Result<u64, Failure> {
    let mut walk = Walk::new(top)?;
    let mut linked = HashSet::new();
    let mut bytes = 0_u64;
    while let Some(found) = walk.next()? {
        let again = found.stat.links > 1
            && found.stat.kind != sys::Kind::Directory
            && !linked.insert(found.stat.inode);
        bytes = bytes.saturating_add(if again { 0 } else { found.stat.allocated });
    }
    Ok(bytes)
}
