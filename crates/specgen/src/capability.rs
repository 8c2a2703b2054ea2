//! Linux capabilities as small sets that are always in the same order.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};
use std::str::FromStr;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use crate::text::{InvalidText, Problem};

/// Names by number, without `CAP_`; see capabilities(7).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability; parsed from its name in any case, with or without `CAP_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(u8);

impl Capability {
    /// Name without `CAP_`, as in `NET_ADMIN`.
    pub fn short_name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    fn all() -> impl Iterator<Item = Self> {
        (0_u8..).take(NAMES.len()).map(Self)
    }
}

impl FromStr for Capability {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Self::all()
            .find(|capability| capability.short_name() == short)
            .ok_or(InvalidText::new("capability", Problem::Form("is not known")))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.short_name())
    }
}

/// A set of capabilities; iterates and serialises in the kernel's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability that this crate knows.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);
    /// What a container gets when nothing is said, as in podman 5: `CHOWN`, `DAC_OVERRIDE`,
    /// `FOWNER`, `FSETID`, `KILL`, `SETGID`, `SETUID`, `SETPCAP`, `NET_BIND_SERVICE`,
    /// `SYS_CHROOT`, `SETFCAP`.
    pub const DEFAULT: Self = Self(
        1 | 1 << 1
            | 1 << 3
            | 1 << 4
            | 1 << 5
            | 1 << 6
            | 1 << 7
            | 1 << 8
            | 1 << 10
            | 1 << 18
            | 1 << 31,
    );

    /// The set with these bits, as in the `CapBnd` line of `proc_pid_status(5)`; bits beyond the
    /// last known capability are left out.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Whether this one is in the set.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// Whether all of those are in the set.
    pub const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether any of those is in the set.
    pub const fn contains_any(self, other: Self) -> bool {
        other.0 & self.0 != 0
    }

    /// The members in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::all().filter(move |capability| self.contains(*capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(members: I) -> Self {
        Self(members.into_iter().fold(0, |bits, member| bits | 1 << member.0))
    }
}

impl BitOr for CapabilitySet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for CapabilitySet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for CapabilitySet {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Serialize for CapabilitySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        self.iter()
            .try_for_each(|capability| list.serialize_element(&format_args!("{capability}")))?;
        list.end()
    }
}

/// An entry of `CapAdd` or `CapDrop`: a capability, or `ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CapabilityChoice {
    /// Every one that the host can give.
    All,
    /// This one.
    One(Capability),
}

impl FromStr for CapabilityChoice {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("all") { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

impl TryFrom<String> for CapabilityChoice {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CapabilityChoice> for String {
    fn from(choice: CapabilityChoice) -> Self {
        match choice {
            CapabilityChoice::All => "ALL".to_owned(),
            CapabilityChoice::One(capability) => capability.to_string(),
        }
    }
}

/// The capabilities a container is to have, before the host is looked at.
///
/// A capability named in `drop` is never in it; one named in `add` is, even when all are dropped.
pub(crate) fn wanted(
    add: &[CapabilityChoice],
    drop: &[CapabilityChoice],
    privileged: bool,
) -> CapabilitySet {
    let all = privileged || add.contains(&CapabilityChoice::All);
    let base = match (all, drop.contains(&CapabilityChoice::All)) {
        (_, true) => CapabilitySet::EMPTY,
        (true, false) => CapabilitySet::ALL,
        (false, false) => CapabilitySet::DEFAULT,
    };
    (base | named(add)) - named(drop)
}

/// Those that are named one by one.
pub(crate) fn named(choices: &[CapabilityChoice]) -> CapabilitySet {
    let one = |choice: &CapabilityChoice| match choice {
        CapabilityChoice::One(capability) => Some(*capability),
        CapabilityChoice::All => None,
    };
    choices.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Words = &'static [&'static str];

    fn names(set: CapabilitySet) -> Vec<&'static str> {
        set.iter().map(Capability::short_name).collect()
    }

    fn choices(list: &[&str]) -> Vec<CapabilityChoice> {
        list.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn the_default_set_is_podmans() {
        let mut got = names(CapabilitySet::DEFAULT);
        got.sort_unstable();
        let want = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP \
                    SETUID SYS_CHROOT";
        assert_eq!(got, want.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn names_are_read_in_every_usual_form() {
        let net_admin = "CAP_NET_ADMIN".parse::<Capability>().unwrap();
        for form in ["NET_ADMIN", "net_admin", "cap_net_admin"] {
            assert_eq!(form.parse(), Ok(net_admin), "{form}");
        }
        assert_eq!(net_admin.to_string(), "CAP_NET_ADMIN");
        for wrong in ["", "CAP_", "CAP_CAP_KILL", "ALL", "12"] {
            assert!(wrong.parse::<Capability>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn adding_and_dropping() {
        let all_but_default = NAMES.len();
        let cases: [(&str, Words, Words, Words); 5] = [
            ("all dropped", &[], &["ALL"], &[]),
            ("one kept of none", &["KILL"], &["all"], &["KILL"]),
            ("dropping wins over adding", &["KILL"], &["ALL", "KILL"], &[]),
            ("dropping all wins over adding all", &["ALL"], &["ALL"], &[]),
            ("named in both", &["KILL", "BPF"], &["ALL", "BPF"], &["KILL"]),
        ];
        for (about, add, drop, want) in cases {
            assert_eq!(names(wanted(&choices(add), &choices(drop), false)), want, "{about}");
        }
        assert_eq!(wanted(&[], &[], false), CapabilitySet::DEFAULT);
        assert_eq!(names(wanted(&choices(&["ALL"]), &[], false)).len(), all_but_default);
        let fewer = wanted(&[], &choices(&["SYS_ADMIN"]), true);
        assert_eq!(names(fewer).len(), all_but_default - 1);
    }

    proptest! {
        #[test]
        fn sets_serialise_in_one_order(bits in any::<u64>()) {
            let set = CapabilitySet::from_bits(bits);
            let json = serde_json::to_string(&set).unwrap();
            let back: Vec<String> = serde_json::from_str(&json).unwrap();
            let numbers: Vec<u8> = back.iter().map(|name| name.parse::<Capability>().unwrap().0).collect();
            prop_assert!(numbers.is_sorted());
            prop_assert_eq!(back.iter().map(|n| n.parse().unwrap()).collect::<CapabilitySet>(), set);
        }
    }
}
