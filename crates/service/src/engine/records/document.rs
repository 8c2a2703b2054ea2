//! Documents: what a row holds of something whose shape may grow.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::db::Error;

/// The version of a document's shape, as its first field: one of another version is not read. What
/// an older daemon wrote is brought here by a migration; what a newer one wrote is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct Version<const V: u32>;

impl<const V: u32> TryFrom<u32> for Version<V> {
    type Error = String;

    fn try_from(found: u32) -> Result<Self, String> {
        if found == V { Ok(Self) } else { Err(format!("version {found} is not {V}")) }
    }
}

impl<const V: u32> From<Version<V>> for u32 {
    fn from(_: Version<V>) -> Self {
        V
    }
}

/// A document as it is stored.
pub(crate) fn to_document<T: Serialize>(what: &'static str, value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Document { what, source })
}

/// The opposite of [`to_document`].
pub(crate) fn from_document<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|source| Error::Document { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_not_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Thing {
            v: Version<2>,
        }
        assert_eq!(to_document("thing", &Thing { v: Version }).unwrap(), r#"{"v":2}"#);
        assert_eq!(from_document::<Thing>("thing", r#"{"v":2}"#).unwrap(), Thing { v: Version });
        for other in [r#"{"v":1}"#, r#"{"v":3}"#, "{}"] {
            assert!(from_document::<Thing>("thing", other).is_err(), "{other}");
        }
    }
}
