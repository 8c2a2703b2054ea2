//! A host of a test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::mount_bind;

use crate::made::Record;
use crate::network::Netfilter;
use crate::world::{SETTLING, Scope, Watch, case_limit, settle};
use crate::{World, sys, world};

/// One test at a time: some measure how long things take.
static ALONE: Mutex<()> = Mutex::new(());

/// What a host's `/etc/resolv.conf` says here, and in the lab: an address kept for documentation.
pub const RESOLV_CONF: &str = "search tare.test\nnameserver 192.0.2.53\n";

/// Where a host says which ids containers have, below `/etc` and in the scratch directory, and what it says
/// here: those of two containers.
const SUBUID: (&str, &str) = ("subuid", "somebody:1:9\ntare:1879048192:131072\n");
const SUBGID: (&str, &str) = ("subgid", "tare:1946157056:131072\n");

/// Runs `body` on a host of its own: network and mount namespaces, `/run`, and a scratch
/// directory. What is there afterwards must be what was there before.
///
/// # Panics
///
/// If not root: a privileged test that cannot run is a failure, never a silent pass. If `body`
/// panics, leaves anything, or takes longer than [`case_limit`].
pub fn on_scratch_host(body: impl AsyncFnOnce(&Host) + Send) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    on_own_thread(body);
}

/// The same for tests that do not mind how fast they are: beside others, as many as there are
/// threads for tests.
///
/// # Panics
///
/// As [`on_scratch_host`].
pub fn on_busy_scratch_host(body: impl AsyncFnOnce(&Host) + Send) {
    on_own_thread(body);
}

fn on_own_thread(body: impl AsyncFnOnce(&Host) + Send) {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let name = thread::current().name().unwrap_or("test").to_string();
    thread::scope(|scope| {
        let test = move || Host::new().run(body);
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, test).unwrap();
        thread.join().unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// The host of one test.
#[derive(Debug)]
pub struct Host {
    scratch: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let scratch = tempfile::Builder::new().prefix("tare-").rand_bytes(8).tempdir().unwrap();
        // The bus socket is below it, and other users are to be refused there and not here.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o711)).unwrap();
        isolate(scratch.path());
        Self { scratch }
    }

    fn run(self, body: impl AsyncFnOnce(&Self)) {
        Record::default().take_part();
        let logs = self.scratch().to_owned();
        let _watch = Watch::begin(&self.scope(), move || all_logs(&logs));
        let before = self.world();
        runtime().block_on(in_time(body(&self)));
        settle(LEFT, || before.leftovers(&self.world(), &self.scope()));
    }

    /// The scratch directory.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A path in the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch().join(name)
    }

    /// Where everything of the test's daemons is.
    pub fn scope(&self) -> Scope {
        scope(self.scratch())
    }

    /// Everything containers can leave behind, as it is now.
    pub fn world(&self) -> World {
        World::capture(&self.scope())
    }

    /// The same once nothing changes any more: what a daemon does behind an end, it does a moment
    /// later.
    pub fn world_at_rest(&self) -> World {
        World::at_rest(|| self.world())
    }

    /// Waits until the world is `wanted`.
    ///
    /// # Panics
    ///
    /// With each difference, if that takes too long.
    pub fn settles_to(&self, wanted: &World) {
        settle(LEFT, || wanted.differences(&self.world()));
    }
}

/// What a case has failed with that left something.
pub(crate) const LEFT: &str = "the world is not as it was";

/// Where everything of the daemons of a test with that directory is, and what they may keep.
pub(crate) fn scope(scratch: &Path) -> Scope {
    Scope { made: Record::of_this_case().made(), ..Scope::of_scratch_host(scratch) }
}

/// Runs `body` as another user, on a thread of its own.
pub fn as_user<T: Send>(uid: u32, body: impl AsyncFnOnce() -> T + Send) -> T {
    let record = Record::of_this_case();
    thread::scope(|scope| {
        let become_user = move || {
            record.take_part();
            sys::become_user(uid).unwrap();
            runtime().block_on(body())
        };
        scope.spawn(become_user).join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

impl Drop for Host {
    /// For tests that fail half-way; after the others nothing is left to do.
    fn drop(&mut self) {
        let scope = self.scope();
        world::processes(&scope).iter().for_each(world::Process::kill);
        let groups = world::cgroups(&scope);
        // What a daemon has begun meanwhile is in none of the processes that were found.
        for group in &groups {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        let end = Instant::now() + SETTLING;
        // Those within others first.
        for group in groups.iter().rev() {
            while fs::remove_dir(group).is_err() && group.exists() && Instant::now() < end {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Waits for a case as long as one may take. If that is not enough, it goes as one that fails: what it has
/// says what is known of it.
pub(crate) async fn in_time(case: impl Future<Output = ()>) {
    let (mut case, limit) = (pin!(case), case_limit());
    let ended = tokio::time::timeout(limit, &mut case).await;
    assert!(ended.is_ok(), "it still waits after {limit:?}, and is taken for one that hangs");
}

/// What daemons have logged.
fn all_logs(scratch: &Path) -> String {
    let files = fs::read_dir(scratch).into_iter().flatten().flatten().map(|entry| entry.path());
    let logs = files.filter(|path| path.extension().is_some_and(|it| it == "log"));
    let said = |log: PathBuf| {
        format!("{}:\n{}\n", log.display(), fs::read_to_string(&log).unwrap_or_default())
    };
    logs.map(said).collect()
}

/// One thread: whatever is started from it has the namespaces and the user of the caller.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a program and returns what it printed.
///
/// # Panics
///
/// If it fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn isolate(scratch: &Path) {
    let resolv_conf = fs::canonicalize("/etc/resolv.conf").expect("a host has /etc/resolv.conf");
    sys::leave_the_host().expect("unshare");
    world::own_run();
    write_resolv_conf(&resolv_conf, scratch);
    for (name, ids) in [SUBUID, SUBGID] {
        let ours = scratch.join(name);
        fs::write(&ours, ids).unwrap();
        mount_bind(&ours, Path::new("/etc").join(name)).expect("a host has subordinate ids");
    }
    run("ip", &["link", "set", "lo", "up"]);
    Netfilter::apply_asked();
}

/// What the host's own says does not matter here, nor where it is.
fn write_resolv_conf(path: &Path, scratch: &Path) {
    if path.starts_with("/run") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, RESOLV_CONF).unwrap();
    } else {
        let ours = scratch.join("resolv.conf");
        fs::write(&ours, RESOLV_CONF).unwrap();
        mount_bind(&ours, path).unwrap();
    }
}
