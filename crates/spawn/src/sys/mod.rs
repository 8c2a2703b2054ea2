//! The only module that changes anything or talks to the kernel unsafely.

mod attach;
mod cgroup;
mod files;
mod mounts;
mod process;
mod program;
pub(crate) mod socket;
mod users;

use std::io;
use std::sync::Arc;

use crate::fault;
use crate::step::{Done, Step};

pub(crate) use attach::unblocked;
pub(crate) use cgroup::processes;
pub(crate) use files::is_directory;
pub(crate) use mounts::{can_mount_beneath, seen_at, thread_fds};

/// Runs one effect: the only function of this crate that changes anything.
pub(crate) fn run(step: &Step) -> io::Result<Done> {
    if let Some(done) = step.without() {
        if fault::leaves_out(step)? {
            return Ok(done);
        }
    } else {
        fault::point(step)?;
    }
    match step {
        Step::MakeDir(path) | Step::MakeBundle(path) => files::make_dir(path).map(changed),
        Step::EnsureDir(path) => files::ensure_dir(path).map(changed),
        Step::MakeMountPoint(path) => files::make_mount_point(path),
        Step::RemoveMountPoint(path) => std::fs::remove_dir(path).map(changed),
        Step::RemoveDir(path) => std::fs::remove_dir_all(path).map(changed),
        Step::MakeMountFile(path) => files::make_mount_file(path),
        Step::RemoveBundle(path) => files::remove_bundle(path).map(changed),
        Step::WriteFile(path, bytes) => files::write_file(path, bytes).map(changed),
        Step::MakeScript(text) => files::make_script(text).map(|fd| Done::Fd(Arc::new(fd))),
        Step::MakePipe(path) => files::make_pipe(path).map(|fd| Done::Fd(Arc::new(fd))),
        Step::Say { pipe, word } => files::say(pipe, word).map(changed),
        Step::Rename { from, to } => std::fs::rename(from, to).map(changed),
        Step::Link { from, to } => std::fs::hard_link(from, to).map(changed),
        Step::NewView => mounts::new_view().map(changed),
        Step::SlaveView => mounts::slave_view().map(changed),
        Step::EnterView(pidfd) => mounts::enter_view(pidfd).map(changed),
        Step::MountCgroup2 => mounts::mount_cgroup2(),
        Step::CloneHostRoot => mounts::clone_host_root(),
        Step::PlaceCgroup2(mount) => mounts::place(mount, "/sys/fs/cgroup".as_ref()).map(changed),
        Step::PlaceMount { mount, at, .. } => mounts::place(mount, at).map(changed),
        Step::RemoveMount(at) => mounts::detach(at).map(changed),
        Step::CloneFile(path) => mounts::clone_file(path),
        Step::LikeMount { mount, other } => mounts::like(mount, other).map(changed),
        Step::PlaceBeneath { mount, top, .. } => mounts::place_beneath(mount, top).map(changed),
        Step::RemoveTop { top, fds, .. } => mounts::detach_known(top, fds).map(changed),
        Step::WriteOver(path, bytes) => files::write_over(path, bytes).map(changed),
        Step::MakeCgroup { root, path } => cgroup::make(root, path),
        Step::RemoveCgroup { root, path } => cgroup::remove(root, path),
        Step::ClearCgroup { root, path, extent } => cgroup::clear(root, path, *extent),
        Step::JoinCgroup { root, path, pid } => cgroup::join(root, path, *pid).map(changed),
        Step::ListenForTerminal(path) => {
            socket::listen_for_terminal(path).map(|fd| Done::Fd(Arc::new(fd)))
        }
        Step::Attach(bundle) => {
            attach::connect_in(bundle, "attach").map(|fd| Done::Fd(Arc::new(fd)))
        }
        Step::Listen(path) => socket::listen_at(path).map(|fd| Done::Fd(Arc::new(fd))),
        Step::RemoveSocket(path) | Step::RemoveMountFile(path) | Step::RemoveFile(path) => {
            std::fs::remove_file(path).map(changed)
        }
        Step::AdoptOrphans => process::adopt_orphans().map(changed),
        Step::Call(launch) => process::call(launch).map(Done::Finished),
        Step::Launch(launch) => process::launch(launch).map(Done::Child),
        Step::MakeUsers { uids, gids } => users::make(uids, gids).map(|fd| Done::Fd(Arc::new(fd))),
        Step::Go { start, .. } => process::go(start).map(changed),
        Step::Kill { pidfd, .. } => process::kill(pidfd),
    }
}

fn changed((): ()) -> Done {
    Done::Changed
}
