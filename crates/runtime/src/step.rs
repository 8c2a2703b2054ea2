use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use crate::{Error, Signal, sys};

/// One effect of this crate. None can be taken back but freezing and limits, whose inverse callers ask
/// for themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// Send a signal to the process of a pidfd.
    Signal { pidfd: BorrowedFd<'a>, signal: Signal },
    /// Write to a file of a control group.
    Cgroup { dir: BorrowedFd<'a>, path: &'a Path, order: Order },
    /// Say how large a terminal is.
    Resize { terminal: &'a OwnedFd, rows: u16, columns: u16 },
    /// Write a limit to a file of a control group.
    Limit { dir: BorrowedFd<'a>, path: &'a Path, file: &'a str, text: &'a str },
}

/// What a control group is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Kill,
    Freeze,
    Thaw,
    /// Take in whoever writes this.
    TakeMe,
}

impl Order {
    /// The file to write to, and what.
    pub(crate) fn file_and_text(self) -> (&'static str, &'static str) {
        match self {
            Self::Kill => ("cgroup.kill", "1"),
            Self::Freeze => ("cgroup.freeze", "1"),
            Self::Thaw => ("cgroup.freeze", "0"),
            Self::TakeMe => ("cgroup.procs", "0"),
        }
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal { signal, .. } => write!(f, "send {signal}"),
            Self::Cgroup { path, order, .. } => {
                let verb = match order {
                    Order::Kill => "kill",
                    Order::Freeze => "freeze",
                    Order::Thaw => "thaw",
                    Order::TakeMe => "stay in",
                };
                write!(f, "{verb} control group {}", path.display())
            }
            Self::Resize { rows, columns, .. } => {
                write!(f, "make a terminal {rows} lines of {columns} characters")
            }
            Self::Limit { path, file, text, .. } => {
                write!(f, "write '{}' to {file} of control group {}", text.trim(), path.display())
            }
        }
    }
}

/// Runs one step, with the step named in the error.
pub(crate) fn run(step: &Step<'_>) -> Result<(), Error> {
    sys::run(step).map_err(|source: io::Error| Error::Step { step: step.to_string(), source })
}
