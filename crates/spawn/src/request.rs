use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{CgroupPath, ContainerId, Incarnation};

/// Which OCI runtime makes the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OciRuntime {
    /// [crun](https://github.com/containers/crun).
    Crun,
    /// [runc](https://github.com/opencontainers/runc).
    Runc,
}

impl OciRuntime {
    /// The one of that name, if it is one of these.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Crun, Self::Runc].into_iter().find(|runtime| runtime.as_str() == name)
    }

    /// The name of the program.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crun => "crun",
            Self::Runc => "runc",
        }
    }
}

impl fmt::Display for OciRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of the container's standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdin {
    /// It is `/dev/null`.
    #[default]
    Null,
    /// It is a pipe that conmon holds open for whoever attaches.
    Open,
    /// It is a terminal, as are its standard output and error; conmon has the other side.
    Terminal,
}

/// A container to create.
///
/// [`Layout::bundle`](crate::Layout::bundle) must be there already, and
/// [`Layout::new_config_json`](crate::Layout::new_config_json) before conmon is let go, with
/// `rootfs` as its root path and the payload group of `cgroup` as its `cgroupsPath`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The container.
    pub id: ContainerId,
    /// Which start of it this is; must not have been used before.
    pub incarnation: Incarnation,
    /// The runtime that makes it.
    pub runtime: OciRuntime,
    /// The container's own control group. It is made if missing; conmon goes to
    /// [`CgroupPath::supervisor`] below it, the container to [`CgroupPath::payload`].
    pub cgroup: CgroupPath,
    /// Where what it writes is kept.
    #[serde(rename = "log_path")]
    pub log: Log,
    /// The container's standard input.
    pub stdin: Stdin,
    /// The container is made from a checkpoint, which is mounted at [`Place::Images`], and goes on
    /// where that was taken: there is nothing to [`start`](crate::Spawner::start) then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Extras>,
}

impl Create {
    /// The container this makes, for the calls that follow.
    pub fn target(&self) -> Target {
        Target { id: self.id.clone(), incarnation: self.incarnation, runtime: self.runtime }
    }
}

/// Where conmon keeps what a container writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Log {
    /// A file in conmon's `k8s-file` format; made if missing. Absolute, without `:`.
    File(PathBuf),
    /// The journal of systemd, which has to be there.
    Journal(JournalLog),
}

/// What conmon says of a container in each entry of the journal, beside its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalLog {
    /// `CONTAINER_NAME`, and `SYSLOG_IDENTIFIER`: 1 to 128 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    pub name: String,
}

impl Log {
    /// Whether conmon takes it for what it is.
    pub(crate) fn is_acceptable(&self) -> bool {
        match self {
            Self::File(path) => {
                let fits = |byte: &u8| *byte != b':' && !byte.is_ascii_control();
                path.is_absolute() && path.as_os_str().as_bytes().iter().all(fits)
            }
            Self::Journal(JournalLog { name }) => {
                let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
                begins && name.len() <= 128 && name.bytes().all(of_name)
            }
        }
    }
}

/// A container that was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The container.
    pub id: ContainerId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// The runtime that made it.
    pub runtime: OciRuntime,
}

/// A container that runs, to be checkpointed.
///
/// [`Layout::checkpoint`](crate::Layout::checkpoint) must be there already, and empty; what CRIU has
/// to say is in it afterwards, and it is the caller's to remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The container.
    pub target: Target,
    /// What becomes of it.
    pub after: After,
    /// What is taken along.
    pub extras: Extras,
}

/// What becomes of a container whose checkpoint is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// All its processes are killed.
    Ends,
    /// It goes on.
    GoesOn,
}

/// What CRIU refuses to checkpoint unless it is told to, and to restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extras {
    /// TCP connections that are established.
    pub tcp_established: bool,
    /// Locks on files.
    pub file_locks: bool,
    /// Unix sockets whose other end is outside of the container.
    pub external_unix_sockets: bool,
}

/// Most descriptors that conmon keeps open.
pub const MAX_KEPT: usize = 8;

/// The number that the first of the descriptors has in conmon that it keeps open; the others follow.
pub const FIRST_KEPT: i32 = 5;

/// Most mounts a container can have beside its root and `/dev/shm`.
pub const MAX_MOUNTS: usize = 126;

/// What the names of numbered places begin with.
const MOUNT: &str = "mount-";

/// Where in the bundle a mount goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Place {
    /// The root file system.
    Rootfs,
    /// What becomes `/dev/shm`.
    Shm,
    /// The images of the checkpoint that the container is restored from.
    Images,
    /// Something that is bound into the container, a directory or a file; by number.
    Mount(u16),
}

impl Place {
    /// The name of its directory, or file, in the bundle.
    pub fn dir_name(self) -> Cow<'static, str> {
        match self {
            Self::Rootfs => "rootfs".into(),
            Self::Shm => "shm".into(),
            Self::Images => "images".into(),
            Self::Mount(number) => format!("{MOUNT}{number}").into(),
        }
    }

    /// Whether an entry of a bundle of that name is such a place.
    pub(crate) fn is_name(name: &str) -> bool {
        ["rootfs", "shm", "images"].contains(&name) || name.starts_with(MOUNT)
    }
}

/// A detached mount, as fsmount(2) or `open_tree(2)` give it, and where it goes.
#[derive(Debug)]
pub struct PlacedMount {
    /// Where it goes.
    pub place: Place,
    /// The mount.
    pub mount: OwnedFd,
}

/// A process that was started; the pid is safe to use while the pidfd is held.
#[derive(Debug)]
pub struct Started {
    /// Its pid, in the pid namespace of the spawner.
    pub pid: u32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// What [`Spawner::create`](crate::Spawner::create) made.
#[derive(Debug)]
pub struct Created {
    /// conmon. Its pidfd is also the way back into the container's mount namespace.
    pub supervisor: Started,
    /// The container's first process, waiting for [`Spawner::start`](crate::Spawner::start), or at
    /// work if it was restored.
    pub init: Started,
}

/// Whether [`Spawner::delete`](crate::Spawner::delete) may kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Force {
    /// A container that still runs is an error.
    No,
    /// A container that still runs is killed. runc looks for its end every 100 ms only: who is in
    /// a hurry kills the payload's control group and waits for conmon first.
    Kill,
}

/// What [`Spawner::delete`](crate::Spawner::delete) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deleted {
    /// The runtime had the container and has forgotten it now.
    Deleted,
    /// The runtime did not know the container.
    AlreadyGone,
}

/// How much of a control group [`Spawner::cleanup_cgroup`](crate::Spawner::cleanup_cgroup) removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// The group and all below it.
    Whole,
    /// All below it. It is for whoever made it to remove: systemd misses that a group of its own has
    /// become empty if somebody else removes that at once.
    Below,
}

/// A file bound into a container that changes while the container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveFile {
    /// `/etc/hosts`.
    Hosts,
    /// `/etc/resolv.conf`.
    ResolvConf,
}

impl LiveFile {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Hosts, Self::ResolvConf];

    /// Its name in [`Layout::files`](crate::Layout::files).
    pub fn name(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::ResolvConf => "resolv.conf",
        }
    }

    /// Where the container finds it.
    pub fn target(self) -> &'static str {
        match self {
            Self::Hosts => "/etc/hosts",
            Self::ResolvConf => "/etc/resolv.conf",
        }
    }
}

/// What [`Spawner::swap_file`](crate::Spawner::swap_file) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Swapped {
    /// The container has the new file.
    Done,
    /// The container has something else there, or nothing, and keeps it.
    NotOurs,
}

/// Somebody who wants to have what a container reads and writes pass through pipes.
///
/// What is written from then on comes, nothing of it twice and nothing left out; so whoever wants all of it
/// attaches between [`Prepared::create`](crate::Prepared::create) and
/// [`Spawner::start`](crate::Spawner::start). Who does not read holds the container up, but not its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The container.
    pub target: Target,
    /// As it was created.
    pub stdin: Stdin,
    /// Whose it is, if that is known: to all those of one user, but of root, only [`MAX_ATTACHED_OF_ONE`] can
    /// be attached at once. A `tare-spawn` that is older than that does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
}

/// What somebody who attaches has for the container's standard input, output and error: the ends of pipes
/// that the container would have, or nothing. When the input ends, so does that of a container with
/// [`Stdin::Open`], unless nobody reads its output any more: then somebody has only gone away.
pub type AttachedStreams = [Option<OwnedFd>; 3];

/// Most that can be attached to one container.
pub const MAX_ATTACHED: usize = 16;

/// Most that can be attached to all containers of one user.
pub const MAX_ATTACHED_OF_ONE: usize = 64;

/// A process to run in a container that runs.
///
/// [`Layout::exec_process`](crate::Layout::exec_process) must be there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The container.
    pub target: Target,
    /// Number of the session; must not have been used before in this incarnation.
    pub session: u32,
    /// The container's own control group; the session's supervisor goes to
    /// [`CgroupPath::session`] below it, which is the caller's to clean up afterwards.
    pub cgroup: CgroupPath,
    /// What it reads and writes. The process has to say the same.
    #[serde(default, skip_serializing_if = "Streams::are_given")]
    pub streams: Streams,
}

/// What a process that is run in a container reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Streams {
    /// The three files that come with the call.
    #[default]
    Given,
    /// A terminal of its own, made in the container. Nobody but who called has its other side:
    /// conmon has no part in it, and what is written to it waits there until it is read.
    Terminal,
}

impl Streams {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
    fn are_given(&self) -> bool {
        *self == Self::Given
    }
}

/// What [`Spawner::exec`](crate::Spawner::exec) made.
#[derive(Debug)]
pub struct Execed {
    /// The conmon of this session. `None` if it has ended already: the exit file is there then.
    pub supervisor: Option<Started>,
    /// The process. `None` if it has ended already.
    pub process: Option<Started>,
    /// The other side of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_that_conmon_would_misread_are_refused() {
        for (path, want) in [
            ("/var/log/c", true),
            ("var/log/c", false),
            ("/var/log:c", false),
            ("/var/log\nc", false),
            ("", false),
        ] {
            assert_eq!(Log::File(path.into()).is_acceptable(), want, "{path:?}");
        }
        let many = "n".repeat(129);
        for (name, want) in [
            ("web-1.a_b", true),
            (&many[1..], true),
            (&many, false),
            ("", false),
            ("-n", false),
            ("a b", false),
            ("a\nMESSAGE=b", false),
        ] {
            let log = Log::Journal(JournalLog { name: name.into() });
            assert_eq!(log.is_acceptable(), want, "{name:?}");
        }
    }
}
