//! What is mounted in the container, in the order of mounting.

use oci_spec::runtime::Mount;

use crate::facts::Placement;
use crate::generate::TextFile;
use crate::request::RootfsAccess;

/// Kernel file systems and `/dev` as other engines give them; no mount here depends on the host.
const KERNEL: [(&str, &str, &str, &[&str]); 6] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

/// Nothing that is bound in from the host's side can carry a device or a set-user-ID program.
const BOUND: &[&str] = &["bind", "private", "nosuid", "noexec", "nodev"];
const BOUND_READ_ONLY: &[&str] = &["bind", "private", "nosuid", "noexec", "nodev", "ro"];

/// All mounts of a container.
pub(crate) fn mounts(
    placement: &Placement,
    files: &[TextFile],
    access: RootfsAccess,
) -> Vec<Mount> {
    let options = match access {
        RootfsAccess::ReadWrite => BOUND,
        RootfsAccess::ReadOnly => BOUND_READ_ONLY,
    };
    let kernel = KERNEL.map(|(target, kind, source, options)| mount(target, kind, source, options));
    let shm = mount("/dev/shm", "bind", placement.shm.as_str(), BOUND);
    let bound = files.iter().map(|file| {
        let source = format!("{}/{}", placement.files_dir, file.name);
        mount(file.target, "bind", &source, options)
    });
    kernel.into_iter().chain([shm]).chain(bound).collect()
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().copied().map(str::to_owned).collect()));
    mount
}
