//! `SELinux` labels: set on what containers share with the host.
//!
//! Which ones is for the caller to know. Nothing of it needs libselinux; where `SELinux` is not there,
//! nothing is changed.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::{Error, Failure};
use crate::names::FileLabel;
use crate::sys::{self, Step, perform};
use crate::walk::Walk;

/// Where labels are kept.
const XATTR: &str = "security.selinux";

/// What became of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relabeled {
    /// So many files and directories have the label now.
    Tree {
        /// How many.
        entries: u64,
    },
    /// Its top had the label already; nothing else was looked at.
    AlreadyThere,
    /// The filesystem keeps no labels.
    NotKept,
    /// There is no `SELinux` here.
    NotNeeded,
}

/// Whether this host has `SELinux`, enforcing or not.
pub fn selinux_enabled() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Gives `label` to `top` and all below it, so that containers may use it.
///
/// `top` may be open without reading it (`O_PATH`). No link is followed and no mount crossed. What
/// `is_of_host` is refused, by the path that `top` has now and not by what it was called. The top is labelled
/// last: what has its label has it as a whole, and is not gone through again.
///
/// # Errors
///
/// [`Error::RelabelHost`], or [`Error::Relabel`] with the first that failed; what was labelled until
/// then stays so.
pub fn relabel(
    top: BorrowedFd<'_>,
    label: &FileLabel,
    is_of_host: impl Fn(&Path) -> bool,
) -> Result<Relabeled, Error> {
    if !selinux_enabled() {
        return Ok(Relabeled::NotNeeded);
    }
    let path = path_of(top)?;
    // What has none is in no directory.
    if !path.is_absolute() || is_of_host(&path) {
        return Err(Error::RelabelHost { path });
    }
    tree(top, label).map_err(|source| Error::Relabel { path, source })
}

fn path_of(top: BorrowedFd<'_>) -> Result<PathBuf, Error> {
    sys::path_of(top).map(PathBuf::from).map_err(|errno| Error::Relabel {
        path: PathBuf::new(),
        source: Failure::read("find its path")(errno),
    })
}

fn tree(top: BorrowedFd<'_>, label: &FileLabel) -> Result<Relabeled, Failure> {
    if of(top)?.as_ref() == Some(label) {
        return Ok(Relabeled::AlreadyThere);
    }
    let mut entries = 0;
    let stat = sys::stat(top).map_err(Failure::read("look at it"))?;
    if stat.kind == sys::Kind::Directory {
        let mut walk = Walk::new(top)?;
        // The top comes first, and is for last.
        walk.next()?;
        while let Some(found) = walk.next()? {
            match set(found.place.as_fd(), label)? {
                Kept::Yes => entries += 1,
                Kept::No if entries == 0 => return Ok(Relabeled::NotKept),
                Kept::No => {}
            }
        }
    }
    Ok(match set(top, label)? {
        Kept::Yes => Relabeled::Tree { entries: entries + 1 },
        Kept::No => Relabeled::NotKept,
    })
}

/// The label of what is at a place; nothing if it has none, or one that cannot be given.
pub(crate) fn of(place: BorrowedFd<'_>) -> Result<Option<FileLabel>, Failure> {
    let value = sys::xattr_of_place(place, OsStr::new(XATTR));
    let value = value.map_err(Failure::read("read its label"))?.unwrap_or_default();
    let text = value.strip_suffix(b"\0").unwrap_or(&value);
    Ok(str::from_utf8(text).ok().and_then(|text| text.parse().ok()))
}

/// Whether a filesystem keeps labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    No,
}

/// Gives a label to what is at a place.
pub(crate) fn set(place: BorrowedFd<'_>, label: &FileLabel) -> Result<Kept, Failure> {
    match perform(&Step::Label { place, label: label.as_str() }) {
        Ok(()) => Ok(Kept::Yes),
        Err(failure) if failure.is(Errno::OPNOTSUPP) => Ok(Kept::No),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use host_world::{Guard, Scope};

    /// A link to it is the thing itself by the time it is open.
    #[test]
    fn a_path_is_that_of_what_is_open() {
        let world = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", world.path().join("data")).unwrap();
        let etc = fs::File::open(world.path().join("data")).unwrap();
        assert_eq!(path_of(etc.as_fd()).unwrap(), Path::new("/etc"));
    }

    /// Labels can be set without `SELinux`, too: they are attributes then.
    #[test]
    fn privileged_a_tree_is_labelled_once_and_nothing_that_a_link_leads_to() {
        let world = tempfile::tempdir_in("/var/tmp").unwrap();
        let mark = world.path().display().to_string();
        let _guard = Guard::new(Scope::of_marked(Vec::new(), vec![mark]));
        fs::create_dir_all(world.path().join("top/dir")).unwrap();
        fs::write(world.path().join("outside"), "").unwrap();
        fs::write(world.path().join("top/dir/file"), "").unwrap();
        std::os::unix::fs::symlink("../outside", world.path().join("top/link")).unwrap();
        let top = fs::File::open(world.path().join("top")).unwrap();
        let label = |path: &str| {
            let mut value = [0; 100];
            let path = world.path().join(path);
            let len = rustix::fs::lgetxattr(&path, XATTR, &mut value[..]).ok()?;
            Some(String::from_utf8(value[..len].to_vec()).unwrap())
        };
        let wanted: FileLabel = "u:r:t:s0".parse().unwrap();
        assert_eq!(tree(top.as_fd(), &wanted).unwrap(), Relabeled::Tree { entries: 4 });
        for path in ["top", "top/dir", "top/dir/file", "top/link"] {
            assert_eq!(label(path).as_deref(), Some("u:r:t:s0\0"), "{path}");
        }
        assert_eq!(label("outside"), None);
        fs::write(world.path().join("top/later"), "").unwrap();
        assert_eq!(tree(top.as_fd(), &wanted).unwrap(), Relabeled::AlreadyThere);
        assert_eq!(label("top/later"), None);
        let other: FileLabel = "u:r:t:s0:c1,c2".parse().unwrap();
        assert_eq!(tree(top.as_fd(), &other).unwrap(), Relabeled::Tree { entries: 5 });
        let proc = fs::File::open("/proc/self/status").unwrap();
        assert_eq!(tree(proc.as_fd(), &wanted).unwrap(), Relabeled::NotKept);
    }

    /// What was begun and not ended is begun again: the top says whether all have the label.
    #[test]
    fn privileged_a_tree_that_fails_half_way_does_not_have_the_label() {
        let world = tempfile::tempdir_in("/var/tmp").unwrap();
        let mark = world.path().display().to_string();
        let _guard = Guard::new(Scope::of_marked(Vec::new(), vec![mark]));
        let deep = world.path().join("top").join("d/".repeat(300));
        fs::create_dir_all(&deep).unwrap();
        let top = fs::File::open(world.path().join("top")).unwrap();
        let wanted: FileLabel = "u:r:t:s0".parse().unwrap();
        tree(top.as_fd(), &wanted).unwrap_err();
        assert_eq!(of(top.as_fd()).unwrap(), None);
        let inner = fs::File::open(world.path().join("top/d")).unwrap();
        assert_eq!(of(inner.as_fd()).unwrap(), Some(wanted));
    }
}
