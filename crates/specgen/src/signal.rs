//! Signals by name and number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{InvalidText, Problem};

/// A signal, 1 to 64; parsed from `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3` or `SIGRTMAX-1`.
///
/// Numbers are those of x86 and ARM, and glibc's `SIGRTMIN` (34); see signal(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(u8);

/// Names by number, starting at 1, without `SIG`.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;
const INVALID: InvalidText = InvalidText::new("signal", Problem::Form("is not known"));

impl Signal {
    /// `SIGTERM`, with which containers are stopped when nobody says otherwise.
    pub const TERM: Self = Self(15);

    /// `SIGRTMIN+3`, by which systemd is told to stop.
    pub const RTMIN_PLUS_3: Self = Self(37);

    /// The number.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

impl TryFrom<i32> for Signal {
    type Error = InvalidText;

    fn try_from(number: i32) -> Result<Self, Self::Error> {
        match u8::try_from(number) {
            Ok(number @ 1..=64) => Ok(Self(number)),
            _ => Err(INVALID),
        }
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> Self {
        signal.number()
    }
}

impl FromStr for Signal {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_ascii_uppercase();
        let number = if upper.bytes().all(|byte| byte.is_ascii_digit()) {
            upper.parse().ok()
        } else {
            by_name(upper.strip_prefix("SIG").unwrap_or(&upper))
        };
        number.ok_or(INVALID)?.try_into()
    }
}

fn by_name(name: &str) -> Option<i32> {
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(RTMIN, offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(RTMAX, offset);
    }
    (1..).zip(NAMES).find(|(_, known)| *known == name).map(|(number, _)| number)
}

fn real_time(base: i32, offset: &str) -> Option<i32> {
    let offset = match offset.as_bytes() {
        [] => 0,
        [b'+' | b'-', ..] => offset.parse::<i8>().ok()?,
        _ => return None,
    };
    let number = base + i32::from(offset);
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0) - 1) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("64", Some(64)),
            ("SIGSYS", Some(31)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("RTMIN+30", Some(64)),
            ("RTMIN+31", None),
            ("RTMIN-1", None),
            ("RTMAX+1", None),
            ("RTMIN3", None),
            ("RTMIN+", None),
            ("0", None),
            ("65", None),
            ("99999999999", None),
            ("-9", None),
            ("", None),
            ("SIG", None),
            ("NOPE", None),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Signal>().ok().map(Signal::number), want, "{text:?}");
        }
    }

    #[test]
    fn every_number_is_read_back_from_its_text() {
        for number in 1..=64 {
            let signal = Signal::try_from(number).unwrap();
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
    }
}
