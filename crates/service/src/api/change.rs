//! What is done to a container: arguments of `Stop`, `Restart`, `Kill`, `Remove` and `Rename`, be they
//! those of the container or of the manager, which finds it by name.

use std::sync::Arc;
use std::time::Duration;

use tare_runtime::{ContainerName, Signal};

use super::error::ApiError;
use super::options::flags;
use crate::engine::{
    IfRunning, Kill, Needed, OwnVolumes, Remove, Restart, Stop, Whom, container_name, view,
};

/// `Stop`: no error if it does not run.
const IF_RUNNING: u64 = 1;
/// `Remove`: kill it first if it runs.
const KILL_FIRST: u64 = 1;
/// `Remove`: also the volumes that were made for it alone.
const WITH_VOLUMES: u64 = 2;

/// The container that is meant; looked up when the rest is known to be right.
type Found = Result<Arc<view::Container>, ApiError>;

/// Arguments of `Stop`.
pub(crate) fn stop(
    timeout_usec: u64,
    given: u64,
    find: impl FnOnce() -> Found,
) -> Result<Stop, ApiError> {
    let if_running = flags(given, IF_RUNNING)? & IF_RUNNING != 0;
    let needed = if if_running { Needed::Nothing } else { Needed::Running };
    Ok(Stop { timeout: timeout(timeout_usec), needed, container: find()? })
}

/// Arguments of `Restart`.
pub(crate) fn restart(
    timeout_usec: u64,
    given: u64,
    find: impl FnOnce() -> Found,
) -> Result<Restart, ApiError> {
    flags(given, 0)?;
    Ok(Restart { timeout: timeout(timeout_usec), container: find()? })
}

/// Arguments of `Remove`.
pub(crate) fn remove(given: u64, find: impl FnOnce() -> Found) -> Result<Remove, ApiError> {
    let given = flags(given, KILL_FIRST | WITH_VOLUMES)?;
    let has = |flag| given & flag != 0;
    let running = if has(KILL_FIRST) { IfRunning::Kill } else { IfRunning::Refuse };
    let volumes = if has(WITH_VOLUMES) { OwnVolumes::Remove } else { OwnVolumes::Keep };
    Ok(Remove { running, volumes, container: find()? })
}

/// The name of a container.
pub(crate) fn name(text: &str) -> Result<ContainerName, ApiError> {
    Ok(container_name(text)?)
}

/// Arguments of `Kill`.
pub(crate) fn kill(
    whom: &str,
    signal: i32,
    given: u64,
    find: impl FnOnce() -> Found,
) -> Result<Kill, ApiError> {
    flags(given, 0)?;
    let (whom, signal) = target(whom, signal)?;
    Ok(Kill { whom, signal, container: find()? })
}

/// A signal, by its number.
pub(crate) fn signal(number: i32) -> Result<Signal, ApiError> {
    Signal::from_number(number)
        .map_err(|error| ApiError::invalid_args(format!("signal {number}: {error}")))
}

fn target(whom: &str, signal: i32) -> Result<(Whom, Signal), ApiError> {
    let signal = self::signal(signal)?;
    match whom {
        "init" => Ok((Whom::Init, signal)),
        "all" if i32::from(signal.number()) == 9 => Ok((Whom::All, signal)),
        "all" => Err(ApiError::invalid_args("all processes can only be sent signal 9 (SIGKILL)")),
        _ => Err(ApiError::invalid_args("whom must be init or all")),
    }
}

/// A time to stop in; the largest number stands for the container's own.
fn timeout(usec: u64) -> Option<Duration> {
    (usec != u64::MAX).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processes_get_sigkill_or_nothing() {
        assert!(target("all", 9).is_ok());
        assert!(target("init", 15).is_ok());
        for (whom, signal) in [("all", 15), ("init", 0), ("init", 65), ("init", -1), ("some", 9)] {
            assert!(target(whom, signal).is_err(), "{whom} {signal}");
        }
    }
}
