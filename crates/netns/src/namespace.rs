//! The network of one container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::plan::{plan, plan_adoption, plan_attachment, plan_detachment, plan_teardown};
use crate::sys::{self, Linux, Opened};
use crate::undo::{apply, take_back};
use crate::{Attachment, Error, NamespaceName, Step, Wanted};

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
#[non_exhaustive]
pub struct Namespace {
    /// The namespace itself.
    pub fd: OwnedFd,
    /// The file it is bound to.
    pub path: PathBuf,
    /// Its inode number: with the boot, it tells this namespace from one of the same name.
    pub inode: u64,
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Builds the network of a container.
///
/// Can be called from many threads at once, for different containers.
///
/// # Errors
///
/// [`Error::Step`] for the first step that fails, [`Error::Open`] or [`Error::NotANamespace`] if
/// somebody removed the new namespace meanwhile; what had been done is taken back.
pub fn setup(wanted: &Wanted) -> Result<Namespace, Error> {
    let mut kernel = Linux::default();
    let done = apply(&mut kernel, plan(wanted))?;
    // On an error `done` is dropped, which takes everything back.
    let namespace = open_namespace(&wanted.namespace)?;
    done.commit();
    Ok(namespace)
}

/// Builds the network of a container in the namespace that its runtime made, and gives that a
/// name: the one of `process`, a pidfd.
///
/// For a container in a user namespace of its own. A network namespace belongs to the user namespace of who
/// made it, see `user_namespaces(7)`: in one that [`setup`] makes, root of such a container may change nothing,
/// nor mount `/sys`. So its configuration names none, the runtime makes it with the user namespace, and this
/// is called between creation and start.
///
/// Until then the container has no network, and one that shares it cannot be made. Taken down it is by
/// [`teardown`], as if [`setup`] had made it.
///
/// # Errors
///
/// [`Error::HostNamespace`] if the process has none of its own, [`Error::Inspect`] if it is gone;
/// else as [`setup`]. What had been done is taken back.
pub fn configure(wanted: &Wanted, process: BorrowedFd<'_>) -> Result<Namespace, Error> {
    let inspect = |source| Error::Inspect { source };
    if sys::same_as_own(process).map_err(inspect)? {
        return Err(Error::HostNamespace);
    }
    let process = process.try_clone_to_owned().map_err(inspect)?;
    let mut kernel = Linux::with_process(process);
    let done = apply(&mut kernel, plan_adoption(wanted))?;
    let namespace = open_namespace(&wanted.namespace)?;
    done.commit();
    Ok(namespace)
}

/// Adds an interface to a namespace that is bound to its file, also while its container runs.
///
/// # Errors
///
/// [`Error::Step`] for the first step that fails; what had been done is taken back.
pub fn attach(namespace: &NamespaceName, attachment: &Attachment) -> Result<(), Error> {
    apply(&mut Linux::default(), plan_attachment(namespace, attachment))?.commit();
    Ok(())
}

/// Removes an interface from a namespace, whether all of it is there, or part, or nothing.
///
/// What is already gone is no failure, nor is a namespace that is. Can be repeated.
///
/// # Errors
///
/// [`Error::Detach`].
pub fn detach(namespace: &NamespaceName, attachment: &Attachment) -> Result<(), Error> {
    let undo = plan_detachment(namespace, attachment);
    let mut failed = take_back(&mut Linux::default(), undo).into_iter();
    match failed.next() {
        None => Ok(()),
        Some(first) => Err(Error::Detach {
            namespace: namespace.clone(),
            interface: attachment.interface.clone(),
            first: Box::new(first),
            others: failed.collect(),
        }),
    }
}

/// Removes the network of a container, whether it was built in full, in part or not at all.
///
/// Goes on past failures; what is already gone is none. Can be repeated.
///
/// # Errors
///
/// [`Error::Teardown`] with every step that failed.
pub fn teardown(wanted: &Wanted) -> Result<(), Error> {
    let mut failed = take_back(&mut Linux::default(), plan_teardown(wanted)).into_iter();
    match failed.next() {
        None => Ok(()),
        Some(first) => Err(Error::Teardown {
            namespace: wanted.namespace.clone(),
            first: Box::new(first),
            others: failed.collect(),
        }),
    }
}

/// Makes `/run/netns` a mount point whose mounts show in copies of this mount namespace. [`setup`]
/// does so, too; this is for whoever makes such a copy before there is any namespace.
///
/// # Errors
///
/// [`Error::Step`]; of kind [`ErrorKind::InUse`](crate::ErrorKind::InUse) if it is no mount point yet, and
/// another process keeps it locked for five seconds. As every local user can do that, a directory that is
/// empty is replaced by another one after one second.
pub fn prepare_directory() -> Result<(), Error> {
    apply(&mut Linux::default(), vec![Step::PrepareDirectory])?.commit();
    Ok(())
}

/// Undoes what makes `/run/netns` a mount point if [`setup`] did that, of this process or another,
/// and no namespace is left there; `ip netns` makes it one again when it needs to.
///
/// # Errors
///
/// [`Error::Step`]; of kind [`ErrorKind::InUse`](crate::ErrorKind::InUse) if it is to go, and another
/// process keeps it locked for four seconds.
pub fn release_directory() -> Result<(), Error> {
    apply(&mut Linux::default(), vec![Step::ReleaseDirectory])?.commit();
    Ok(())
}

/// Opens the namespace bound to `/run/netns/<name>`.
///
/// # Errors
///
/// [`Error::Open`], or [`Error::NotANamespace`] if there is a file, but no namespace on it.
pub fn open_namespace(name: &NamespaceName) -> Result<Namespace, Error> {
    open_namespace_at(&name.path())
}

/// Opens the network namespace at `path`, which may be anywhere: `/proc/<pid>/ns/net`, too.
///
/// It is opened once, and what was opened is looked at: neither another file nor a namespace of
/// another kind is taken for one.
///
/// # Errors
///
/// [`Error::Open`], or [`Error::NotANamespace`].
pub fn open_namespace_at(path: &Path) -> Result<Namespace, Error> {
    let path = path.to_owned();
    match sys::open_namespace(&path) {
        Ok(Opened::Network(fd, inode)) => Ok(Namespace { fd, path, inode }),
        Ok(Opened::Other) => Err(Error::NotANamespace { path }),
        Err(source) => Err(Error::Open { path, source }),
    }
}

/// The number that no other network namespace has in this boot; those of inodes are used again. `None`
/// where the kernel knows no such number (before Linux 5.14).
///
/// # Errors
///
/// [`Error::Enter`]: it is found out inside.
pub fn namespace_cookie(namespace: BorrowedFd<'_>) -> Result<Option<u64>, Error> {
    enter(namespace, sys::own_cookie)?.map_err(|source| Error::Enter { source })
}

/// Runs `body` inside `namespace`, on a thread of its own that ends with it.
///
/// # Errors
///
/// [`Error::Enter`]; `body` has then not run.
///
/// # Panics
///
/// If `body` does.
pub fn enter<T: Send>(
    namespace: BorrowedFd<'_>,
    body: impl FnOnce() -> T + Send,
) -> Result<T, Error> {
    sys::enter(namespace, body).map_err(|source| Error::Enter { source })
}
