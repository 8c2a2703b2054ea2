//! `Exec`.

use std::os::fd::OwnedFd;

use tare_specgen::{Argument, ExecRequest};

use super::error::ApiError;
use super::options::{Options, Values};
use super::text::{list, parsed, text, wrong};
use crate::engine::Stdio;

/// Arguments and options of `Exec`.
pub(crate) fn exec(
    argv: &[String],
    options: Values,
) -> Result<(ExecRequest, [Stdio; 3]), ApiError> {
    let argv = argv.iter().map(|argument| parsed::<Argument>("argv", argument));
    let mut request = ExecRequest::new(argv.collect::<Result<_, _>>()?);
    let mut o = Options::new(options);
    request.env = list(&mut o, "Env")?.unwrap_or_default();
    request.working_dir = text(&mut o, "WorkingDir")?;
    request.user = text(&mut o, "User")?;
    let detached = o.boolean("Detach")?.unwrap_or_default();
    let mut stdio = |key| {
        Ok::<_, ApiError>(match o.fd(key)? {
            Some(fd) => Stdio::Given(stream(key, fd)?),
            None if detached => Stdio::Null,
            None => Stdio::Pipe,
        })
    };
    let stdio = [stdio("Stdin")?, stdio("Stdout")?, stdio("Stderr")?];
    o.finish()?;
    Ok((request, stdio))
}

/// A descriptor that a container may have. Through `/proc/self/fd` its root can open again what
/// stands behind it, with the rights of root on the host: so it must be something that is no more
/// than a stream when it is opened again. A file, a directory or a disk would be the host's.
fn stream(key: &str, fd: OwnedFd) -> Result<OwnedFd, ApiError> {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
    let kind = fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let usable = fcntl_getfl(&fd).is_ok_and(|flags| !flags.contains(OFlags::PATH));
    match kind {
        Ok(FileType::Fifo | FileType::Socket | FileType::CharacterDevice) if usable => Ok(fd),
        _ => Err(wrong(key, &"must be a pipe, a socket or a terminal")),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;

    #[test]
    fn a_container_gets_streams_and_no_files_of_the_host() {
        use rustix::fs::{Mode, OFlags, open};
        let opened = |path: &str, flags| open(path, flags, Mode::empty()).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        for fd in [reader.into(), writer.into(), socket.into(), opened("/dev/null", OFlags::RDWR)] {
            stream("Stdin", fd).unwrap();
        }
        let file = tempfile::tempfile().unwrap();
        for (about, fd) in [
            ("file", file.into()),
            ("directory", opened("/", OFlags::RDONLY | OFlags::DIRECTORY)),
            ("path", opened("/dev/null", OFlags::PATH)),
            ("directory by path", opened("/", OFlags::PATH)),
        ] {
            assert!(stream("Stdin", fd).is_err(), "{about}");
        }
    }
}
