use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tare_runtime::{ContainerId, InvalidContainerId};

use crate::engine::{Error, random_id};

/// Id of one checkpoint: 64 hex digits, as that of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckpointId(ContainerId);

impl CheckpointId {
    /// A new one.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there are no random numbers.
    pub(super) fn random() -> Result<Self, Error> {
        random_id().map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// As much of it as people need.
    pub(super) fn short(&self) -> &str {
        self.0.short()
    }
}

impl FromStr for CheckpointId {
    type Err = InvalidContainerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
