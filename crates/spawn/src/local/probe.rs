use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::{Local, calls::call};
use crate::launch::{Deadline, read_small, wait_readable};
use crate::step::{Done, Step};
use crate::undo::{Failure, Undo, failed, run};
use crate::view;
use crate::{
    Cause, Create, Error, Force, Layout, Leftover, Place, PlacedMount, Probed, Refusal, Settings,
    Spawner, Target, Trial, Verdict, argv,
};

/// How long the container of a trial may run.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);
/// Longest version text that is passed on, in bytes.
const MAX_VERSION: usize = 4 << 10;

pub(super) fn probe(local: &Local, trial: &Trial) -> Result<Probed, Error> {
    let runtime = trial.create.runtime;
    let probe = || -> Result<Probed, Failure> {
        let version = version(local.settings(), &trial.create)?;
        let verdict = match tidily(local, trial)? {
            Ok(()) => Verdict::Works,
            Err(cause) => Verdict::Fails { reason: chain(&cause) },
        };
        Ok(Probed { version, verdict })
    };
    probe().map_err(|Failure { cause, leftovers }| Error::Probe { runtime, cause, leftovers })
}

/// A trial of which nothing stays, whatever comes of it.
fn tidily(local: &Local, trial: &Trial) -> Result<Result<(), Cause>, Failure> {
    let mut undo = Undo::default();
    let (tried, mut leftovers) = match try_out(local, trial, &mut undo) {
        Ok(()) => (Ok(()), Vec::new()),
        Err(Failure { cause, leftovers }) => (Err(cause), leftovers),
    };
    leftovers.extend(undo.roll_back());
    if leftovers.is_empty() {
        return Ok(tried);
    }
    Err(Failure { cause: tried.err().unwrap_or(Cause::Uncleaned), leftovers })
}

fn version(settings: &Settings, create: &Create) -> Result<String, Cause> {
    let program = settings.program(create.runtime).ok_or(Cause::Refused(Refusal::NoRuntime))?;
    let mut output = call(argv::version(program))?;
    output.truncate(MAX_VERSION);
    Ok(String::from_utf8_lossy(&output).trim_end().into())
}

/// create, start, wait, delete: as every real container, in a view like theirs.
fn try_out(local: &Local, trial: &Trial, undo: &mut Undo) -> Result<(), Failure> {
    let (create, settings) = (&trial.create, local.settings());
    let layout = Layout::new(&settings.run_dir, &create.id, create.incarnation);
    undo.run(&Step::EnsureDir(settings.run_dir.join("containers")))?;
    undo.run(&Step::MakeDir(layout.container()))?;
    undo.run(&Step::MakeBundle(layout.bundle()))?;
    undo.run(&Step::WriteFile(layout.new_config_json(), trial.config_json.clone()))?;
    let root = view::cgroup_root(settings.cgroups)?;
    undo.arm(Step::ClearCgroup { root, path: create.cgroup.clone() });
    let rootfs = PlacedMount { place: Place::Rootfs, mount: host_root()? };
    let created = local.create(create, vec![rootfs]).map_err(Error::into_failure)?;

    let (target, supervisor) = (create.target(), &created.supervisor.pidfd);
    let ran = run_to_end(local, &target, supervisor);
    let deleted = local.delete(&target, Some(supervisor.as_fd()), Force::Kill);
    deleted.map_err(|error| not_deleted(error.into_failure()))?;
    ran?;
    let code = read_small(&layout.exit_file());
    match code.map_err(|source| failed(&"read the exit file", source))?.trim() {
        "0" => Ok(()),
        code => Err(Cause::Runtime { message: format!("the process ended with code {code}") })?,
    }
}

fn run_to_end(local: &Local, target: &Target, supervisor: &OwnedFd) -> Result<(), Failure> {
    local.start(target, supervisor.as_fd()).map_err(Error::into_failure)?;
    wait_readable([supervisor], Deadline::after(TRIAL_LIMIT))
        .map_err(|_| Cause::Timeout { limit: TRIAL_LIMIT })?;
    Ok(())
}

/// The runtime still knows the container then.
fn not_deleted(Failure { cause, mut leftovers }: Failure) -> Failure {
    let undo = "delete the container of a trial".into();
    leftovers.push(Leftover { undo, source: io::Error::other(chain(&cause)) });
    Failure { cause, leftovers }
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
