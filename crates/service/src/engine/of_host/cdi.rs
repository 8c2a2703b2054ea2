//! Devices by the names of the Container Device Interface, as files of the host describe them.

use std::io;
use std::path::Path;

use tare_specgen::{CdiEdits, CdiFile, Effective, MAX_CDI_FILE};

use super::hooks;
use super::trusted::{Untrusted, json_files};
use crate::engine::{Error, device};

/// Where such files are, in the order of rising preference, as the specification has it.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// What the devices of this container add to it, as the files are now. Reads files.
///
/// # Errors
///
/// [`Error::HostFiles`], [`Error::InvalidSpec`].
pub(super) fn of(effective: &Effective) -> Result<CdiEdits, Error> {
    let names = &effective.request.cdi_devices;
    if names.is_empty() {
        return Ok(CdiEdits::default());
    }
    let mut files = Vec::new();
    for dir in DIRECTORIES {
        for (name, content) in sorted(dir)? {
            match CdiFile::parse(&content) {
                Ok(file) => files.push(file),
                // It may be of a device that nobody asks for, and of a later version.
                Err(error) => tracing::warn!("{dir}/{name} is not used: {error}"),
            }
        }
    }
    let mut edits =
        CdiEdits::resolve(names, &files, device::number_of).map_err(Error::InvalidSpec)?;
    edits.hooks = hooks::trusted("CDIDevices", edits.hooks)?;
    Ok(edits)
}

fn sorted(dir: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    match json_files(Path::new(dir), MAX_CDI_FILE) {
        Err(Untrusted::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::HostFiles { option: "CDIDevices", source }),
        Ok(mut files) => {
            files.sort();
            Ok(files)
        }
    }
}
