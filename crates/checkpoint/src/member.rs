//! The members an archive may have.

use std::fmt;
use std::str;

use crate::error::shown;
use crate::{Error, ImageFile, VolumeName};

/// Of what kind an entry of a tar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic or hard link.
    Link,
    /// A device, a FIFO, or anything else.
    Special,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Link => "a link",
            Self::Special => "a special file",
        })
    }
}

/// A member of a checkpoint archive.
///
/// There are no others. Files are found by these names alone, never by the text of the archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Member {
    /// `config.dump`: podman's own description of the container; see [`crate::ConfigDump`].
    Config,
    /// `spec.dump`: the OCI configuration it last ran with.
    Spec,
    /// `network.status`: addresses by network.
    NetworkStatus,
    /// `stats-dump`: how long CRIU took for what.
    Statistics,
    /// `rootfs-diff.tar`: files that were added or changed.
    RootfsDiff,
    /// `deleted.files`: files that were deleted; see [`crate::DeletedFiles`].
    DeletedFiles,
    /// `devshm-checkpoint.tar`: what was in `/dev/shm`.
    SharedMemory,
    /// `checkpoint/`: CRIU's image directory.
    Images,
    /// `checkpoint/<file>`: an image of CRIU, or `descriptors.json` of the runtime.
    Image(ImageFile),
    /// `volumes/`: the directory of the following.
    Volumes,
    /// `volumes/<name>.tar`: what was in a volume.
    Volume(VolumeName),
    /// `ctr.log`, `artifacts/` and the files in it, `pod.options` and `pod.dump`: known, and
    /// ignored. A log of somebody's choosing is not put in the place of ours.
    Ignored(Ignored),
}

/// What is in archives of podman and of no use here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ignored {
    /// `ctr.log`.
    Log,
    /// `artifacts/`.
    Artifacts,
    /// `artifacts/<file>`.
    Artifact(ImageFile),
    /// `pod.options`.
    PodOptions,
    /// `pod.dump`.
    PodDump,
}

impl Member {
    /// Longest accepted path, in bytes: the longest directory of the format and a file name.
    pub const MAX_PATH: usize = "checkpoint/".len() + 255;

    /// The member of that path, as it stands in the tar, and that kind.
    ///
    /// Paths are compared whole; a directory may end in one `/`. There is no `./` at the front and
    /// nothing is normalised: two spellings would be two chances to be understood differently.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMember`], and [`Error::MemberKind`] for a known name of the wrong kind.
    pub fn parse(path: &[u8], kind: EntryKind) -> Result<Self, Error> {
        let unknown = || Error::UnknownMember { path: shown(path) };
        if path.len() > Self::MAX_PATH {
            return Err(unknown());
        }
        let (name, slash) = match path.strip_suffix(b"/") {
            Some(name) => (name, Slash::There),
            None => (path, Slash::Absent),
        };
        let name = str::from_utf8(name).map_err(|_| unknown())?;
        let member = Self::named(name).ok_or_else(unknown)?;
        match (member.kind(), kind, slash) {
            (EntryKind::Directory, EntryKind::Directory, _)
            | (EntryKind::File, EntryKind::File, Slash::Absent) => Ok(member),
            (wanted, found, _) if wanted != found => {
                Err(Error::MemberKind { path: shown(path), wanted, found })
            }
            _ => Err(unknown()),
        }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "config.dump" => Self::Config,
            "spec.dump" => Self::Spec,
            "network.status" => Self::NetworkStatus,
            "stats-dump" => Self::Statistics,
            "rootfs-diff.tar" => Self::RootfsDiff,
            "deleted.files" => Self::DeletedFiles,
            "devshm-checkpoint.tar" => Self::SharedMemory,
            "checkpoint" => Self::Images,
            "volumes" => Self::Volumes,
            "ctr.log" => Self::Ignored(Ignored::Log),
            "artifacts" => Self::Ignored(Ignored::Artifacts),
            "pod.options" => Self::Ignored(Ignored::PodOptions),
            "pod.dump" => Self::Ignored(Ignored::PodDump),
            _ => return Self::below_directory(name),
        })
    }

    fn below_directory(name: &str) -> Option<Self> {
        let (directory, file) = name.split_once('/')?;
        match directory {
            "checkpoint" => Some(Self::Image(file.parse().ok()?)),
            "volumes" => Some(Self::Volume(file.strip_suffix(".tar")?.parse().ok()?)),
            "artifacts" => Some(Self::Ignored(Ignored::Artifact(file.parse().ok()?))),
            _ => None,
        }
    }

    /// Of what kind the entry of it has to be.
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::Images | Self::Volumes | Self::Ignored(Ignored::Artifacts) => {
                EntryKind::Directory
            }
            _ => EntryKind::File,
        }
    }
}

impl fmt::Display for Member {
    /// The path of it, without a `/` at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config.dump"),
            Self::Spec => f.write_str("spec.dump"),
            Self::NetworkStatus => f.write_str("network.status"),
            Self::Statistics => f.write_str("stats-dump"),
            Self::RootfsDiff => f.write_str("rootfs-diff.tar"),
            Self::DeletedFiles => f.write_str("deleted.files"),
            Self::SharedMemory => f.write_str("devshm-checkpoint.tar"),
            Self::Images => f.write_str("checkpoint"),
            Self::Image(file) => write!(f, "checkpoint/{file}"),
            Self::Volumes => f.write_str("volumes"),
            Self::Volume(name) => write!(f, "volumes/{name}.tar"),
            Self::Ignored(ignored) => ignored.fmt(f),
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log => f.write_str("ctr.log"),
            Self::Artifacts => f.write_str("artifacts"),
            Self::Artifact(file) => write!(f, "artifacts/{file}"),
            Self::PodOptions => f.write_str("pod.options"),
            Self::PodDump => f.write_str("pod.dump"),
        }
    }
}

/// Whether a path ends in one.
enum Slash {
    There,
    Absent,
}

#[cfg(test)]
mod tests;
