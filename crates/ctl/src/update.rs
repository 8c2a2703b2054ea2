//! `update`.

use std::process::ExitCode;

use zbus::{Connection, Variant};

use crate::cli::Update;
use crate::client::{self, Options};
use crate::{Failure, Outcome};

const SECOND_USEC: f64 = 1_000_000.0;

pub(crate) async fn update(bus: &Connection, command: Update) -> Outcome {
    let container = client::container(bus, &command.container).await?;
    container.update(options(command)?).await?;
    Ok(ExitCode::SUCCESS)
}

fn options(command: Update) -> Result<Options<'static>, Failure> {
    let number = |key, number: Option<u64>| Some((key, Variant::from(number?)));
    let text = |key, text: Option<String>| Some((key, Variant::from(text?)));
    let cpus = command.cpus.map(cpu_time).transpose()?;
    let timeout = command.stop_timeout.map(|seconds| u64::from(seconds) * 1_000_000);
    let options = [
        number("Memory", command.memory),
        number("MemorySwap", command.memory_swap),
        number("MemoryReservation", command.memory_reservation),
        number("CPUQuotaPerSecUSec", cpus),
        number("CPUWeight", command.cpu_weight),
        text("CPUSet", command.cpuset_cpus),
        text("CPUSetMems", command.cpuset_mems),
        number("PidsMax", command.pids_limit),
        number("IOWeight", command.io_weight),
        text("RestartPolicy", command.restart),
        number("StopTimeoutUSec", timeout),
    ];
    Ok(options.into_iter().flatten().collect())
}

/// Processors, as microseconds of processor time a second.
fn cpu_time(cpus: f64) -> Result<u64, Failure> {
    let usec = (cpus * SECOND_USEC).round();
    if !(1.0..1e15).contains(&usec) {
        return Err(Failure::Usage(format!("{cpus} processors: must be more than none")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in bounds")]
    Ok(usec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_time() {
        assert_eq!(cpu_time(1.5).unwrap(), 1_500_000);
        assert_eq!(cpu_time(0.01).unwrap(), 10_000);
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(cpu_time(wrong).is_err(), "{wrong}");
        }
    }
}
