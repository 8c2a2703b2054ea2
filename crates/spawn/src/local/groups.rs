//! Control groups that several containers share: made by whoever comes first.

use std::io;

use crate::launch::Fd;
use crate::step::Step;
use crate::undo::{Undo, run};
use crate::view;
use crate::{Cause, CgroupPath, Error, Settings};

/// How often a group is made again when another call takes away what it lies in. Each time takes
/// another call that fails in that very moment.
const ATTEMPTS: u32 = 100;

/// Makes a control group and those above it, outermost first.
///
/// Whoever made a group above removes it when it fails, unless it is used by then. So one that was
/// there can be gone before the next is made in it.
pub(super) fn make(undo: &mut Undo, root: &Fd, path: &CgroupPath) -> Result<(), Cause> {
    for _ in 1..ATTEMPTS {
        match make_once(undo, root, path) {
            Err(Cause::Step { source, .. }) if is_absent(&source) => {}
            result => return result,
        }
    }
    make_once(undo, root, path)
}

fn make_once(undo: &mut Undo, root: &Fd, path: &CgroupPath) -> Result<(), Cause> {
    path.ancestry()
        .try_for_each(|path| undo.run(&Step::MakeCgroup { root: root.clone(), path }).map(drop))
}

/// No such group, or one that is being removed.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

pub(super) fn make_for_good(settings: &Settings, cgroup: &CgroupPath) -> Result<(), Error> {
    let root = view::cgroup_root(settings.cgroups).map_err(Into::into);
    let made = root.and_then(|root| {
        let mut undo = Undo::default();
        let result = make(&mut undo, &root, cgroup);
        undo.end(result)
    });
    made.map_err(|failure| {
        let cgroup = cgroup.clone();
        Error::MakeCgroup { cgroup, cause: failure.cause, leftovers: failure.leftovers }
    })
}

pub(super) fn remove_empty(settings: &Settings, cgroup: &CgroupPath) -> Result<(), Error> {
    view::cgroup_root(settings.cgroups)
        .and_then(|root| run(&Step::RemoveCgroup { root, path: cgroup.clone() }))
        .map(drop)
        .map_err(|cause| Error::Cleanup { cgroup: cgroup.clone(), cause })
}
