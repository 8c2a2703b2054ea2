//! What one line of the table is.

use std::fmt;

use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::condition::Condition;
use crate::stage::Stage;

/// One thing that is measured, of everybody who does the same work.
pub(crate) struct Row {
    /// For `--rows`, and to find it again.
    pub(crate) name: &'static str,
    /// What is measured, in words.
    pub(crate) measures: &'static str,
    /// Of its figures.
    pub(crate) unit: Unit,
    /// Without this we have failed.
    pub(crate) must: Option<Promise>,
    /// What we would like to reach.
    pub(crate) aim: Option<Promise>,
    /// Ours first, with whom all others are compared. In each round every one of them has its turn, each time beginning with another.
    pub(crate) contestants: &'static [Who],
    /// How often.
    pub(crate) rounds: Rounds,
    /// On which kind of host.
    pub(crate) under: &'static [Condition],
    /// What a contestant needs before its first turn.
    pub(crate) prepare: fn(&Stage, Who) -> Work<'_, ()>,
    /// One turn.
    pub(crate) sample: fn(&Stage, Who) -> Work<'_, f64>,
    /// Takes away what `prepare` made.
    pub(crate) clean: fn(&Stage, Who) -> Work<'_, ()>,
}

/// Something that is being done on the stage.
pub(crate) type Work<'s, T> = LocalBoxFuture<'s, Result<T>>;

/// For rows that need nothing before, or leave nothing behind.
pub(crate) fn nothing(_: &Stage, _: Who) -> Work<'_, ()> {
    Box::pin(async { Ok(()) })
}

/// How many turns everybody has; more for figures, where ratios spread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) full: usize,
    pub(crate) quick: usize,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The installed `tared`, called by root over the system bus.
    Tare,
    /// The same, called by a user whom a polkit rule allows it.
    TareForUser,
    /// The warm service of podman, over its socket.
    Podman,
    /// The OCI runtime alone, on a file system that was prepared.
    Crun,
    /// Namespaces and a process in them.
    Unshare,
    /// One of our crates, called by this program.
    Library(&'static str),
    /// Programs that do the same.
    Programs(&'static str),
}

impl Who {
    /// As the table has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tare => "tare",
            Self::TareForUser => "tare, user",
            Self::Podman => "podman",
            Self::Crun => "crun",
            Self::Unshare => "unshare",
            Self::Library(name) | Self::Programs(name) => name,
        }
    }
}

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// Milliseconds: less is better.
    #[serde(rename = "ms")]
    Millis,
    /// Microseconds: less is better.
    #[serde(rename = "us")]
    Micros,
    /// How many in a second: more is better.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Millions of bytes: less is better.
    #[serde(rename = "MB")]
    Megabytes,
}

impl Unit {
    /// How many times better `ours` is than `theirs`.
    pub(crate) fn advantage(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::Millis | Self::Micros | Self::Megabytes => theirs / ours,
            Self::PerSecond => ours / theirs,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Millis => "ms",
            Self::Micros => "us",
            Self::PerSecond => "/s",
            Self::Megabytes => "MB",
        })
    }
}

/// What we say about our figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Promise {
    /// So many times better than somebody else's.
    Times(f64, Who),
    /// No more than this above somebody else's.
    Over(f64, Who),
    /// No more above somebody else's than so many hundredths of that and this.
    OverShare(f64, f64, Who),
    /// At most.
    Below(f64),
    /// At least.
    Above(f64),
}
