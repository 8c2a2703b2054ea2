//! Names of signals, and sending them through a pidfd.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::step::{Step, run};

/// Names of the signals 1 to 31, as signal(7) has them for x86, ARM, RISC-V and most others.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names for some of them.
const ALIASES: [(&str, u8); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// First real-time signal, as glibc and musl number them: below it are two or three of their own.
const RTMIN: u8 = 34;

/// A signal: a number from 1 to 64.
///
/// Reads `TERM`, `SIGTERM`, `15`, `RTMIN+3` and `RTMAX-2`, in upper or lower case. `Display` and
/// serde give the name with `SIG`, or the number if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(u8);

impl Signal {
    /// Highest number.
    pub const MAX: u8 = 64;
    /// Asks to end.
    pub const TERM: Self = Self(15);
    /// Ends.
    pub const KILL: Self = Self(9);

    /// The signal of that number.
    ///
    /// # Errors
    ///
    /// [`InvalidSignal`] if it is not from 1 to [`MAX`](Self::MAX).
    pub fn from_number(number: i32) -> Result<Self, InvalidSignal> {
        match u8::try_from(number) {
            Ok(number @ 1..=Self::MAX) => Ok(Self(number)),
            _ => Err(InvalidSignal),
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = InvalidSignal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return Self::from_number(text.parse().map_err(|_| InvalidSignal)?);
        }
        let upper = text.to_ascii_uppercase();
        by_name(upper.strip_prefix("SIG").unwrap_or(&upper)).ok_or(InvalidSignal)
    }
}

fn by_name(name: &str) -> Option<Signal> {
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return u8::try_from(at + 1).ok().map(Signal);
    }
    if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return Some(Signal(*number));
    }
    real_time(name).filter(|number| (RTMIN..=Signal::MAX).contains(number)).map(Signal)
}

/// The number of `RTMIN`, `RTMAX`, `RTMIN+n` or `RTMAX-n`.
fn real_time(name: &str) -> Option<u8> {
    let digits = |text: &str| -> Option<u8> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(RTMIN),
        (_, Some("")) => Some(Signal::MAX),
        (Some(rest), _) => RTMIN.checked_add(digits(rest.strip_prefix('+')?)?),
        (_, Some(rest)) => Signal::MAX.checked_sub(digits(rest.strip_prefix('-')?)?),
        _ => None,
    }
}

impl TryFrom<String> for Signal {
    type Error = InvalidSignal;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            number @ 1..=31 => write!(f, "SIG{}", NAMES[usize::from(number) - 1]),
            RTMIN => f.write_str("SIGRTMIN"),
            Self::MAX => f.write_str("SIGRTMAX"),
            number if number > RTMIN => write!(f, "SIGRTMIN+{}", number - RTMIN),
            number => number.fmt(f),
        }
    }
}

/// A text or number that is no [`Signal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signal: want a name like TERM or RTMIN+3, or a number from 1 to 64")]
#[non_exhaustive]
pub struct InvalidSignal;

/// Sends `signal` to the process behind `pidfd`, and never to another.
///
/// # Errors
///
/// [`Error::Step`]; its kind is [`Gone`](crate::ErrorKind::Gone) if the process has ended.
pub fn send(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<(), Error> {
    run(&Step::Signal { pidfd, signal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_numbers() {
        for (text, want) in [
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("sigterm", Some(15)),
            ("15", Some(15)),
            ("KILL", Some(9)),
            ("SYS", Some(31)),
            ("IOT", Some(6)),
            ("POLL", Some(29)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN+30", Some(64)),
            ("RTMAX", Some(64)),
            ("rtmax-30", Some(34)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("+1", None),
            ("1 ", None),
            ("", None),
            ("SIG", None),
            ("SIGSIGTERM", None),
            ("RTMIN+31", None),
            ("RTMAX-31", None),
            ("RTMIN-1", None),
            ("RTMIN++1", None),
            ("RTMIN+255", None),
            ("99999999999", None),
        ] {
            let got = text.parse::<Signal>().ok().map(Signal::number);
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn every_signal_reads_back_what_it_prints() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(signal.to_string().parse(), Ok(signal), "{signal}");
        }
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        assert_eq!(Signal::from_number(37).unwrap().to_string(), "SIGRTMIN+3");
        assert_eq!(Signal::from_number(32).unwrap().to_string(), "32");
    }

    #[test]
    fn a_signal_reaches_the_process_of_the_pidfd_only() {
        use std::os::fd::AsFd;
        use std::os::unix::process::ExitStatusExt;
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let realtime = Signal::from_number(36).unwrap();
        send(pidfd.as_fd(), realtime).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(36));
        let error = send(pidfd.as_fd(), Signal::KILL).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Gone);
        assert_eq!(error.to_string(), "cannot send SIGKILL");
    }
}
