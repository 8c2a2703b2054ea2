//! Finds out whether a runtime works on this host, by a container of no use.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::launch::{Deadline, read_small, wait_readable};
use crate::step::{Done, Step};
use crate::undo::{Failure, Undo, failed, run};
use crate::{
    Cause, Create, Error, Extent, Force, Layout, Leftover, Place, PlacedMount, Spawner, Started,
    Target,
};

/// How long the container of a trial may run.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// A throw-away container that shows whether a runtime works on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The container; no file of it may exist yet. Its log may lie in the bundle.
    pub create: Create,
    /// Its `config.json`. The root file system is the host's own, read-only; the process must end
    /// by itself within ten seconds, with exit code 0.
    pub config_json: Vec<u8>,
    /// How much of its control group is to be removed afterwards.
    pub extent: Extent,
}

/// What [`Trial::run`] learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// What the runtime prints for `--version`, at most 4 KiB.
    pub version: String,
    /// Whether the trial went through.
    pub verdict: Verdict,
}

/// Outcome of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A container was created, started, ended with code 0 and was deleted.
    Works,
    /// It was not.
    Fails {
        /// Which step failed and why, in one line.
        reason: String,
    },
}

impl Trial {
    /// Asks a runtime for its version and tries it out through `spawner`, whose run directory is
    /// `run_dir`; leaves nothing behind. `register` is given conmon before it is let go, to be put
    /// where real containers are put.
    ///
    /// # Errors
    ///
    /// [`Error::Version`]; [`Error::Probe`] if something was left behind. A runtime that does not
    /// work is not an error: see [`Probed::verdict`].
    pub fn run(
        &self,
        spawner: &dyn Spawner,
        run_dir: &Path,
        register: impl FnOnce(&Started) -> io::Result<()>,
    ) -> Result<Probed, Error> {
        let runtime = self.create.runtime;
        let version = spawner.version(runtime)?;
        let attempt = Attempt { trial: self, spawner, run_dir };
        let verdict = match attempt.tidily(register) {
            Ok(Ok(())) => Verdict::Works,
            Ok(Err(cause)) => Verdict::Fails { reason: chain(&cause) },
            Err(Failure { cause, leftovers }) => {
                return Err(Error::Probe { runtime, cause, leftovers });
            }
        };
        Ok(Probed { version, verdict })
    }
}

struct Attempt<'a> {
    trial: &'a Trial,
    spawner: &'a dyn Spawner,
    run_dir: &'a Path,
}

impl Attempt<'_> {
    /// A trial of which nothing stays, whatever comes of it.
    fn tidily(
        &self,
        register: impl FnOnce(&Started) -> io::Result<()>,
    ) -> Result<Result<(), Cause>, Failure> {
        let mut undo = Undo::default();
        let (tried, mut leftovers) = match self.try_out(register, &mut undo) {
            Ok(()) => (Ok(()), Vec::new()),
            Err(Failure { cause, leftovers }) => (Err(cause), leftovers),
        };
        if let Err(error) = self.clean_up() {
            leftovers.push(leftover("clean up the control group of a trial", error));
        }
        leftovers.extend(undo.roll_back());
        if leftovers.is_empty() {
            return Ok(tried);
        }
        Err(Failure { cause: tried.err().unwrap_or(Cause::Uncleaned), leftovers })
    }

    fn clean_up(&self) -> Result<(), Error> {
        self.spawner.cleanup_cgroup(&self.trial.create.cgroup, self.trial.extent)
    }

    /// create, start, wait, delete: as every real container, in a view like theirs.
    fn try_out(
        &self,
        register: impl FnOnce(&Started) -> io::Result<()>,
        undo: &mut Undo,
    ) -> Result<(), Failure> {
        let create = &self.trial.create;
        let layout = Layout::new(self.run_dir, &create.id, create.incarnation);
        undo.run(&Step::EnsureDir(self.run_dir.join("containers")))?;
        undo.run(&Step::MakeDir(layout.container()))?;
        undo.run(&Step::MakeBundle(layout.bundle()))?;
        undo.run(&Step::WriteFile(layout.new_config_json(), self.trial.config_json.clone()))?;
        let rootfs = PlacedMount { place: Place::Rootfs, mount: host_root()? };
        let prepared = self.spawner.prepare(create, Vec::new()).map_err(Error::into_failure)?;
        register(prepared.supervisor()).map_err(|source| failed(&"register a trial", source))?;
        let created = prepared.create(vec![rootfs]).map_err(Error::into_failure)?;

        let (target, supervisor) = (create.target(), &created.supervisor.pidfd);
        let ran = self.run_to_end(&target, supervisor);
        let deleted = self.spawner.delete(&target, Some(supervisor.as_fd()), Force::Kill);
        deleted.map_err(not_deleted)?;
        ran?;
        let code = read_small(&layout.exit_file());
        match code.map_err(|source| failed(&"read the exit file", source))?.trim() {
            "0" => Ok(()),
            code => Err(Cause::Runtime { message: format!("the process ended with code {code}") })?,
        }
    }

    fn run_to_end(&self, target: &Target, supervisor: &OwnedFd) -> Result<(), Failure> {
        self.spawner.start(target, supervisor.as_fd()).map_err(Error::into_failure)?;
        wait_readable([supervisor], Deadline::after(TRIAL_LIMIT))
            .map_err(|_| Cause::Timeout { limit: TRIAL_LIMIT })?;
        Ok(())
    }
}

/// The runtime still knows the container then.
fn not_deleted(error: Error) -> Failure {
    let cause = Cause::Uncleaned;
    Failure { cause, leftovers: vec![leftover("delete the container of a trial", error)] }
}

fn leftover(undo: &str, error: Error) -> Leftover {
    let Failure { cause, .. } = error.into_failure();
    Leftover { undo: undo.into(), source: io::Error::other(chain(&cause)) }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn host_root() -> Result<OwnedFd, Cause> {
    match run(&Step::CloneHostRoot)? {
        Done::Fd(mount) => Arc::into_inner(mount).ok_or(Cause::Gone),
        other => unreachable!("copying gave {other:?}"),
    }
}
