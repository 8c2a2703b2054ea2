//! What callers say about files of containers.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tare_specgen::AbsolutePath;

use super::error::ApiError;
use super::import::{Way, is_stream};
use super::options::{Options, Values, flags, no_options};
use super::text::{list, parsed, wrong};
use crate::engine::lifecycle::Bond;
use crate::engine::{
    Commit, CopyIn, CopyOut, ExportContainer, GetChanges, Instruction, Meanwhile, MountRoot,
    OpenRoot, Reference, UnmountRoot, view,
};

/// `OpenRootDirectory`, `MountRootfs`: the root can only be read.
const READ_ONLY: u64 = 1;
/// `MountRootfs`: the mount stays when the caller leaves the bus.
const KEEP: u64 = 2;
/// Longest author and message, in bytes.
const LONGEST: usize = 4096;

/// Finds the container that is meant.
type Found = Result<Arc<view::Container>, ApiError>;

/// Arguments of `GetChanges`.
pub(crate) fn changes(
    max: u32,
    given: u64,
    container: impl FnOnce() -> Found,
) -> Result<GetChanges, ApiError> {
    flags(given, 0)?;
    Ok(GetChanges { container: container()?, max: max as usize })
}

/// Arguments of `Export`.
pub(crate) fn export(
    archive: OwnedFd,
    options: Values,
    container: impl FnOnce() -> Found,
) -> Result<ExportContainer, ApiError> {
    no_options(options)?;
    Ok(ExportContainer { archive: stream(archive, Way::Write)?, container: container()? })
}

/// Arguments of `CopyOut`.
pub(crate) fn copy_out(
    path: &str,
    archive: OwnedFd,
    options: Values,
    container: impl FnOnce() -> Found,
) -> Result<CopyOut, ApiError> {
    no_options(options)?;
    let (path, archive) = (self::path(path)?, stream(archive, Way::Write)?);
    Ok(CopyOut { path, archive, container: container()? })
}

/// Arguments of `CopyIn`.
pub(crate) fn copy_in(
    archive: OwnedFd,
    path: &str,
    options: Values,
    container: impl FnOnce() -> Found,
) -> Result<CopyIn, ApiError> {
    no_options(options)?;
    let (path, archive) = (self::path(path)?, stream(archive, Way::Read)?);
    Ok(CopyIn { path, archive, container: container()? })
}

/// Arguments of `OpenRootDirectory`.
pub(crate) fn open_root(
    given: u64,
    container: impl FnOnce() -> Found,
) -> Result<OpenRoot, ApiError> {
    read_only(given)?;
    Ok(OpenRoot { container: container()? })
}

/// Flags of an `OpenRootDirectory`.
pub(super) fn read_only(given: u64) -> Result<(), ApiError> {
    if flags(given, READ_ONLY)? == READ_ONLY {
        return Ok(());
    }
    Err(ApiError::invalid_args("a root is handed out to be read: flag 1 is needed"))
}

/// Arguments of `MountRootfs`; unless it is kept, the mount goes with the connection of the caller.
pub(crate) fn mount_root(
    given: u64,
    caller: Bond,
    container: impl FnOnce() -> Found,
) -> Result<MountRoot, ApiError> {
    let given = flags(given, READ_ONLY | KEEP)?;
    if given & READ_ONLY == 0 {
        return Err(ApiError::invalid_args("a root is mounted to be read: flag 1 is needed"));
    }
    let bond = if given & KEEP == 0 { Some(caller) } else { None };
    Ok(MountRoot { bond, container: container()? })
}

/// Arguments of `UnmountRootfs`.
pub(crate) fn unmount_root(
    given: u64,
    caller: Bond,
    container: impl FnOnce() -> Found,
) -> Result<UnmountRoot, ApiError> {
    flags(given, 0)?;
    Ok(UnmountRoot { bond: caller, container: container()? })
}

/// Arguments and options of `Commit`.
pub(crate) fn commit(
    reference: &str,
    options: Values,
    container: impl FnOnce() -> Found,
) -> Result<Commit, ApiError> {
    let reference = match reference {
        "" => None,
        name => Some(name.parse::<Reference>()?.for_tag()?),
    };
    let mut o = Options::new(options);
    let changes = list::<Instruction>(&mut o, "Changes")?.unwrap_or_default();
    let [author, message] = [line(&mut o, "Author")?, line(&mut o, "Message")?];
    let meanwhile = match o.boolean("Pause")? {
        Some(true) => Meanwhile::StandsStill,
        Some(false) | None => Meanwhile::GoesOn,
    };
    o.finish()?;
    Ok(Commit { reference, author, message, changes, meanwhile, container: container()? })
}

fn line(o: &mut Options, key: &'static str) -> Result<String, ApiError> {
    let text = o.string(key)?.unwrap_or_default();
    if text.len() > LONGEST || text.contains('\0') {
        return Err(wrong(key, &format_args!("is longer than {LONGEST} bytes, or has a NUL")));
    }
    Ok(text)
}

fn path(path: &str) -> Result<AbsolutePath, ApiError> {
    parsed("path", path)
}

pub(super) fn stream(archive: OwnedFd, way: Way) -> Result<File, ApiError> {
    if is_stream(&archive, way) {
        return Ok(archive.into());
    }
    let message = "the archive must be a regular file, a pipe or a connected stream socket, and be \
                   open for that";
    Err(ApiError::invalid_args(message))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use crate::api::value::Value;

    fn no_container() -> Found {
        Err(ApiError::own("NoSuchContainer", "none"))
    }

    fn bond() -> Bond {
        Bond { bus: "b".into(), name: ":1.7".into() }
    }

    #[test]
    fn what_is_wrong_is_told_before_anything_is_looked_up() {
        let (reader, writer) = std::io::pipe().unwrap();
        let [read, write] = [OwnedFd::from(reader), OwnedFd::from(writer)];
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        for (about, error) in [
            ("way", export(copy(&read), Values::new(), no_container).unwrap_err()),
            ("way", copy_in(copy(&write), "/", Values::new(), no_container).unwrap_err()),
            ("path", copy_in(copy(&read), "etc", Values::new(), no_container).unwrap_err()),
            ("path", copy_out("/a/../b", copy(&write), Values::new(), no_container).unwrap_err()),
            ("flags", open_root(0, no_container).unwrap_err()),
            ("flags", open_root(3, no_container).unwrap_err()),
            ("flags", changes(1, 1, no_container).unwrap_err()),
            ("flags", mount_root(0, bond(), no_container).unwrap_err()),
            ("flags", mount_root(2, bond(), no_container).unwrap_err()),
            ("flags", mount_root(4, bond(), no_container).unwrap_err()),
            ("flags", unmount_root(1, bond(), no_container).unwrap_err()),
        ] {
            assert_eq!(error.short_name(), "InvalidArgs", "{about}: {error:?}");
        }
        let said = |key: &str, value| Values::from([(key.to_owned(), value)]);
        let run = Value::List(vec!["RUN true".into()]);
        for (options, name) in [
            (said("Changes", run), "InvalidArgs"),
            (said("Author", "a\0b".into()), "InvalidArgs"),
            (said("Pause", "yes".into()), "OptionType"),
            (said("Paused", Value::Bool(true)), "UnknownOption"),
        ] {
            let error = commit("", options, no_container).unwrap_err();
            assert_eq!(error.short_name(), name, "{error:?}");
        }
        let error = commit("Not A Name", Values::new(), no_container).unwrap_err();
        assert_eq!(error.short_name(), "InvalidReference");
        let error = commit("good", Values::new(), no_container).unwrap_err();
        assert_eq!(error.short_name(), "NoSuchContainer");
    }
}
