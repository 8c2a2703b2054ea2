//! What every container has: `/proc`, `/sys`, `/dev` and what is in them.

use std::borrow::Cow;

use super::assemble::OciMount;
use crate::effective::Effective;
use crate::facts::Placement;
use crate::idmap;
use crate::namespace::NamespaceMode;
use crate::request::{NetworkMode, Privileged};

/// Nothing that is bound in from the host's side can carry a device or a set-user-ID program.
pub(crate) const BOUND: [&str; 5] = ["bind", "private", "nosuid", "noexec", "nodev"];

const SAFE: [&str; 3] = ["nosuid", "noexec", "nodev"];

/// The mounts, each before what is in it.
///
/// In a user namespace the kernel mounts a `/proc`, `/sys` or message queue only for whoever made
/// the namespace that it shows; where that is the host's, the host's own is bound.
pub(crate) fn mounts<'a>(effective: &Effective, placement: &'a Placement) -> Vec<OciMount<'a>> {
    let request = &effective.request;
    let own_users = request.namespaces.user != NamespaceMode::Host;
    let foreign = |mode: &NamespaceMode| own_users && *mode != NamespaceMode::Private;
    let access: &[&str] = if request.privileged == Privileged::Yes { &[] } else { &["ro"] };
    let proc = if foreign(&request.namespaces.pid) {
        host("/proc", &["rbind", "rprivate"])
    } else {
        OciMount::new("/proc", "proc", "proc", &SAFE)
    };
    let shows_host =
        own_users && !matches!(request.network_mode, NetworkMode::Private | NetworkMode::None);
    let sys = if shows_host {
        host("/sys", &["rbind", "rprivate"]).with(access)
    } else {
        OciMount::new("/sys", "sysfs", "sysfs", &SAFE).with(access)
    };
    let mqueue = if foreign(&request.namespaces.ipc) {
        host("/dev/mqueue", &["bind", "rprivate"])
    } else {
        OciMount::new("/dev/mqueue", "mqueue", "mqueue", &SAFE)
    };
    let cgroup = OciMount::new("/sys/fs/cgroup", "cgroup", "cgroup", &SAFE).with(&["relatime"]);
    vec![
        proc,
        OciMount::new(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        devpts(effective, placement),
        mqueue,
        sys,
        cgroup.with(access),
        OciMount::new("/dev/shm", "bind", shm(effective, placement), &BOUND),
    ]
}

/// Group 5 is `tty` on every distribution; in a user namespace that lacks it there is none.
fn devpts<'a>(effective: &Effective, placement: &Placement) -> OciMount<'a> {
    let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    let devpts = OciMount::new("/dev/pts", "devpts", "devpts", &options);
    let mapped = effective.request.namespaces.user == NamespaceMode::Host
        || idmap::outside(5, effective.gid_map(placement)).is_some();
    if mapped { devpts.with(&["gid=5"]) } else { devpts }
}

/// Who shares IPC with the host shares its memory too, as in podman. For another container the
/// service lays that one's in place.
fn shm<'a>(effective: &Effective, placement: &'a Placement) -> &'a str {
    match effective.request.namespaces.ipc {
        NamespaceMode::Host => "/dev/shm",
        _ => placement.shm.as_str(),
    }
}

fn host<'a>(path: &'static str, options: &[&'static str]) -> OciMount<'a> {
    OciMount::new(path, "bind", Cow::Borrowed(path), options).with(&SAFE)
}
