//! How it is found out whether a container is well.

use std::collections::HashMap;

use zbus::Variant;

use crate::cli::Health;

const SECOND_USEC: f64 = 1_000_000.0;

/// The option for that; nothing if nothing was said.
pub(crate) fn option(said: Health) -> Option<Variant<'static>> {
    let command = said.cmd.map(|command| match command.as_str() {
        "none" => Vec::new(),
        _ => vec!["/bin/sh".to_owned(), "-c".to_owned(), command],
    });
    let time = |key, seconds: Option<f64>| Some((key, Variant::from(usec(seconds?))));
    let options = [
        command.map(|command| ("Command", Variant::from(command))),
        time("IntervalUSec", said.interval),
        time("TimeoutUSec", said.timeout),
        time("StartPeriodUSec", said.start_period),
        said.retries.map(|retries| ("Retries", retries.into())),
        said.on_failure.map(|action| ("OnFailure", action.into())),
    ];
    let options: HashMap<&str, Variant<'static>> = options.into_iter().flatten().collect();
    (!options.is_empty()).then(|| options.into())
}

/// What is no time is nought, which the service refuses by name.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in bounds")]
fn usec(seconds: f64) -> u64 {
    let usec = (seconds * SECOND_USEC).round();
    if (0.0..1e18).contains(&usec) { usec as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_microseconds() {
        for (seconds, want) in [(1.5, 1_500_000), (0.1, 100_000), (-1.0, 0), (f64::NAN, 0)] {
            assert_eq!(usec(seconds), want, "{seconds}");
        }
    }
}
