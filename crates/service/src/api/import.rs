//! `ImportImage`.

use std::os::fd::OwnedFd;

use super::error::ApiError;
use super::options::{Options, Values};
use super::text::wrong;
use crate::engine::{ImportImage, Reference, RootfsConfig};

/// Arguments and options of `ImportImage`.
pub(crate) fn import(archive: OwnedFd, options: Values) -> Result<ImportImage, ApiError> {
    let mut o = Options::new(options);
    let reference = match o.string("Reference")? {
        Some(reference) => Some(reference.parse::<Reference>()?),
        None => None,
    };
    match o.string("Format")?.as_deref() {
        None | Some("auto" | "rootfs") => {}
        Some(other) => {
            return Err(wrong("Format", &format_args!("'{}' is not known", other.escape_debug())));
        }
    }
    let config = RootfsConfig {
        entrypoint: o.strings("Entrypoint")?.unwrap_or_default(),
        command: o.strings("Command")?.unwrap_or_default(),
        env: o.strings("Env")?.unwrap_or_default(),
        working_dir: o.string("WorkingDir")?,
        user: o.string("User")?,
        labels: o.string_map("Labels")?.unwrap_or_default(),
    };
    o.finish()?;
    Ok(ImportImage { archive: archive.into(), reference, config })
}
