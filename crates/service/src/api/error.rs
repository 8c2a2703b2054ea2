//! Errors as callers see them: a name for programs, a sentence for people.

use std::borrow::Cow;
use std::error::Error as _;

use crate::authority::Refusal;
use crate::engine;

/// What all our own error names begin with.
pub(crate) const PREFIX: &str = "org.tare.Containers1.Error.";

/// An error reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    name: Cow<'static, str>,
    message: String,
}

impl ApiError {
    /// One of the errors everybody knows.
    pub(crate) fn invalid_args(message: impl Into<String>) -> Self {
        Self {
            name: Cow::Borrowed("org.freedesktop.DBus.Error.InvalidArgs"),
            message: message.into(),
        }
    }

    /// Too much at once.
    pub(crate) fn limits_exceeded(message: impl Into<String>) -> Self {
        Self {
            name: Cow::Borrowed("org.freedesktop.DBus.Error.LimitsExceeded"),
            message: message.into(),
        }
    }

    /// It took too long.
    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self { name: Cow::Borrowed("org.freedesktop.DBus.Error.Timeout"), message: message.into() }
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
        Self { name: format!("{PREFIX}{name}").into(), message: message.into() }
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
            engine::Error::FreezeTimeout(_) => return Self::timeout(error.to_string()),
            engine::Error::TooManyJobs(_) | engine::Error::TooManyStreams(_) => {
                return Self::limits_exceeded(error.to_string());
            }
            _ if error.name() == "InvalidArgs" => return Self::invalid_args(error.chain()),
            // The caller gave it, so the caller may hear what is wrong with it.
            engine::Error::InvalidName { .. } | engine::Error::InvalidSpec(_) => {
                match error.source() {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                }
            }
            _ => {
                if error.source().is_some() {
                    tracing::warn!("{}", error.chain());
                }
                error.to_string()
            }
        };
        Self::own(error.name(), message)
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
