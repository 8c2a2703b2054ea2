//! What there is on a host, and what has changed.
//!
//! A [`World`] is everything a container, or the daemon that keeps it, can leave behind; a
//! [`Scope`] says where to look for it: on the scratch host of a test, or on a machine where the
//! service is installed. Each kind of thing has a file of its own here. What changes by itself and
//! is no leak is left out in these files, each time with the reason.
//!
//! Not in it by design: `ip_forward`, which stays on once it was needed; and what the kernel
//! remembers of traffic (neighbours, connections, counters).

mod cgroups;
mod descriptors;
mod files;
mod firewall;
mod idle;
mod mounts;
mod namespaces;
mod network;
mod processes;
mod profiles;
mod rows;
mod scope;
mod things;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

pub use scope::{Groups, Scope, cgroup2};
pub use things::{Change, Difference};

pub(crate) use cgroups::all as cgroups;
pub(crate) use processes::{Process, all as processes};
use things::Things;

/// Everything on a host that containers can leave, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World(BTreeMap<&'static str, Things>);

impl World {
    /// The world as it is now, seen from the namespaces of the calling thread.
    ///
    /// # Panics
    ///
    /// If `ip` or `nft` fail: they need root.
    pub fn capture(scope: &Scope) -> Self {
        let network = network::Network::look();
        let processes = processes(scope);
        let daemons = processes.iter().filter(|process| process.is_daemon(scope));
        Self(BTreeMap::from([
            ("link", network.links()),
            ("address", network.addresses()),
            ("route", network.routes()),
            ("rule", network.rules()),
            ("network namespace", namespaces::named()),
            ("firewall", firewall::ruleset()),
            ("mount", mounts::here()),
            ("control group", cgroups::things(scope)),
            ("descriptor", descriptors::of(daemons)),
            ("process", processes::things(&processes, scope)),
            ("AppArmor profile", profiles::loaded(scope)),
            ("file", files::below(&scope.directories)),
            ("row", rows::below(&scope.directories)),
        ]))
    }

    /// What is in `now` and not in this world, and the other way round.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let of_kind =
            |(kind, before): (&&'static str, &Things)| before.differences(kind, &now.0[kind]);
        self.0.iter().flat_map(of_kind).collect()
    }

    /// The same without what a daemon keeps that has no container any more: its databases, its
    /// images, and its empty directories.
    pub fn leftovers(&self, now: &Self, scope: &Scope) -> Vec<Difference> {
        let mut differences = self.differences(now);
        differences.retain(|difference| !idle::keeps(scope, difference));
        differences
    }

    /// The world without what `is_expected` says of it, by kind and name: for a comparison in which
    /// that is known to differ.
    #[must_use]
    pub fn without(mut self, is_expected: impl Fn(&str, &str) -> bool) -> Self {
        for (kind, things) in &mut self.0 {
            things.retain(|name| !is_expected(kind, name));
        }
        self
    }
}

impl fmt::Display for World {
    /// A line for each thing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().flat_map(|(kind, things)| things.lines(kind));
        lines.into_iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The names in a directory; none if there is no such directory.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
