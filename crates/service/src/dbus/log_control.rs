//! `org.freedesktop.LogControl1`, as `systemctl service-log-level` uses it; root alone may.

use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use zbus::message::Header;
use zbus::{fdo, interface};

use super::context::Context;
use crate::journal::IDENTIFIER;

/// Where the interface is, by its specification.
pub(crate) const PATH: &str = "/org/freedesktop/LogControl1";

/// The log of the daemon itself.
#[derive(Debug)]
pub(crate) struct LogControl1 {
    context: Arc<Context>,
}

impl LogControl1 {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[expect(clippy::unused_self, reason = "the macro calls methods, also those of constants")]
#[interface(name = "org.freedesktop.LogControl1", introspection_docs = false)]
impl LogControl1 {
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_level(&self) -> &'static str {
        word(self.context.log.level())
    }

    #[zbus(property)]
    async fn set_log_level(
        &self,
        level: &str,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> fdo::Result<()> {
        let denied = || fdo::Error::AccessDenied("only root may change the log level".into());
        let header = header.ok_or_else(denied)?;
        match self.context.caller(&header).await {
            Ok(caller) if caller.uid == 0 => {}
            _ => return Err(denied()),
        }
        let level = filter(level).ok_or_else(|| fdo::Error::InvalidArgs("no such level".into()))?;
        self.context.log.set_level(level);
        Ok(())
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> &'static str {
        self.context.log.target().as_str()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn syslog_identifier(&self) -> &'static str {
        IDENTIFIER
    }
}

/// syslog's words, as far as we have levels for them.
fn word(level: LevelFilter) -> &'static str {
    match level.into_level() {
        None => "emerg",
        Some(tracing::Level::ERROR) => "err",
        Some(tracing::Level::WARN) => "warning",
        Some(tracing::Level::INFO) => "info",
        Some(tracing::Level::DEBUG | tracing::Level::TRACE) => "debug",
    }
}

fn filter(word: &str) -> Option<LevelFilter> {
    Some(match word {
        "emerg" | "alert" | "crit" | "err" => LevelFilter::ERROR,
        "warning" => LevelFilter::WARN,
        "notice" | "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        _ => return None,
    })
}
