use std::collections::BTreeMap;
use std::fs;
use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// The resources by the names the OCI specification has for them.
const RESOURCES: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// What a process can do, and so the programs it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The bounding set of capabilities, a bit for each as in capabilities(7).
    pub capabilities: u64,
    /// Hard limits of resources by name, such as `RLIMIT_NOFILE`; one that is not here is unlimited.
    pub resources: BTreeMap<String, u64>,
}

impl Limits {
    /// The limits of this process.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let set = |set| caps::read(None, set).map_err(io::Error::other);
        let resources = if set(CapSet::Effective)?.contains(&Capability::CAP_SYS_RESOURCE) {
            // Whoever may raise limits may raise all of them, but for the one with an end of its own.
            most_files().map(|most| ("RLIMIT_NOFILE".into(), most)).into_iter().collect()
        } else {
            hard_limits()
        };
        Ok(Self { capabilities: bits(&set(CapSet::Bounding)?), resources })
    }
}

fn bits(set: &CapsHashSet) -> u64 {
    set.iter().fold(0, |bits, capability| bits | 1 << capability.index())
}

fn hard_limits() -> BTreeMap<String, u64> {
    let hard = |(name, resource): (&str, Resource)| {
        getrlimit(resource).maximum.map(|limit| (name.into(), limit))
    };
    RESOURCES.into_iter().filter_map(hard).collect()
}

fn most_files() -> Option<u64> {
    fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_numbered_as_the_kernel_does() {
        let set = [Capability::CAP_CHOWN, Capability::CAP_SYS_RESOURCE, Capability::CAP_BPF];
        assert_eq!(bits(&set.into_iter().collect()), 1 << 0 | 1 << 24 | 1 << 39);
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let ours = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
        let ours = u64::from_str_radix(ours.trim(), 16).unwrap();
        assert_eq!(Limits::of_this_process().unwrap().capabilities, ours);
    }

    #[test]
    fn no_limit_is_above_what_may_be_set() {
        let limits = Limits::of_this_process().unwrap();
        assert!(limits.resources.contains_key("RLIMIT_NOFILE"), "{limits:?}");
        for (name, resource) in RESOURCES {
            let hard = getrlimit(resource).maximum;
            let told = limits.resources.get(name).copied();
            let may_raise = limits.resources.len() == 1;
            assert!(may_raise || told == hard, "{name}: {told:?}, {hard:?}");
        }
    }
}
