//! `ImportImage`.

use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;

use rustix::fs::{FileType, OFlags, SeekFrom, fcntl_getfl, fstat, seek};
use rustix::net::{SocketType, getpeername, sockopt};
use tare_specgen::{Argument, EnvVar, UserSpec, WorkingDir};
use tare_storage::{Format, Platform};

use super::error::ApiError;
use super::options::{Options, Values};
use super::text::{parsed, text, wrong};
use crate::engine::{Error, ImportImage, Reference, RootfsConfig};

/// Arguments and options of `ImportImage`.
pub(crate) fn import(archive: OwnedFd, options: Values) -> Result<ImportImage, ApiError> {
    check_archive(&archive)?;
    let mut o = Options::new(options);
    let reference = match o.string("Reference")? {
        Some(reference) => Some(reference.parse::<Reference>()?.for_tag()?),
        None => None,
    };
    let format = match o.string("Format")?.as_deref() {
        None | Some("auto") => Format::Auto,
        Some("oci-archive") => Format::OciArchive,
        Some("docker-archive") => Format::DockerArchive,
        Some("rootfs") => Format::Rootfs,
        Some(other) => {
            return Err(wrong("Format", &format_args!("'{}' is not known", other.escape_debug())));
        }
    };
    let platform = text::<Platform>(&mut o, "Platform")?;
    let config = RootfsConfig {
        entrypoint: texts::<Argument>(&mut o, "Entrypoint")?,
        command: texts::<Argument>(&mut o, "Command")?,
        env: texts::<EnvVar>(&mut o, "Env")?,
        working_dir: one::<WorkingDir>(&mut o, "WorkingDir")?,
        user: one::<UserSpec>(&mut o, "User")?,
        labels: o.string_map("Labels")?.unwrap_or_default(),
    };
    o.finish()?;
    let of_images = matches!(format, Format::OciArchive | Format::DockerArchive);
    if of_images && config != RootfsConfig::default() {
        return Err(ApiError::invalid_args(Error::NotForImages.to_string()));
    }
    Ok(ImportImage { archive: archive.into(), format, platform, reference, config })
}

/// Texts that a container could be made with.
fn texts<T: FromStr<Err: Display>>(
    o: &mut Options,
    key: &'static str,
) -> Result<Vec<String>, ApiError> {
    let texts = o.strings(key)?.unwrap_or_default();
    texts.iter().try_for_each(|text| parsed::<T>(key, text).map(drop))?;
    Ok(texts)
}

/// A text that a container could be made with.
fn one<T: FromStr<Err: Display>>(
    o: &mut Options,
    key: &'static str,
) -> Result<Option<String>, ApiError> {
    let text = o.string(key)?;
    text.iter().try_for_each(|text| parsed::<T>(key, text).map(drop))?;
    Ok(text)
}

/// An archive has an end, and is read: devices have none, and of whatever else polls like a file
/// nothing can be read.
fn check_archive(archive: &OwnedFd) -> Result<(), ApiError> {
    if is_stream(archive, Way::Read) {
        return Ok(());
    }
    let message = "the archive must be a regular file, a pipe or a connected stream socket, \
                   open for reading";
    Err(ApiError::invalid_args(message))
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the caller.
    Read,
    /// To the caller.
    Write,
}

/// Whether a descriptor is open that way, for bytes in a row that have an end.
pub(super) fn is_stream(fd: &OwnedFd, way: Way) -> bool {
    let flags = fcntl_getfl(fd).unwrap_or(OFlags::PATH);
    let other = match way {
        Way::Read => OFlags::WRONLY,
        Way::Write => OFlags::RDONLY,
    };
    if flags.contains(OFlags::PATH) || flags & OFlags::RWMODE == other {
        return false;
    }
    match fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        // Descriptors of processes and namespaces say that they are regular files, too.
        Ok(FileType::RegularFile) => seek(fd, SeekFrom::Current(0)).is_ok(),
        Ok(FileType::Fifo) => true,
        Ok(FileType::Socket) => is_connected_stream(fd),
        _ => false,
    }
}

fn is_connected_stream(socket: impl AsFd) -> bool {
    sockopt::socket_type(&socket) == Ok(SocketType::STREAM) && getpeername(&socket).is_ok()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use crate::api::value::Value;
    use rustix::event::{EventfdFlags, epoll, eventfd};
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    #[test]
    fn an_archive_can_be_read_to_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let write_only: OwnedFd = File::create(&path).unwrap().into();
        let path_only = rustix::fs::open(&path, OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let listener = UnixListener::bind(dir.path().join("l")).unwrap();
        let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
        let (reader, writer) = std::io::pipe().unwrap();
        for (about, fd, fits) in [
            ("a file", File::open(&path).unwrap().into(), true),
            ("a memfd", memfd_create("m", MemfdFlags::CLOEXEC).unwrap(), true),
            ("a pipe", reader.into(), true),
            ("a connection", UnixStream::pair().unwrap().0.into(), true),
            ("the wrong end of a pipe", writer.into(), false),
            ("for writing", write_only, false),
            ("a place", path_only, false),
            ("a directory", open("/"), false),
            ("a device", open("/dev/zero"), false),
            ("datagrams", UnixDatagram::pair().unwrap().0.into(), false),
            ("a listener", listener.into(), false),
            ("an epoll", epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(), false),
            ("an eventfd", eventfd(0, EventfdFlags::CLOEXEC).unwrap(), false),
            ("a process", pidfd_open(getpid(), PidfdFlags::empty()).unwrap(), false),
            ("a namespace", open("/proc/self/ns/net"), false),
        ] {
            let checked = check_archive(&fd);
            assert_eq!(checked.is_ok(), fits, "{about}: {checked:?}");
        }
    }

    #[test]
    fn a_wrong_option_names_itself() {
        for (key, value) in [
            ("Env", Value::List(vec![Value::Text("NOVALUE".into())])),
            ("WorkingDir", Value::Text("relative".into())),
            ("User", Value::Text("a:b:c".into())),
            ("Command", Value::List(vec![Value::Text("a\0b".into())])),
            ("Format", Value::Text("zip".into())),
            ("Platform", Value::Text("linux".into())),
        ] {
            let archive = memfd_create("m", MemfdFlags::CLOEXEC).unwrap();
            let error = import(archive, Values::from([(key.to_string(), value)])).unwrap_err();
            assert_eq!(error.short_name(), "InvalidArgs", "{key}");
            assert!(error.message().contains(key), "{key}: {error:?}");
        }
    }

    #[test]
    fn what_is_said_of_a_root_file_system_is_not_said_of_images() {
        let import = |format: &str| {
            let archive = memfd_create("m", MemfdFlags::CLOEXEC).unwrap();
            let options = [("Format", Value::Text(format.into())), ("User", "nobody".into())];
            import(archive, options.map(|(key, value)| (key.to_string(), value)).into())
        };
        for format in ["oci-archive", "docker-archive"] {
            assert_eq!(import(format).unwrap_err().short_name(), "InvalidArgs", "{format}");
        }
        assert_eq!(import("rootfs").unwrap().format, Format::Rootfs);
    }
}
