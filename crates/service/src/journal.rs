//! Where the daemon's own messages go: the journal where there is one, else standard error.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// The name under which the journal keeps our messages.
pub const IDENTIFIER: &str = "tared";

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// journald, with fields.
    Journal,
    /// Standard error, a line a message.
    Console,
}

impl Target {
    /// The word for it in `org.freedesktop.LogControl1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Console => "console",
        }
    }
}

/// Changes the level while the daemon runs.
#[derive(Clone, Debug)]
pub struct LogControl {
    level: Arc<Mutex<LevelFilter>>,
    handle: reload::Handle<LevelFilter, Registry>,
    target: Target,
}

impl LogControl {
    /// The level now.
    pub fn level(&self) -> LevelFilter {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages of this level and above are kept from now on.
    pub fn set_level(&self, level: LevelFilter) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        if let Err(error) = self.handle.reload(level) {
            tracing::error!("cannot change the log level: {error}");
        }
    }

    /// Where messages go.
    pub fn target(&self) -> Target {
        self.target
    }
}

/// Whether a descriptor is the file that `$JOURNAL_STREAM` names, as `systemd.exec(5)` has it: the
/// variable is inherited also by what has its standard error elsewhere.
fn is_stream(output: impl AsFd, stream: &str) -> bool {
    rustix::fs::fstat(output).is_ok_and(|it| format!("{}:{}", it.st_dev, it.st_ino) == stream)
}

/// Begins to log. Where standard error is the journal's, messages go there with their fields;
/// somebody who starts the daemon by hand wants to see them.
pub fn start(level: LevelFilter) -> LogControl {
    let (filter, handle) = reload::Layer::new(level);
    let journal = std::env::var("JOURNAL_STREAM")
        .is_ok_and(|stream| is_stream(std::io::stderr(), &stream))
        .then(|| tracing_journald::layer().ok())
        .flatten()
        .map(|layer| layer.with_syslog_identifier(IDENTIFIER.into()).with_field_prefix(None));
    let target = if journal.is_some() { Target::Journal } else { Target::Console };
    let console = (target == Target::Console).then(|| {
        fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .boxed()
    });
    Registry::default().with(filter).with(journal).with(console).init();
    LogControl { level: Arc::new(Mutex::new(level)), handle, target }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_the_journal_is_known_by_its_file() {
        let (ours, others) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let it = rustix::fs::fstat(&ours).unwrap();
        let stream = format!("{}:{}", it.st_dev, it.st_ino);
        assert!(is_stream(&ours, &stream));
        assert!(!is_stream(&others, &stream), "standard error was sent elsewhere");
        for bad in ["", "1", ":", "8:x"] {
            assert!(!is_stream(&ours, bad), "{bad:?}");
        }
    }
}
