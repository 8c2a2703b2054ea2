//! Errors as callers see them: a name for programs, a sentence for people.

use std::borrow::Cow;
use std::error::Error as _;

use crate::authority::Refusal;
use crate::engine;

/// What all our own error names begin with.
const OWN: &str = "org.tare.Containers1.Error.";
/// What those begin with that everybody knows.
const STANDARD: &str = "org.freedesktop.DBus.Error.";

/// The name of an error of the engine, on the bus.
pub(crate) fn full_name(name: &str) -> String {
    let standard = matches!(name, "InvalidArgs" | "LimitsExceeded" | "Timeout");
    format!("{}{name}", if standard { STANDARD } else { OWN })
}

/// An error reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    name: Cow<'static, str>,
    message: String,
}

impl ApiError {
    /// One of the errors everybody knows.
    pub(crate) fn invalid_args(message: impl Into<String>) -> Self {
        Self { name: full_name("InvalidArgs").into(), message: message.into() }
    }

    /// Too much at once.
    pub(crate) fn limits_exceeded(message: impl Into<String>) -> Self {
        Self { name: full_name("LimitsExceeded").into(), message: message.into() }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A sentence about it.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The last part of its name.
    pub(crate) fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// One of ours.
    pub(crate) fn own(name: &str, message: impl Into<String>) -> Self {
        Self { name: format!("{OWN}{name}").into(), message: message.into() }
    }

    /// Something that cannot be the caller's fault; the cause goes to the journal.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!("{error}");
        Self::own("Internal", "a part of the service failed; its journal says more")
    }
}

impl From<engine::Error> for ApiError {
    fn from(error: engine::Error) -> Self {
        let message = match error {
            _ if error.name() == "InvalidArgs" => error.chain(),
            // The caller gave it, so the caller may hear what is wrong with it; and what a runtime
            // says of a command is about that.
            engine::Error::InvalidName { .. }
            | engine::Error::InvalidSpec(_)
            | engine::Error::Runtime { .. } => error.chain(),
            _ => {
                if error.source().is_some() {
                    tracing::warn!("{}", error.chain());
                }
                error.to_string()
            }
        };
        Self { name: full_name(error.name()).into(), message }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let name = match refusal {
            Refusal::NeedsInteraction(_) => {
                "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
            }
            Refusal::Denied(_) => "org.freedesktop.DBus.Error.AccessDenied",
        };
        Self { name: Cow::Borrowed(name), message: refusal.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_knows_is_not_renamed() {
        for (error, name) in [
            (engine::Error::TooManyJobs(3), "org.freedesktop.DBus.Error.LimitsExceeded"),
            (engine::Error::NotAPidfd, "org.freedesktop.DBus.Error.InvalidArgs"),
            (engine::Error::NoSuchJob(1), "org.tare.Containers1.Error.NoSuchJob"),
        ] {
            assert_eq!(full_name(error.name()), name, "as a job's");
            assert_eq!(ApiError::from(error).name(), name, "as a reply");
        }
    }
}
