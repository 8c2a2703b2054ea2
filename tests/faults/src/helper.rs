//! The programs that do something for the daemon.

use std::fmt;

/// A program that does something for the daemon, where it is one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Helper {
    /// `tare-spawn`, which starts programs.
    Spawn,
    /// `tare-names`, which answers names.
    Names,
}

impl Helper {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Spawn, Self::Names];

    /// Whose its effects are said to be.
    pub fn part(self) -> &'static str {
        match self {
            Self::Spawn => "spawn",
            Self::Names => "tare-names",
        }
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spawn => "tare-spawn",
            Self::Names => "tare-names",
        })
    }
}
