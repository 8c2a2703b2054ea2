//! A mount that was asked for, as it is stored: names are resolved, nothing is a descriptor.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::options::{Flag, Kind, MountOption};
use super::target::{MountTarget, clean};
use crate::error::Error;
use crate::request::RootfsAccess;
use crate::text::{AbsolutePath, Problem, check_bytes, is_default, text_type};

text_type! {
    /// Name of a volume: 1 to 255 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    VolumeName, "volume name", |text| check_bytes(text, 255, |at, byte| {
        byte.is_ascii_alphanumeric() || at > 0 && matches!(byte, b'_' | b'.' | b'-')
    })
}

text_type! {
    /// Id of an image: `sha256:` and 64 hexadecimal digits in lower case.
    ImageId, "image id", |text| {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        check_bytes(digits, 64, |_, byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))?;
        if digits.len() == 64 { Ok(()) } else { Err(Problem::Form("is not sha256: and 64 digits")) }
    }
}

text_type! {
    /// A directory in a volume or an image: relative, without `..`, `.` and empty parts, and
    /// without control characters, at most 4095 bytes. Whoever opens it must not leave the volume.
    SubPath, "path in a volume", |text| {
        check_bytes(text, 4095, |_, byte| !byte.is_ascii_control())?;
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Problem::Form("is not relative, or has a part that is empty, . or .."));
        }
        Ok(())
    }
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct MountRequest {
    /// Where it is seen.
    pub target: MountTarget,
    /// What is seen there.
    pub source: MountSource,
    /// Whether it may be written to; images may not unless somebody says `rw`.
    #[serde(default, rename = "ReadOnly", skip_serializing_if = "is_default")]
    pub access: RootfsAccess,
    /// In the words of mount(8).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<MountOption>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub enum MountSource {
    /// A volume, or a directory in it.
    #[serde(rename_all = "PascalCase")]
    Volume {
        /// Its name.
        name: VolumeName,
        /// The directory in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub_path: Option<SubPath>,
    },
    /// A file or directory of the host, which was opened once, and pinned.
    Host(AbsolutePath),
    /// The root of another image, or a directory in it.
    #[serde(rename_all = "PascalCase")]
    Image {
        /// Its id.
        image: ImageId,
        /// The directory in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub_path: Option<SubPath>,
    },
    /// Memory, empty at the start.
    Tmpfs,
    /// Terminals of its own.
    Devpts,
}

/// Who may use files with a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Every container: the label has no categories.
    All,
    /// One container alone.
    Alone,
}

impl Sharing {
    /// The mount option that asks for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "z",
            Self::Alone => "Z",
        }
    }
}

impl MountRequest {
    /// A mount that may be written to, with podman's usual options.
    pub const fn new(target: MountTarget, source: MountSource) -> Self {
        Self { target, source, access: RootfsAccess::ReadWrite, options: Vec::new() }
    }

    /// What the service has to lay in place for it: see [`crate::Placement::mounts`].
    pub const fn needs_source(&self) -> bool {
        !matches!(self.source, MountSource::Tmpfs | MountSource::Devpts)
    }

    /// Whose label what is mounted is to have, on a host with SELinux, if it is to have another one; once,
    /// and by descriptor.
    pub fn relabeled_for(&self) -> Option<Sharing> {
        self.kinds().find_map(|kind| match kind {
            Kind::Relabel { shared: true } => Some(Sharing::All),
            Kind::Relabel { shared: false } => Some(Sharing::Alone),
            _ => None,
        })
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.options.iter().map(MountOption::kind)
    }

    /// The last word on a flag, if any.
    pub(crate) fn flag(&self, flag: Flag) -> Option<bool> {
        let said = |kind: &Kind| match kind {
            Kind::Flag(f, on) if *f == flag => Some(*on),
            _ => None,
        };
        self.kinds().filter_map(said).last()
    }

    /// Whether it cannot be written to.
    pub fn is_read_only(&self) -> bool {
        let image = matches!(self.source, MountSource::Image { .. });
        self.access == RootfsAccess::ReadOnly
            || self.flag(Flag::ReadOnly).unwrap_or(image)
            || self.kinds().any(|kind| *kind == Kind::RecursiveReadOnly)
    }
}

/// Whose files the whole host needs with the labels they have (CVE-2021-43816), as in podman.
const NEVER_RELABELLED: [&str; 16] = [
    "/",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/media",
    "/opt",
    "/root",
    "/run",
    "/srv",
    "/tmp",
    "/var",
    "/var/home",
    "/var/lib",
    "/var/log",
];

/// The same with all that is in them: `/bin` is `/usr/bin` by the time somebody has opened it.
const NEVER_RELABELLED_BELOW: [&str; 12] = [
    "/bin",
    "/boot",
    "/dev",
    "/lib",
    "/lib64",
    "/ostree",
    "/proc",
    "/sbin",
    "/sys",
    "/sysroot",
    "/usr",
    "/var/roothome",
];

/// Where people usually live, each in a directory there.
const HOMES: [&str; 2] = ["/home", "/var/home"];

/// Whether the host needs the SELinux labels that there are at a path, which is a clean one; also where
/// people usually live. Whoever relabels asks again, of the path that was opened.
pub fn keeps_its_labels(path: &str) -> bool {
    let within = |directory: &str| path.strip_prefix(directory)?.strip_prefix('/');
    let is_in = |directory: &str| path == directory || within(directory).is_some();
    let is_home = |homes: &&str| within(homes).is_some_and(|home| !home.contains('/'));
    NEVER_RELABELLED.contains(&path)
        || NEVER_RELABELLED_BELOW.iter().any(|it| is_in(it))
        || HOMES.iter().any(is_home)
}

/// Whether mounts make sense, each and together.
///
/// # Errors
/// [`Error::Option`]: two on one place, options that contradict each other or have no meaning for
/// what is mounted, or labels for files that the whole host needs.
pub(crate) fn check(mounts: &[MountRequest]) -> Result<(), Error> {
    let mut targets = BTreeSet::new();
    for mount in mounts {
        let rule = if targets.insert(&mount.target) {
            problem(mount)
        } else {
            Some("has two mounts on one target")
        };
        if let Some(rule) = rule {
            return Err(Error::Option { option: "Mounts", rule });
        }
    }
    Ok(())
}

fn problem(mount: &MountRequest) -> Option<&'static str> {
    let count = |of: fn(&Kind) -> bool| mount.kinds().filter(|kind| of(kind)).count();
    let file_system = matches!(mount.source, MountSource::Tmpfs | MountSource::Devpts);
    let opposite = |flag| {
        let said = |on| mount.kinds().any(|kind| *kind == Kind::Flag(flag, on));
        said(true) && said(false)
    };
    if [Flag::ReadOnly, Flag::NoExec, Flag::NoSuid, Flag::NoDev].into_iter().any(opposite)
        || mount.access == RootfsAccess::ReadOnly && mount.flag(Flag::ReadOnly) == Some(false)
    {
        return Some("has a mount with an option and its opposite");
    }
    if count(|kind| matches!(kind, Kind::Propagation(_))) > 1
        || count(|kind| matches!(kind, Kind::Relabel { .. })) > 1
        || count(|kind| matches!(kind, Kind::Bind { .. })) > 1
        || count(|kind| matches!(kind, Kind::IdMap(_))) > 1
    {
        return Some("has a mount with two options of one kind, as in shared and private");
    }
    let of_binds = |kind: &Kind| {
        matches!(kind, Kind::Relabel { .. } | Kind::IdMap(_) | Kind::Bind { .. })
            || *kind == Kind::RecursiveReadOnly
    };
    if file_system && count(of_binds) > 0 {
        return Some("has a file system of its own with an option for what exists elsewhere");
    }
    if !file_system && count(|kind| matches!(kind, Kind::Parameter(..) | Kind::CopyUp(_))) > 0 {
        return Some("has a size, a mode or the like for something that is not a tmpfs or devpts");
    }
    match &mount.source {
        MountSource::Host(path)
            if mount.relabeled_for().is_some() && keeps_its_labels(&clean(path)) =>
        {
            Some("would give new SELinux labels to files that the whole host needs")
        }
        MountSource::Image { .. } if mount.relabeled_for().is_some() => {
            Some("would give new SELinux labels to files of an image")
        }
        _ => None,
    }
}
