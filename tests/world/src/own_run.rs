//! A `/run` of a test's own.

use std::fs;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

/// Gives the calling thread an empty `/run`, and keeps what it mounts to itself. It has to have a mount
/// namespace of its own.
///
/// # Panics
///
/// If that cannot be done.
pub fn own_run() {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("keep mounts apart");
    detach_below("/run/");
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).expect("cover /run");
}

/// Detaches what is mounted below a directory of the host's, which is about to be covered: the kernel
/// takes it away at any time, when somebody outside does.
fn detach_below(dir: &str) {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("the kernel has it");
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    for place in places.filter(|place| place.starts_with(dir)) {
        // It may have gone meanwhile, or with the one it was mounted on.
        let _ = unmount(place, UnmountFlags::DETACH);
    }
}
