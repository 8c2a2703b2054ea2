//! Volumes.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tare_storage::{SizeLimit, VolumeName};

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
    let size_limit = match o.number("SizeLimit")? {
        None | Some(u64::MAX) => None,
        Some(bytes) => {
            let limit = SizeLimit::new(bytes);
            Some(limit.ok_or_else(|| wrong("SizeLimit", &"can be from 1 to 2^63 - 1 bytes"))?)
        }
    };
    let owner = (id(&mut o, "UID")?, id(&mut o, "GID")?);
    o.finish()?;
    let fits = |text: &String| text.len() <= LONGEST_LABEL && !text.contains('\0');
    let are_good = labels.iter().all(|(key, value)| !key.is_empty() && fits(key) && fits(value));
    if !are_good || labels.len() > MOST_LABELS {
        return Err(wrong("Labels", &"a key is empty, a text too long, or there are too many"));
    }
    Ok(CreateVolume { name, labels, size_limit, owner })
}

/// A user or a group; root, if none is said.
fn id(o: &mut Options, key: &'static str) -> Result<u32, ApiError> {
    match o.number(key)? {
        Some(u32::MAX) => Err(wrong(key, &"is no id")),
        id => Ok(id.unwrap_or_default()),
    }
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
        let number = |key: &str, value: u64| {
            create("a", Values::from([(key.to_owned(), Value::Integer(value.into()))]))
        };
        assert_eq!(number("SizeLimit", 4096).unwrap().size_limit, SizeLimit::new(4096));
        assert_eq!(number("SizeLimit", u64::MAX).unwrap().size_limit, None);
        assert_eq!(number("GID", 33).unwrap().owner, (0, 33));
        for (key, bad) in [("SizeLimit", 0), ("SizeLimit", 1 << 63), ("UID", 0xffff_ffff)] {
            let refused = number(key, bad).unwrap_err();
            assert!(refused.message().contains(key), "{refused:?}");
        }
        for (key, value) in [("", "x"), ("x", "\0"), ("x", &*"a".repeat(4097))] {
            let refused = create("a", labels(key, value)).unwrap_err();
            assert!(refused.message().contains("Labels"), "{refused:?}");
        }
    }
}
