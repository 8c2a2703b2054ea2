//! Resource limits of the container's first process: defaults, requests, and what the host allows.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::text::{InvalidText, Problem};
use crate::warning::Warning;

/// Which limit; named as in getrlimit(2), `RLIMIT_NOFILE` or `nofile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
#[expect(missing_docs, reason = "getrlimit(2) says what each is, and its unit")]
pub enum RlimitKind {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl RlimitKind {
    /// Every limit there is.
    pub const ALL: [Self; 16] = [
        Self::As,
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Locks,
        Self::Memlock,
        Self::Msgqueue,
        Self::Nice,
        Self::Nofile,
        Self::Nproc,
        Self::Rss,
        Self::Rtprio,
        Self::Rttime,
        Self::Sigpending,
        Self::Stack,
    ];

    /// The name with `RLIMIT_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::As => "RLIMIT_AS",
            Self::Core => "RLIMIT_CORE",
            Self::Cpu => "RLIMIT_CPU",
            Self::Data => "RLIMIT_DATA",
            Self::Fsize => "RLIMIT_FSIZE",
            Self::Locks => "RLIMIT_LOCKS",
            Self::Memlock => "RLIMIT_MEMLOCK",
            Self::Msgqueue => "RLIMIT_MSGQUEUE",
            Self::Nice => "RLIMIT_NICE",
            Self::Nofile => "RLIMIT_NOFILE",
            Self::Nproc => "RLIMIT_NPROC",
            Self::Rss => "RLIMIT_RSS",
            Self::Rtprio => "RLIMIT_RTPRIO",
            Self::Rttime => "RLIMIT_RTTIME",
            Self::Sigpending => "RLIMIT_SIGPENDING",
            Self::Stack => "RLIMIT_STACK",
        }
    }
}

impl fmt::Display for RlimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RlimitKind {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().strip_prefix("RLIMIT_") == Some(short))
            .ok_or(InvalidText::new("resource limit", Problem::Form("is not known")))
    }
}

impl TryFrom<String> for RlimitKind {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RlimitKind> for &'static str {
    fn from(kind: RlimitKind) -> Self {
        kind.name()
    }
}

/// A limit that was asked for; the soft value is never above the hard one.
///
/// [`Ulimit::UNLIMITED`] is "no limit". Units are those of getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(RlimitKind, u64, u64)", into = "(RlimitKind, u64, u64)")]
pub struct Ulimit {
    kind: RlimitKind,
    soft: u64,
    hard: u64,
}

impl Ulimit {
    /// `RLIM_INFINITY`.
    pub const UNLIMITED: u64 = u64::MAX;

    /// A limit of this kind.
    ///
    /// # Errors
    /// When `soft` is above `hard`.
    pub const fn new(kind: RlimitKind, soft: u64, hard: u64) -> Result<Self, InvalidText> {
        if soft > hard {
            let problem = Problem::Form("has a soft value above the hard one");
            return Err(InvalidText::new("resource limit", problem));
        }
        Ok(Self { kind, soft, hard })
    }

    /// Which limit.
    pub const fn kind(self) -> RlimitKind {
        self.kind
    }

    /// The value that holds.
    pub const fn soft(self) -> u64 {
        self.soft
    }

    /// The value up to which the process itself may raise it.
    pub const fn hard(self) -> u64 {
        self.hard
    }

    /// Whether it lets a container have more of the host than it has without anybody asking.
    pub(crate) const fn widens(self) -> bool {
        self.hard > usual(self.kind)
    }
}

/// Up to where nobody is asked: what every container has, else the kernel's own value, from which time of the
/// processors before all others, memory that stays, and memory of the kernel are kept. All that is not listed is
/// a process's own, or without limit as it is; see getrlimit(2).
const fn usual(kind: RlimitKind) -> u64 {
    match kind {
        RlimitKind::Nofile => DEFAULT_FILES,
        RlimitKind::Nproc => DEFAULT_PROCESSES,
        RlimitKind::Memlock => 8 << 20,
        RlimitKind::Msgqueue => 819_200,
        // That is a nice value of 0, which all begin with.
        RlimitKind::Nice => 20,
        RlimitKind::Rtprio => 0,
        _ => Ulimit::UNLIMITED,
    }
}

impl TryFrom<(RlimitKind, u64, u64)> for Ulimit {
    type Error = InvalidText;

    fn try_from((kind, soft, hard): (RlimitKind, u64, u64)) -> Result<Self, Self::Error> {
        Self::new(kind, soft, hard)
    }
}

impl From<Ulimit> for (RlimitKind, u64, u64) {
    fn from(limit: Ulimit) -> Self {
        (limit.kind, limit.soft, limit.hard)
    }
}

/// What podman gives every container: open files and processes.
const DEFAULTS: [(RlimitKind, u64); 2] =
    [(RlimitKind::Nofile, DEFAULT_FILES), (RlimitKind::Nproc, DEFAULT_PROCESSES)];
const DEFAULT_FILES: u64 = 1_048_576;
const DEFAULT_PROCESSES: u64 = 1_048_576;

/// The limits to set, by kind: the defaults cut down to what the host allows, under the requests.
///
/// A kind that is not in `hard` is taken as free to set.
pub(crate) fn limits(
    requested: &[Ulimit],
    hard: &BTreeMap<RlimitKind, u64>,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Ulimit>, Error> {
    let mut limits = BTreeMap::new();
    for limit in requested {
        check_allowed(*limit, hard)?;
        limits.insert(limit.kind, *limit);
    }
    for (kind, wanted) in DEFAULTS {
        limits.entry(kind).or_insert_with(|| default_limit(kind, wanted, hard, warnings));
    }
    Ok(limits.into_values().collect())
}

fn check_allowed(limit: Ulimit, hard: &BTreeMap<RlimitKind, u64>) -> Result<(), Error> {
    match hard.get(&limit.kind) {
        Some(&allowed) if limit.hard > allowed => {
            Err(Error::Ulimit { kind: limit.kind, wanted: limit.hard, allowed })
        }
        _ => Ok(()),
    }
}

fn default_limit(
    kind: RlimitKind,
    wanted: u64,
    hard: &BTreeMap<RlimitKind, u64>,
    warnings: &mut Vec<Warning>,
) -> Ulimit {
    let value = hard.get(&kind).map_or(wanted, |allowed| wanted.min(*allowed));
    if value < wanted {
        warnings.push(Warning::DefaultLimitLowered { kind, wanted, value });
    }
    Ulimit { kind, soft: value, hard: value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOFILE: RlimitKind = RlimitKind::Nofile;

    #[test]
    fn names_in_both_forms() {
        for kind in RlimitKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(kind.name()["RLIMIT_".len()..].to_lowercase().parse(), Ok(kind));
        }
        assert!("RLIMIT_".parse::<RlimitKind>().is_err());
        assert!(Ulimit::new(NOFILE, 2, 1).is_err());
    }

    #[test]
    fn defaults_requests_and_the_host() {
        let unlimited = Ulimit::UNLIMITED;
        // (about, host's hard limit, requested (soft, hard), wanted result or the allowed value)
        let cases = [
            ("default", None, None, Ok((1_048_576, 1_048_576))),
            ("default, lowered", Some(4096), None, Ok((4096, 4096))),
            ("default, host has more", Some(unlimited), None, Ok((1_048_576, 1_048_576))),
            ("asked", Some(4096), Some((10, 20)), Ok((10, 20))),
            ("asked, all there is", Some(4096), Some((10, 4096)), Ok((10, 4096))),
            ("asked too much", Some(4096), Some((10, 4097)), Err(4096)),
            ("asked for no limit", Some(4096), Some((10, unlimited)), Err(4096)),
            ("no limit and none needed", None, Some((10, unlimited)), Ok((10, unlimited))),
        ];
        for (about, host, asked, want) in cases {
            let hard = host.into_iter().map(|value| (NOFILE, value)).collect();
            let asked: Vec<_> = asked
                .into_iter()
                .map(|(soft, hard)| Ulimit::new(NOFILE, soft, hard).unwrap())
                .collect();
            let mut warnings = Vec::new();
            let got = limits(&asked, &hard, &mut warnings);
            match (got, want) {
                (Ok(limits), Ok(want)) => {
                    assert_eq!((limits[0].soft, limits[0].hard), want, "{about}");
                    assert_eq!(limits.len(), 2, "{about}: and NPROC");
                }
                (Err(Error::Ulimit { kind: NOFILE, allowed, .. }), Err(want)) => {
                    assert_eq!(allowed, want, "{about}");
                }
                other => panic!("{about}: {other:?}"),
            }
            assert_eq!(warnings.len(), usize::from(about == "default, lowered"), "{about}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_above_what_the_host_allows(
            soft in any::<u64>(), more in any::<u64>(), host in any::<u64>(),
        ) {
            let asked = Ulimit::new(NOFILE, soft, soft.saturating_add(more)).unwrap();
            let hard = BTreeMap::from([(NOFILE, host), (RlimitKind::Nproc, host)]);
            if let Ok(limits) = limits(&[asked], &hard, &mut Vec::new()) {
                prop_assert!(limits.iter().all(|limit| limit.hard <= host && limit.soft <= limit.hard));
            } else {
                prop_assert!(asked.hard > host);
            }
        }
    }
}
