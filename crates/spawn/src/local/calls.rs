//! Calls of the runtime that need no conmon.

use std::os::fd::BorrowedFd;

use crate::argv::{self, Programs};
use crate::launch::{CALL_LIMIT, Finished, Launch};
use crate::message::last_words;
use crate::step::{Done, Step};
use crate::undo::run;
use crate::view;
use crate::{Cause, Deleted, Error, Force, Layout, OciRuntime, Refusal, Settings, Target};

/// Longest version text that is passed on, in bytes.
const MAX_VERSION: usize = 4 << 10;

pub(super) fn version(settings: &Settings, runtime: OciRuntime) -> Result<String, Error> {
    let version = || -> Result<String, Cause> {
        let program = settings.program(runtime).ok_or(Cause::Refused(Refusal::NoRuntime))?;
        let mut output = call(argv::version(program))?;
        output.truncate(MAX_VERSION);
        Ok(String::from_utf8_lossy(&output).trim_end().into())
    };
    version().map_err(|cause| Error::Version { runtime, cause })
}

pub(super) fn start(
    settings: &Settings,
    target: &Target,
    supervisor: BorrowedFd<'_>,
) -> Result<(), Error> {
    let start = || -> Result<(), Cause> {
        let programs = programs(settings, target)?;
        view::on_own_thread(|| {
            view::enter(supervisor)?;
            call(programs.start()).map(drop)
        })
    };
    start().map_err(|cause| Error::Start { id: target.id.clone(), cause })
}

pub(super) fn delete(
    settings: &Settings,
    target: &Target,
    supervisor: Option<BorrowedFd<'_>>,
    force: Force,
) -> Result<Deleted, Error> {
    let delete = || -> Result<Deleted, Cause> {
        let programs = programs(settings, target)?;
        if !programs.layout.runtime_state(target.runtime).exists() {
            return Ok(Deleted::AlreadyGone);
        }
        view::on_own_thread(|| {
            enter_or_make(settings, supervisor)?;
            call(programs.delete(force))?;
            Ok(Deleted::Deleted)
        })
    };
    delete().map_err(|cause| Error::Delete { id: target.id.clone(), cause })
}

pub(super) fn programs<'a>(
    settings: &'a Settings,
    target: &'a Target,
) -> Result<Programs<'a>, Cause> {
    let layout = Layout::new(&settings.run_dir, &target.id, target.incarnation);
    let runtime = settings.program(target.runtime).ok_or(Cause::Refused(Refusal::NoRuntime))?;
    Ok(Programs { settings, layout, target, runtime })
}

/// Moves this thread into the container's view, or into a new one like it if that is gone.
fn enter_or_make(settings: &Settings, supervisor: Option<BorrowedFd<'_>>) -> Result<(), Cause> {
    match supervisor.map(view::enter) {
        None | Some(Err(Cause::Gone)) => {
            view::make(settings.cgroups, &view::cgroup_root(settings.cgroups)?)
        }
        Some(result) => result,
    }
}

/// Runs a program to its end; gives the end of what it printed.
pub(super) fn call(launch: Launch) -> Result<Vec<u8>, Cause> {
    match run(&Step::Call(launch)) {
        Ok(Done::Finished(finished)) => judge(finished),
        Ok(other) => unreachable!("calling gave {other:?}"),
        Err(Cause::Step { source, .. }) if source.kind() == std::io::ErrorKind::TimedOut => {
            Err(Cause::Timeout { limit: CALL_LIMIT })
        }
        Err(cause) => Err(cause),
    }
}

pub(super) fn judge(finished: Finished) -> Result<Vec<u8>, Cause> {
    if finished.succeeded() {
        return Ok(finished.output);
    }
    Err(Cause::Runtime { message: last_words(&finished.output) })
}
