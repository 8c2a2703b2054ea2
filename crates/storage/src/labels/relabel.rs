use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Context;
use crate::error::{Error, Failure};
use crate::sys::{self, Step, perform};
use crate::walk::Walk;

/// Who may use what is relabelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One container (`Z`).
    Private,
    /// All containers (`z`).
    Shared,
}

/// What became of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relabeled {
    /// So many files and directories have the label now.
    Tree {
        /// How many.
        entries: u64,
    },
    /// The filesystem keeps no labels.
    NotKept,
    /// There is no `SELinux` here.
    NotNeeded,
}

/// What the host itself lives in. Its labels are its own; `/home/somebody` is given by the caller.
const HOST: [&str; 22] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
];
const MORE_OF_HOST: [&str; 3] = ["/var/lib", "/var/log", "/var/run"];

/// Whether this host has `SELinux`, enforcing or not.
pub fn selinux_enabled() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Gives `label` to `top` and all below it, so that containers may use it: with its categories, or
/// without if it is shared.
///
/// `top` may be open without reading it (`O_PATH`). No link is followed and no mount crossed. What
/// the host lives in is refused, by the path that `top` has now and not by what it was called, and so
/// is each directory in `homes`.
///
/// # Errors
///
/// [`Error::RelabelHost`], or [`Error::Relabel`] with the first that failed; what was labelled until
/// then stays so.
pub fn relabel(
    top: BorrowedFd<'_>,
    label: &Context,
    sharing: Sharing,
    homes: &[PathBuf],
) -> Result<Relabeled, Error> {
    if !selinux_enabled() {
        return Ok(Relabeled::NotNeeded);
    }
    let path = path_of(top)?;
    if is_of_host(&path, homes) {
        return Err(Error::RelabelHost { path });
    }
    let label = if sharing == Sharing::Shared { label.shared() } else { label.clone() };
    tree(top, &label.to_string()).map_err(|source| Error::Relabel { path, source })
}

fn path_of(top: BorrowedFd<'_>) -> Result<PathBuf, Error> {
    sys::path_of(top).map(PathBuf::from).map_err(|errno| Error::Relabel {
        path: PathBuf::new(),
        source: Failure::read("find its path")(errno),
    })
}

fn is_of_host(path: &Path, homes: &[PathBuf]) -> bool {
    let known = HOST.iter().chain(&MORE_OF_HOST).map(Path::new);
    !path.is_absolute() || known.chain(homes.iter().map(|home| &**home)).any(|host| host == path)
}

fn tree(top: BorrowedFd<'_>, label: &str) -> Result<Relabeled, Failure> {
    let stat = sys::stat(top).map_err(Failure::read("look at it"))?;
    if stat.kind != sys::Kind::Directory {
        return Ok(match set(top, label)? {
            Kept::Yes => Relabeled::Tree { entries: 1 },
            Kept::No => Relabeled::NotKept,
        });
    }
    let mut walk = Walk::new(top)?;
    let mut entries = 0;
    while let Some(found) = walk.next()? {
        match set(found.place.as_fd(), label)? {
            Kept::Yes => entries += 1,
            Kept::No if entries == 0 => return Ok(Relabeled::NotKept),
            Kept::No => {}
        }
    }
    Ok(Relabeled::Tree { entries })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

fn set(place: BorrowedFd<'_>, label: &str) -> Result<Kept, Failure> {
    match perform(&Step::Label { place, label }) {
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

    #[test]
    fn what_the_host_lives_in_is_told_by_where_it_is() {
        let homes = [PathBuf::from("/home/ann")];
        for (path, host) in [
            ("/", true),
            ("/etc", true),
            ("/var/lib", true),
            ("/home/ann", true),
            ("/home/ann/data", false),
            ("/srv/data", false),
            ("pipe:[1]", true),
            ("/etcetera", false),
        ] {
            assert_eq!(is_of_host(Path::new(path), &homes), host, "{path}");
        }
        // A link to it is the thing itself by the time it is open.
        let world = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", world.path().join("data")).unwrap();
        let etc = fs::File::open(world.path().join("data")).unwrap();
        assert!(is_of_host(&path_of(etc.as_fd()).unwrap(), &[]));
    }

    /// Labels can be set without `SELinux`, too: they are attributes then.
    #[test]
    fn privileged_a_tree_is_labelled_and_nothing_that_a_link_leads_to() {
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
            let len = rustix::fs::lgetxattr(&path, "security.selinux", &mut value[..]).ok()?;
            Some(String::from_utf8(value[..len].to_vec()).unwrap())
        };
        assert_eq!(tree(top.as_fd(), "u:r:t:s0").unwrap(), Relabeled::Tree { entries: 4 });
        for path in ["top", "top/dir", "top/dir/file", "top/link"] {
            assert_eq!(label(path).as_deref(), Some("u:r:t:s0\0"), "{path}");
        }
        assert_eq!(label("outside"), None);
        let proc = fs::File::open("/proc/self/status").unwrap();
        assert_eq!(tree(proc.as_fd(), "u:r:t:s0").unwrap(), Relabeled::NotKept);
    }
}
