//! A lab system: a whole Debian 13 with `tared` installed on its system bus.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use zbus::{OwnedObjectPath, Variant};

use crate::host::{LEFT, in_time, run, runtime};
use crate::made::Record;
use crate::network::Netfilter;
use crate::world::{Change, Scope, Watch, settle};
use crate::{Client, Options, World, started};

/// The system bus of the lab.
pub const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// One case at a time: they share the system.
static ALONE: Mutex<()> = Mutex::new(());

/// Where a lab system runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// In namespaces of a host, with its kernel, at native speed: `tests/lab/lab`.
    System,
    /// As an emulated machine with a kernel of its own: `tests/lab/vm`.
    Machine,
}

impl Ring {
    /// As `lab` and `vm` say it to what they run.
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Machine => "machine",
        }
    }
}

/// The lab system a case runs in.
#[derive(Clone, Copy, Debug)]
pub struct Lab {
    begun: SystemTime,
}

/// Runs `body` in the lab system this program was started in. What is there afterwards must be what
/// was there before.
///
/// # Panics
///
/// If there is none: a case that cannot run is a failure, never a silent pass. If `body` panics, or
/// leaves anything, or takes longer than [`case_limit`](crate::world::case_limit); the journal of its time is
/// then printed.
#[expect(clippy::print_stderr, reason = "why a case failed, shown with its failure")]
pub fn in_lab(ring: Ring, body: impl AsyncFnOnce(&Lab)) {
    let here = std::env::var("TARE_LAB").unwrap_or_default();
    assert_eq!(here, ring.name(), "runs in a lab system: make test-lab, make test-vm");
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Netfilter::apply_asked();
    let lab = Lab { begun: SystemTime::now() };
    let _watch = Watch::begin(&scope(), move || lab.journal_of_this_case());
    let result =
        catch_unwind(AssertUnwindSafe(|| runtime().block_on(leaving_nothing(&lab, ring, body))));
    if let Err(panic) = result {
        eprintln!("{}", lab.journal_of_this_case());
        remove_containers();
        resume_unwind(panic);
    }
}

async fn leaving_nothing(lab: &Lab, ring: Ring, body: impl AsyncFnOnce(&Lab)) {
    Record::default().take_part();
    lab.use_as(ring).await;
    let before = World::at_rest(|| World::capture(&scope()));
    in_time(body(lab)).await;
    let left = || before.leftovers(&World::capture(&scope()), &scope());
    // A service that was started anew has not made again what comes with the first container.
    if left().iter().any(|it| matches!(it.change, Change::Gone(_))) {
        lab.use_as(ring).await;
    }
    settle(LEFT, left);
}

/// Where everything of the service is, and what it may keep.
fn scope() -> Scope {
    Scope { made: Record::of_this_case().made(), ..Scope::of_installed_service() }
}

/// What a failed case has left would fail the next ones.
fn remove_containers() {
    let _ = Command::new("sh").args(["-c", REMOVE_ALL]).status();
}

const REMOVE_ALL: &str =
    "tarectl ps --all | tail -n +2 | cut -d ' ' -f 1 | xargs --no-run-if-empty tarectl rm --force";

impl Lab {
    /// A connection to the installed daemon, by root; the first call starts it.
    pub async fn client(&self) -> Client {
        Client::connect(SYSTEM_BUS).await
    }

    /// Brings about what stays after its first use, as cases in that kind of system use it.
    async fn use_as(&self, ring: Ring) {
        self.use_all().await;
        // No case in a machine, which is slow, has any of that.
        if ring == Ring::System {
            self.open_all().await;
        }
    }

    /// Brings about what stays after its first use: the service itself, bridge and firewall.
    async fn use_all(&self) {
        let client = self.client().await;
        client.import_busybox().await;
        let first = started(&client, "first", "true").await;
        client.remove(&first).await.done();
    }

    /// The same, of what lets ports and IPv6 through.
    async fn open_all(&self) {
        let client = self.client().await;
        let ipv6 = Options::from([("IPv6", true.into())]);
        let network: OwnedObjectPath =
            client.manager("CreateNetwork", &("first", ipv6)).await.unwrap();
        let rows = |key: &'static str, value: &[Variant<'static>]| {
            let row = |it: &Variant<'static>| HashMap::from([(key, it.try_clone().unwrap())]);
            Variant::from(value.iter().map(row).collect::<Vec<_>>())
        };
        let options = Options::from([
            ("Command", vec!["true"].into()),
            ("Networks", rows("Network", &["tare".into(), "first".into()])),
            ("PublishedPorts", rows("ContainerPort", &[80_u16.into()])),
        ]);
        let first = client.create_with("first", options).await.unwrap();
        client.start(&first).await.done();
        client.remove(&first).await.done();
        client.call(&network, "Network", "Remove", &0_u64).await.unwrap();
    }

    /// What the journal has of the time since the case began, in the form `journalctl` calls
    /// `format`, with what else it is to be given.
    pub fn journal(&self, format: &str, more: &[&str]) -> String {
        let begun = self.begun.duration_since(UNIX_EPOCH).unwrap();
        let since = format!("--since=@{}.{:06}", begun.as_secs(), begun.subsec_micros());
        let mut arguments = vec!["--no-pager", "--quiet", "--output", format, &since];
        arguments.extend(more);
        run("journalctl", &["--sync"]);
        run("journalctl", &arguments)
    }

    fn journal_of_this_case(self) -> String {
        format!("the journal of this case:\n{}", self.journal("short-precise", &[]))
    }
}
