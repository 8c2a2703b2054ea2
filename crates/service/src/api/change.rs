//! What is done to a container: arguments of `Kill`, `Stop`, `Rename`.

use std::time::Duration;

use tare_runtime::{ContainerName, Signal};

use super::error::ApiError;
use crate::engine::{Whom, container_name};

/// The name of a container.
pub(crate) fn name(text: &str) -> Result<ContainerName, ApiError> {
    Ok(container_name(text)?)
}

/// Arguments of `Kill`.
pub(crate) fn kill(whom: &str, signal: i32) -> Result<(Whom, Signal), ApiError> {
    let signal = Signal::from_number(signal)
        .map_err(|error| ApiError::invalid_args(format!("signal {signal}: {error}")))?;
    match whom {
        "init" => Ok((Whom::Init, signal)),
        "all" if i32::from(signal.number()) == 9 => Ok((Whom::All, signal)),
        "all" => Err(ApiError::invalid_args("all processes can only be sent signal 9 (SIGKILL)")),
        _ => Err(ApiError::invalid_args("whom must be init or all")),
    }
}

/// A time to stop in; the largest number stands for the container's own.
pub(crate) fn timeout(usec: u64) -> Option<Duration> {
    (usec != u64::MAX).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processes_get_sigkill_or_nothing() {
        assert!(kill("all", 9).is_ok());
        assert!(kill("init", 15).is_ok());
        for (whom, signal) in [("all", 15), ("init", 0), ("init", 65), ("init", -1), ("some", 9)] {
            assert!(kill(whom, signal).is_err(), "{whom} {signal}");
        }
    }
}
