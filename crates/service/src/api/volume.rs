//! Volumes.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tare_storage::VolumeName;

use super::error::ApiError;
use super::files::stream;
use super::import::Way;
use super::options::{Options, Values, no_options};
use super::text::wrong;
use crate::engine::{Before, CreateVolume, ExportVolume, ImportVolume, view};

/// Longest label, in bytes, and most of them: they end in JSON and in properties.
const LONGEST_LABEL: usize = 4096;
const MOST_LABELS: usize = 1024;

/// Arguments of `CreateVolume`.
pub(crate) fn create(name: &str, options: Values) -> Result<CreateVolume, ApiError> {
    let name: VolumeName = name.parse().map_err(|error| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
        ApiError::own("InvalidName", format!("'{shown}' is not a name for a volume: {error}"))
    })?;
    let mut o = Options::new(options);
    let labels = o.string_map("Labels")?.unwrap_or_default();
    o.finish()?;
    let fits = |text: &String| text.len() <= LONGEST_LABEL && !text.contains('\0');
    let are_good = labels.iter().all(|(key, value)| !key.is_empty() && fits(key) && fits(value));
    if !are_good || labels.len() > MOST_LABELS {
        return Err(wrong("Labels", &"a key is empty, a text too long, or there are too many"));
    }
    Ok(CreateVolume { name, labels })
}

/// Finds the volume that is meant.
type Found = Result<Arc<view::Volume>, ApiError>;

/// Arguments of `Export`.
pub(crate) fn export(
    archive: OwnedFd,
    options: Values,
    volume: impl FnOnce() -> Found,
) -> Result<ExportVolume, ApiError> {
    no_options(options)?;
    Ok(ExportVolume { archive: stream(archive, Way::Write)?, volume: volume()? })
}

/// Arguments and options of `Import`.
pub(crate) fn import(
    archive: OwnedFd,
    options: Values,
    volume: impl FnOnce() -> Found,
) -> Result<ImportVolume, ApiError> {
    let mut o = Options::new(options);
    let replace = o.boolean("Replace")?.unwrap_or_default();
    o.finish()?;
    let before = if replace { Before::Remove } else { Before::Keep };
    Ok(ImportVolume { archive: stream(archive, Way::Read)?, before, volume: volume()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::value::Value;

    #[test]
    fn names_and_labels_are_bounded() {
        for bad in ["", "-rf", "a/b", "..", "a b", &"a".repeat(129)] {
            assert_eq!(create(bad, Values::new()).unwrap_err().short_name(), "InvalidName");
        }
        let labels = |key: &str, value: &str| {
            let map = [(key.to_owned(), Value::from(value))].into();
            Values::from([("Labels".to_owned(), Value::Map(map))])
        };
        assert_eq!(create("a", labels("b", "c")).unwrap().labels["b"], "c");
        for (key, value) in [("", "x"), ("x", "\0"), ("x", &*"a".repeat(4097))] {
            let refused = create("a", labels(key, value)).unwrap_err();
            assert!(refused.message().contains("Labels"), "{refused:?}");
        }
    }
}
