//! What follows the end of a container, decided from what was asked for and how it ended.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// From an end to the next start, the first time; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What ran this long did not fail at once: the next pause is the first one again.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// What is to be done with a container when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lifecycle {
    /// Remove it, with the volumes that were made for it alone.
    pub auto_remove: bool,
    /// Whether it is started again.
    pub restart: RestartPolicy,
    /// Whose leaving is its end, and that of all that is kept of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<Bond>,
}

/// A connection to a bus.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// Which bus, by its own id.
    pub bus: String,
    /// The connection's unique name there.
    pub name: String,
}

/// Whether a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum RestartPolicy {
    /// It is not.
    #[default]
    No,
    /// If it failed, and no more often than this in a row.
    OnFailure(Option<NonZeroU32>),
    /// However it ended, unless it was stopped; and when the host has started.
    Always,
    /// The same, but when the host has started only if it was not stopped before.
    UnlessStopped,
}

/// A text is no restart policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a restart policy is no, on-failure, on-failure:COUNT, always or unless-stopped")]
pub struct InvalidRestartPolicy;

/// How the last life of a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Not with the exit code 0.
    pub(super) failed: bool,
    /// Because somebody wanted it to.
    pub(super) asked: bool,
    /// How often it was started again since somebody started it.
    pub(super) restarts: u32,
    /// How many of these in a row did not run for long.
    pub(super) short: u32,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it stays as it is.
    Nothing,
    /// It is removed.
    Remove,
    /// It is started after a while.
    Start(Duration),
}

/// When this daemon came to know of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// Since the host started.
    Same,
    /// The container ran when the host went down, or ended before.
    Earlier,
}

impl Lifecycle {
    /// Whether both can be had.
    pub fn is_contradictory(&self) -> bool {
        self.auto_remove && self.restart != RestartPolicy::No
    }

    /// What follows such an end.
    pub(super) fn after(&self, end: End, boot: Boot) -> Next {
        if self.auto_remove {
            return Next::Remove;
        }
        let again = match (self.restart, boot) {
            (RestartPolicy::No, _) | (RestartPolicy::OnFailure(_), Boot::Earlier) => false,
            (RestartPolicy::OnFailure(most), Boot::Same) => {
                let tried = most.is_some_and(|most| end.restarts >= most.get());
                end.failed && !end.asked && !tried
            }
            (RestartPolicy::Always, Boot::Earlier) => true,
            (RestartPolicy::Always, Boot::Same) | (RestartPolicy::UnlessStopped, _) => !end.asked,
        };
        match (again, boot) {
            (false, _) => Next::Nothing,
            (true, Boot::Same) => Next::Start(pause(end.short)),
            (true, Boot::Earlier) => Next::Start(Duration::ZERO),
        }
    }
}

/// Whether a life of this length was a short one.
pub(super) fn is_short(ran: Duration) -> bool {
    ran < LONG_ENOUGH
}

fn pause(short: u32) -> Duration {
    let factor = 2_u32.checked_pow(short).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

impl FromStr for RestartPolicy {
    type Err = InvalidRestartPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidRestartPolicy> {
        match text.split_once(':') {
            None => match text {
                "no" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure(None)),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(InvalidRestartPolicy),
            },
            Some(("on-failure", most)) if most.bytes().all(|byte| byte.is_ascii_digit()) => {
                most.parse().map(|most| Self::OnFailure(Some(most))).or(Err(InvalidRestartPolicy))
            }
            Some(_) => Err(InvalidRestartPolicy),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure(None) => f.write_str("on-failure"),
            Self::OnFailure(Some(most)) => write!(f, "on-failure:{most}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.to_string()
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = InvalidRestartPolicy;

    fn try_from(text: String) -> Result<Self, InvalidRestartPolicy> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: End = End { failed: true, asked: false, restarts: 0, short: 0 };

    fn restart(policy: &str) -> Lifecycle {
        Lifecycle { restart: policy.parse().unwrap(), ..Lifecycle::default() }
    }

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        for bad in
            ["", "No", "on-failure:", "on-failure:0", "on-failure:+1", "always:1", "on-failure:-1"]
        {
            assert_eq!(bad.parse::<RestartPolicy>(), Err(InvalidRestartPolicy), "{bad:?}");
        }
    }

    #[test]
    fn who_is_started_again() {
        let ended = End { failed: false, ..FAILED };
        let stopped = End { asked: true, ..FAILED };
        let third = End { restarts: 3, ..FAILED };
        let (same, earlier) = (Boot::Same, Boot::Earlier);
        for (policy, end, boot, again) in [
            ("no", FAILED, same, false),
            ("no", FAILED, earlier, false),
            ("on-failure", FAILED, same, true),
            ("on-failure", ended, same, false),
            ("on-failure", stopped, same, false),
            ("on-failure", third, same, true),
            ("on-failure:3", third, same, false),
            ("on-failure:4", third, same, true),
            ("on-failure", FAILED, earlier, false),
            ("always", ended, same, true),
            ("always", stopped, same, false),
            ("always", stopped, earlier, true),
            ("unless-stopped", ended, same, true),
            ("unless-stopped", stopped, same, false),
            ("unless-stopped", stopped, earlier, false),
            ("unless-stopped", ended, earlier, true),
        ] {
            let next = restart(policy).after(end, boot);
            assert_eq!(matches!(next, Next::Start(_)), again, "{policy} {end:?} {boot:?}");
            assert!(again || next == Next::Nothing);
        }
        let gone = Lifecycle { auto_remove: true, ..Lifecycle::default() };
        for end in [FAILED, ended, stopped] {
            assert_eq!(gone.after(end, same), Next::Remove);
        }
    }

    #[test]
    fn pauses_grow_up_to_a_minute() {
        let pauses = (0..40).map(|short| End { short, ..FAILED });
        let pauses: Vec<_> = pauses.map(|end| restart("always").after(end, Boot::Same)).collect();
        assert_eq!(pauses[..3], [100, 200, 400].map(|ms| Next::Start(Duration::from_millis(ms))));
        assert!(pauses[10..].iter().all(|it| *it == Next::Start(LONGEST_PAUSE)), "{pauses:?}");
    }

    #[test]
    fn it_is_written_as_text() {
        let both = Lifecycle { auto_remove: true, ..restart("on-failure:2") };
        let json = serde_json::to_string(&both).unwrap();
        assert_eq!(json, r#"{"auto_remove":true,"restart":"on-failure:2"}"#);
        assert_eq!(serde_json::from_str::<Lifecycle>(&json).unwrap(), both);
        assert!(both.is_contradictory());
        let to = Bond { bus: "b".into(), name: ":1.7".into() };
        let bound = Lifecycle { bound_to: Some(to), ..Lifecycle::default() };
        let json = serde_json::to_string(&bound).unwrap();
        assert_eq!(
            json,
            r#"{"auto_remove":false,"restart":"no","bound_to":{"bus":"b","name":":1.7"}}"#
        );
        assert_eq!(serde_json::from_str::<Lifecycle>(&json).unwrap(), bound);
    }
}
