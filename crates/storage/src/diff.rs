//! What a container changed, out of its own layer: the image is asked about single paths only.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::containers::open_container_in;
use crate::digest::ChainId;
use crate::error::{Error, Failure};
use crate::names::ContainerKey;
use crate::pack::{Form, TarStream};
use crate::store::Store;
use crate::sys::{self, Kind, Stat};
use crate::unpack::{is_kept, is_opaque};
use crate::walk::{Found, Walk};

/// What a runtime makes in every root for its own mounts: no change of the container.
pub const RUNTIME_PATHS: &[&str] = &[
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/run/.containerenv",
    "/run/secrets",
    "/run/notify",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/mtab",
];

/// A change of a container against its image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Where, as seen in the root, with a slash in front.
    pub path: PathBuf,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The image has nothing there.
    Added,
    /// The image has something there that differs: other content or attributes, or another thing.
    Modified,
    /// The image has something there, and the container nothing; what was in it is not listed.
    Deleted,
}

/// The changes of a container, each when it is asked for, sorted by path as a tree is.
#[derive(Debug)]
pub struct Changes {
    walk: Walk,
    /// The root of the image.
    image: OwnedFd,
    ignored: Vec<Vec<u8>>,
    /// The directory the walk is in of which nothing of the image is shown; the outermost, if there
    /// are more. What was made again below it shows nothing of the image either, and is not marked.
    covering: Option<Vec<u8>>,
    ready: VecDeque<Change>,
    failed: bool,
}

impl Store {
    /// The changes of a container whose image has these layers, but for `ignored` paths (see
    /// [`RUNTIME_PATHS`]).
    ///
    /// # Errors
    ///
    /// [`Error::NoContainer`], what [`mount_layers`](Self::mount_layers) fails with, or
    /// [`Error::Diff`], which each item can be too.
    pub fn changes(
        &self,
        layers: &[ChainId],
        key: &ContainerKey,
        ignored: &[&str],
    ) -> Result<Changes, Error> {
        let upper = self.open_upper(key)?;
        let image = self.mount_layers(layers)?;
        let walk = Walk::new(upper.as_fd()).map_err(|source| diff_error(b"", source))?;
        let ignored = ignored.iter().map(|path| path.trim_matches('/').as_bytes().to_vec());
        let ignored = ignored.collect();
        Ok(Changes { walk, image, ignored, covering: None, ready: VecDeque::new(), failed: false })
    }

    /// The changes of a container as the tar archive of a layer, but for `ignored` paths.
    ///
    /// # Errors
    ///
    /// [`Error::NoContainer`] or [`Error::Pack`].
    pub fn diff(&self, key: &ContainerKey, ignored: &[&str]) -> Result<TarStream, Error> {
        let upper = self.open_upper(key)?;
        let stream = TarStream::new(upper.as_fd(), Form::Layer)
            .map_err(|source| Error::Pack { path: PathBuf::new(), source })?;
        Ok(stream.without(ignored))
    }

    fn open_upper(&self, key: &ContainerKey) -> Result<OwnedFd, Error> {
        let opened = open_container_in(self.containers.as_fd(), key);
        let opened = opened.map_err(|source| Error::OpenContainer { key: key.clone(), source })?;
        let [upper, _] = opened.ok_or_else(|| Error::NoContainer { key: key.clone() })?;
        Ok(upper)
    }
}

impl Iterator for Changes {
    type Item = Result<Change, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        self.failed = next.is_err();
        next.transpose()
    }
}

impl Changes {
    fn advance(&mut self) -> Result<Option<Change>, Error> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(Some(change));
            }
            let found = self.walk.next().map_err(|source| diff_error(b"", source))?;
            let Some(found) = found else { return Ok(None) };
            let change = self.look(&found).map_err(|source| diff_error(&found.path, source))?;
            if !self.ignored.contains(&found.path) {
                self.ready.extend(change.map(|kind| to_change(&found.path, kind)));
            }
        }
    }

    fn look(&mut self, found: &Found) -> Result<Option<ChangeKind>, Failure> {
        let below = self.below(&found.path)?;
        if found.stat.is_whiteout() {
            return Ok(below.map(|_| ChangeKind::Deleted));
        }
        let Some((place, stat)) = below else { return Ok(Some(ChangeKind::Added)) };
        if (found.stat.kind, stat.kind) != (Kind::Directory, Kind::Directory) {
            return Ok(Some(ChangeKind::Modified));
        }
        self.covered(found, place.as_fd())?;
        // The root has no entry of its own above; overlayfs gives it the same attributes.
        let same = is_same(found, place.as_fd(), &stat)?;
        Ok((!same && !found.path.is_empty()).then_some(ChangeKind::Modified))
    }

    /// Notes what the image has in a directory of which nothing is shown.
    fn covered(&mut self, found: &Found, below: BorrowedFd<'_>) -> Result<(), Failure> {
        let dir = sys::open_dir_at(&found.place, c".", sys::beneath())
            .map_err(Failure::read("open it"))?;
        if !self.is_covered(&found.path) {
            self.covering = None;
            if !is_opaque(dir.as_fd()).map_err(Failure::read("read its attributes"))? {
                return Ok(());
            }
            self.covering = Some(found.path.clone());
        }
        let list = |dir: &dyn std::os::fd::AsFd| {
            let dir = sys::open_dir_at(dir.as_fd(), c".", sys::beneath())?;
            sys::list(dir)
        };
        let own = list(&dir).map_err(Failure::read("list it"))?;
        let own: HashSet<_> = own.into_iter().collect();
        let mut hidden = list(&below).map_err(Failure::read("list the directory below"))?;
        hidden.retain(|name| !own.contains(name));
        hidden.sort_unstable();
        for name in hidden {
            let slash = if found.path.is_empty() { &b""[..] } else { b"/" };
            let path = [&*found.path, slash, name.as_bytes()].concat();
            if !self.ignored.contains(&path) {
                self.ready.push_back(to_change(&path, ChangeKind::Deleted));
            }
        }
        Ok(())
    }

    /// Whether a path is below the directory that covers what the image has. The walk is through
    /// with a directory before it goes on beside it.
    fn is_covered(&self, path: &[u8]) -> bool {
        let below = |covering: &Vec<u8>| path.strip_prefix(&**covering);
        let below = self.covering.as_ref().and_then(below);
        below.is_some_and(|rest| rest.first() == Some(&b'/'))
    }

    /// What the image has at a path, reached by directories only.
    fn below(&self, path: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Failure> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match sys::open_path(&self.image, path, resolve, OFlags::NOFOLLOW) {
            Ok(place) => {
                let stat = sys::stat(&place).map_err(Failure::read("look at the image"))?;
                Ok(Some((place, stat)))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(Failure::read("look into the image")(errno)),
        }
    }
}

/// Whether a directory has the attributes it has in the image.
fn is_same(found: &Found, below: BorrowedFd<'_>, stat: &Stat) -> Result<bool, Failure> {
    let facts = |stat: &Stat| (stat.mode, stat.uid, stat.gid, stat.mtime);
    if facts(&found.stat) != facts(stat) {
        return Ok(false);
    }
    let xattrs = |place: BorrowedFd<'_>| -> rustix::io::Result<Vec<_>> {
        let mut names = sys::xattr_names(place)?;
        names.retain(|name| is_kept(name.as_bytes()));
        names.sort_unstable();
        let value = |name: std::ffi::OsString| {
            let value = sys::xattr_of_place(place, &name)?;
            Ok((name, value))
        };
        names.into_iter().map(value).collect()
    };
    let fail = Failure::read("read its attributes");
    (|| Ok(xattrs(found.place.as_fd())? == xattrs(below)?))().map_err(fail)
}

fn to_change(path: &[u8], kind: ChangeKind) -> Change {
    Change { path: PathBuf::from("/").join(OsStr::from_bytes(path)), kind }
}

fn diff_error(path: &[u8], source: Failure) -> Error {
    Error::Diff { path: OsStr::from_bytes(path).into(), source }
}
