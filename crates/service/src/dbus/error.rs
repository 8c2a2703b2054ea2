//! Errors as replies.

use zbus::DBusError;
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

use crate::api::ApiError;

impl From<zbus::Error> for ApiError {
    fn from(error: zbus::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<zbus::fdo::Error> for ApiError {
    fn from(error: zbus::fdo::Error) -> Self {
        Self::internal(&error)
    }
}

impl DBusError for ApiError {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, DBusError::name(self)).build(&(self.message(),))
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::from_str_unchecked(Self::name(self))
    }

    fn description(&self) -> Option<&str> {
        Some(self.message())
    }
}
