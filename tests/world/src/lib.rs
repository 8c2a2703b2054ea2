//! What there is on a host, and what has changed: for tests, which may leave nothing.
//!
//! # What it does
//!
//! A [`World`] is everything a container, or the daemon that keeps it, can leave behind; a
//! [`Scope`] says where to look for it: on the scratch host of a test, on a machine where the
//! service is installed, or in a part of a host that others use as well. Each kind of thing has a
//! file of its own here. What changes by itself and is no leak is left out in these files, each time
//! with the reason. [`Guard`] and [`leaving_nothing`] compare at the ends of a case. [`Watch`] has one fail
//! that hangs.
//!
//! # What it does not do
//!
//! It takes nothing away. It uses nothing of any other crate of the workspace, so that all can use it.
//! Not in it by design: `ip_forward`, which stays on once it was needed; and what the kernel
//! remembers of traffic (neighbours, connections, counters).
//!
//! # Privileges and kernels
//!
//! Root. Needs `iproute2` and `nftables`, and `systemctl` where units count.

mod cgroups;
mod descriptors;
mod files;
mod firewall;
mod guard;
mod idle;
mod made;
mod mounts;
mod namespaces;
mod network;
mod own_run;
mod processes;
mod profiles;
mod programs;
#[cfg(feature = "rows")]
mod rows;
#[cfg(not(feature = "rows"))]
#[path = "no_rows.rs"]
mod rows;
mod running;
mod scope;
mod settle;
mod sockets;
mod things;
mod units;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

pub use cgroups::all as cgroups;
pub use guard::{Guard, leaving_nothing};
pub use made::Made;
pub use own_run::own_run;
pub use processes::{Process, all as processes};
pub use scope::{Groups, Host, Scope, cgroup2};
pub use settle::{SETTLING, settle};
use things::Things;
pub use things::{Change, Difference};
pub use watch::{Watch, case_limit};

/// What is the same after this is not about to change.
const REST: Duration = Duration::from_millis(200);

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
        let is_own = scope.host == Host::Own;
        let network = if is_own { network::Network::look() } else { network::Network::default() };
        let whole = |things: fn() -> Things| if is_own { things() } else { Things::default() };
        let processes = processes(scope);
        let daemons = processes.iter().filter(|process| process.is_daemon(scope));
        Self(BTreeMap::from([
            ("link", network.links()),
            ("address", network.addresses()),
            ("route", network.routes()),
            ("rule", network.rules()),
            ("network namespace", whole(namespaces::named)),
            ("firewall", whole(firewall::ruleset)),
            ("mount", mounts::here(scope)),
            ("control group", cgroups::things(scope)),
            ("descriptor", descriptors::of(daemons).chain(descriptors::own(scope)).collect()),
            ("process", processes::things(&processes, scope)),
            ("AppArmor profile", profiles::loaded(scope)),
            ("file", files::of(scope)),
            ("row", rows::below(&scope.directories)),
            ("unit", units::of(scope)),
        ]))
    }

    /// The same once nothing changes any more: what a daemon does behind an end, it does a moment later.
    pub fn at_rest(capture: impl Fn() -> Self) -> Self {
        let end = Instant::now() + SETTLING;
        let mut before = capture();
        loop {
            thread::sleep(REST);
            let now = capture();
            if before == now || Instant::now() > end {
                return now;
            }
            before = now;
        }
    }

    /// What is in `now` and not in this world, and the other way round.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let of_kind =
            |(kind, before): (&&'static str, &Things)| before.differences(kind, &now.0[kind]);
        self.0.iter().flat_map(of_kind).collect()
    }

    /// The same without what a daemon keeps that has no container any more: its databases, its
    /// empty directories, and what it was asked to make.
    pub fn leftovers(&self, now: &Self, scope: &Scope) -> Vec<Difference> {
        let kept = idle::Kept::of(scope, &now.0["row"]);
        let mut differences = self.differences(now);
        differences.retain(|difference| !kept.is(difference));
        differences
    }

    /// The same of a world in which a daemon had just begun, and still runs: of each of its networks
    /// that were used it keeps what is on the host.
    pub fn leftovers_of_running(&self, now: &Self, scope: &Scope) -> Vec<Difference> {
        let mut running = running::Running::of(&now.0["row"], &now.0["address"]);
        let mut left = self.leftovers(now, scope);
        left.retain(|difference| !running.keeps(scope, difference));
        left
    }

    /// Whether a daemon here has a container.
    pub fn has_container(&self) -> bool {
        self.0["row"].iter().any(|(name, _)| name.contains(".db containers "))
    }

    /// How many daemons there are.
    pub fn daemons(&self) -> usize {
        let is_daemon = |(name, _): &(&str, &str)| {
            let program = name.split(' ').next().unwrap_or_default();
            ["/tared", "/tared-faulty"].iter().any(|it| program.ends_with(it))
        };
        self.0["process"].iter().filter(is_daemon).count()
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
