//! A container with a hosts file that changes.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use serde_json::json;
use tare_spawn::{Created, Error, Force, LiveFile, Swapped};

use super::{World, config, wait_end};

/// A container that sleeps, with a hosts file of which this is the content.
pub(crate) fn with_hosts(world: &World, content: &str) -> Created {
    let mut config = config(&world.request.cgroup, "sleep 1000");
    let source = world.layout().live_file(LiveFile::Hosts);
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/etc/hosts", "type": "bind", "source": source,
        "options": ["bind", "private", "nosuid", "noexec", "nodev", "ro"],
    }));
    fs::create_dir_all(world.layout().files()).unwrap();
    fs::write(source, content).unwrap();
    world.write_config(&config);
    let created = world.spawner.create(&world.request, world.rootfs()).unwrap();
    world.spawner.start(&world.target(), created.supervisor.pidfd.as_fd()).unwrap();
    created
}

pub(crate) fn seen_in(created: &Created) -> String {
    fs::read_to_string(format!("/proc/{}/root/etc/hosts", created.init.pid)).unwrap()
}

pub(crate) fn swap(world: &World, created: &Created, content: &str) -> Result<Swapped, Error> {
    fs::write(world.layout().next_live_file(LiveFile::Hosts), content).unwrap();
    world.spawner.swap_file(&world.target(), LiveFile::Hosts, created.init.pidfd.as_fd())
}

/// Works in the mount namespace of a container.
pub(crate) fn inside(created: &Created, work: &(dyn Fn() + Sync)) {
    use nix::sched::{CloneFlags, setns, unshare};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(&created.init.pidfd, CloneFlags::CLONE_NEWNS).unwrap();
            work();
        });
        thread.join().unwrap();
    });
}

/// A file as a mount that is attached nowhere.
pub(crate) fn mount_of(file: &Path) -> OwnedFd {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, file, flags).unwrap()
}

/// The mounts a container has at `/etc/hosts`.
pub(crate) fn hosts_mounts(created: &Created) -> Vec<String> {
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", created.init.pid)).unwrap();
    mounts.lines().filter(|line| line.contains(" /etc/hosts ")).map(Into::into).collect()
}

pub(crate) fn finish(world: &World, created: &Created) {
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
    wait_end(&created.supervisor.pidfd);
    world.assert_clean();
}
