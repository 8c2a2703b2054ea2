//! Units of the service manager: those of containers, and all that failed.

use super::Scope;
use super::things::Things;
use crate::programs::run;

/// What containers and their service are, and what of it is there while nobody is at work.
const OURS: &str = "tare";

/// Each unit of ours that is loaded, and each other one that has failed, with its state.
///
/// The service itself may be started anew, or not be there until somebody calls: that it has not failed
/// is what counts.
pub(super) fn of(scope: &Scope) -> Things {
    if !scope.units {
        return Things::default();
    }
    // One call for both: most of what it takes is to start it.
    let all = run(
        "systemctl",
        &["list-units", "--all", "--plain", "--no-legend", "--full", "--no-pager"],
    );
    all.lines().filter(|line| counts(line)).filter_map(parse).collect()
}

fn counts(line: &str) -> bool {
    line.starts_with(OURS) || line.split_whitespace().nth(2) == Some("failed")
}

/// `NAME LOADED ACTIVE SUB DESCRIPTION`.
fn parse(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let (name, loaded, active, sub) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let how = match (name, active) {
        ("tared.service" | "tare-spawn.service" | "tare-names.service", it) if it != "failed" => {
            loaded.into()
        }
        // It listens, or its service has taken it up.
        ("tare-spawn.socket" | "tare-names.socket" | "tare-worker.socket", "active") => {
            loaded.into()
        }
        _ => format!("{loaded} {active} {sub}"),
    };
    Some((name.into(), how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_others_those_count_that_have_failed() {
        assert!(counts("tare-12.scope loaded active running Container c"));
        assert!(counts("ssh.service loaded failed failed OpenSSH"));
        assert!(!counts("ssh.service loaded active running failed OpenSSH"));
    }

    #[test]
    fn a_service_that_comes_and_goes_is_the_same_unless_it_failed() {
        let how = |line| parse(line).unwrap().1;
        assert_eq!(
            how("tared.service loaded active running Containers"),
            how("tared.service loaded inactive dead Containers")
        );
        assert_eq!(how("tared.service loaded failed failed Containers"), "loaded failed failed");
        assert_eq!(how("tare-12.scope loaded active running Container c"), "loaded active running");
        assert_eq!(parse(""), None);
    }
}
