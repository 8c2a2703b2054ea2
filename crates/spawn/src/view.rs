//! Mount namespaces, each entered on a thread that ends with what it does there.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic;
use std::sync::Arc;
use std::thread;

use rustix::fs::{Mode, OFlags};

use crate::launch::Fd;
use crate::step::{Done, Step};
use crate::undo::{failed, run};
use crate::{Cause, CgroupView};

/// Runs `body` on a thread of its own, whose namespaces it may change.
pub(crate) fn on_own_thread<T: Send>(
    body: impl FnOnce() -> Result<T, Cause> + Send,
) -> Result<T, Cause> {
    on_own_thread_or(body, |source| failed(&"start a thread", source))
}

/// The same for other errors.
pub(crate) fn on_own_thread_or<T: Send, E: Send>(
    body: impl FnOnce() -> Result<T, E> + Send,
    no_thread: impl FnOnce(io::Error) -> E,
) -> Result<T, E> {
    thread::scope(|scope| {
        let inside = thread::Builder::new().name("tare-spawn".into()).spawn_scoped(scope, body);
        match inside.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => panic::resume_unwind(panic),
            Err(source) => Err(no_thread(source)),
        }
    })
}

/// Gives this thread a view of its own on the host's mounts, with cgroup2 at `/sys/fs/cgroup`.
pub(crate) fn make(cgroups: CgroupView, cgroup_root: &Fd) -> Result<(), Cause> {
    run(&Step::NewView)?;
    run(&Step::SlaveView)?;
    if cgroups == CgroupView::Private {
        run(&Step::PlaceCgroup2(cgroup_root.clone()))?;
    }
    Ok(())
}

/// Moves this thread into the view of the process behind `pidfd`.
///
/// # Errors
///
/// [`Cause::Gone`] if that has ended; the thread is then where it was.
pub(crate) fn enter(pidfd: BorrowedFd<'_>) -> Result<(), Cause> {
    let pidfd: OwnedFd =
        pidfd.try_clone_to_owned().map_err(|source| failed(&"copy a descriptor", source))?;
    match run(&Step::EnterView(Arc::new(pidfd))) {
        Err(Cause::Step { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {
            Err(Cause::Gone)
        }
        result => result.map(drop),
    }
}

/// The root of the cgroup2 hierarchy: where the host has it, or a mount of it that is not
/// attached yet.
pub(crate) fn cgroup_root(cgroups: CgroupView) -> Result<Fd, Cause> {
    match cgroups {
        CgroupView::Private => match run(&Step::MountCgroup2)? {
            Done::Fd(mount) => Ok(mount),
            other => unreachable!("mounting gave {other:?}"),
        },
        CgroupView::Host => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open("/sys/fs/cgroup", flags, Mode::empty());
            opened.map(Arc::new).map_err(|errno| failed(&"open /sys/fs/cgroup", errno.into()))
        }
    }
}
