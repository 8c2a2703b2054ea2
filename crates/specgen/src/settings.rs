//! Small values of a request, each with its bounds.

use serde::{Deserialize, Serialize};

use crate::text::{InvalidText, Problem, check_bytes, text_type};

text_type! {
    /// Where containers go in the host's control groups: a slice of systemd (`a-b.slice`), or an
    /// absolute path of at most 4095 bytes without `.` and `..`.
    CgroupParent, "cgroup parent", |text| {
        check_bytes(text, 4095, |_, byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'\\' | b':' | b'@')
        })?;
        let parts_are_good = || text.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
        match text.strip_suffix(".slice") {
            Some(name) if !name.contains('/') && !name.is_empty() && !name.contains("..") => Ok(()),
            _ if text.starts_with('/') && parts_are_good() => Ok(()),
            _ => Err(Problem::Form("is neither NAME.slice nor an absolute path")),
        }
    }
}

text_type! {
    /// Name of a runtime that the service knows: 1 to 64 bytes of `[a-z0-9_-]`.
    RuntimeName, "runtime", |text| check_bytes(text, 64, |_, byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
    })
}

/// Permission bits that new files do not get: 0 to 0777.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Umask(u32);

impl Umask {
    /// 022, as in podman.
    pub const DEFAULT: Self = Self(0o022);
}

impl TryFrom<u32> for Umask {
    type Error = InvalidText;

    fn try_from(mask: u32) -> Result<Self, Self::Error> {
        match mask {
            0..=0o777 => Ok(Self(mask)),
            _ => Err(InvalidText::new("umask", Problem::Form("is not within 0 and 0777"))),
        }
    }
}

impl From<Umask> for u32 {
    fn from(mask: Umask) -> Self {
        mask.0
    }
}

/// A preference of the kernel when it has to kill: -1000 (never) to 1000 (first). See
/// `proc_pid_oom_score_adj(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct OomScoreAdjust(i32);

impl TryFrom<i32> for OomScoreAdjust {
    type Error = InvalidText;

    fn try_from(score: i32) -> Result<Self, Self::Error> {
        if (-1000..=1000).contains(&score) {
            return Ok(Self(score));
        }
        Err(InvalidText::new("OOM score", Problem::Form("is not within -1000 and 1000")))
    }
}

impl From<OomScoreAdjust> for i32 {
    fn from(score: OomScoreAdjust) -> Self {
        score.0
    }
}

/// What the clocks of a time namespace are ahead of the host's, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TimeOffsets {
    /// The monotonic clock.
    pub monotonic: i64,
    /// The boot time clock.
    pub boottime: i64,
}
