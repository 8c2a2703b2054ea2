//! An image layout: a directory of documents and blobs, somebody else's.

use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Source;
use crate::error::{Error, Failure, ImageFault};
use crate::sys::{self, Kind};

/// An image layout by descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout<'d>(pub(super) BorrowedFd<'d>);

impl Source for Layout<'_> {
    fn open(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64), Error> {
        let image = |source| Error::Image { source };
        let read = |errno| {
            let source = Failure::read(format_args!("open {name:?}"))(errno);
            Error::ReadLayout { source }
        };
        // Nothing in it may lead anywhere else, not even to another mount.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let place = match sys::open_path(self.0, name, resolve, OFlags::NOFOLLOW) {
            Ok(place) => place,
            Err(Errno::NOENT) => return Err(image(ImageFault::Missing(name.into()))),
            Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
                return Err(image(ImageFault::NotRegular(name.into())));
            }
            Err(errno) => return Err(read(errno)),
        };
        let stat = sys::stat(&place).map_err(read)?;
        if stat.kind != Kind::Regular {
            return Err(image(ImageFault::NotRegular(name.into())));
        }
        let file = sys::reopen(place.as_fd()).map_err(read)?;
        Ok((Box::new(std::fs::File::from(file)), stat.size))
    }
}
