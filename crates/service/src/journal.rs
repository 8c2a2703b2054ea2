//! Where the daemon's own messages go: the journal where there is one, else standard error.

use std::io::IsTerminal;
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

/// Begins to log. Under systemd (`$JOURNAL_STREAM`) messages go to the journal with their fields;
/// somebody who starts the daemon by hand wants to see them.
pub fn start(level: LevelFilter) -> LogControl {
    let (filter, handle) = reload::Layer::new(level);
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let journal = under_systemd
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
