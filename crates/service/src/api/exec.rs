//! `Exec`.

use std::os::fd::OwnedFd;

use tare_specgen::{Argument, ExecRequest, TerminalSize};

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
    let size = TerminalSize {
        rows: o.number("Rows")?.unwrap_or_default(),
        columns: o.number("Columns")?.unwrap_or_default(),
    };
    if o.boolean("TTY")?.unwrap_or_default() {
        if detached {
            return Err(wrong("TTY", &"somebody has to hold it, and Detach says nobody does"));
        }
        o.finish()?;
        request.terminal = Some(size);
        return Ok((request, [Stdio::Null, Stdio::Null, Stdio::Null]));
    }
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
    use crate::api::value::Value;

    #[test]
    fn a_terminal_is_instead_of_streams_and_held_by_somebody() {
        let exec = |options: &[(&str, Value)]| {
            let options = options.iter().map(|(key, value)| {
                let value = match value {
                    Value::Integer(number) => Value::Integer(*number),
                    _ => Value::Bool(true),
                };
                ((*key).to_owned(), value)
            });
            exec(&["sh".to_owned()], options.collect())
        };
        let terminal = exec(&[("TTY", Value::Bool(true)), ("Rows", Value::Integer(24))]);
        let size = TerminalSize { rows: 24, columns: 0 };
        assert_eq!(terminal.unwrap().0.terminal, Some(size));
        assert_eq!(exec(&[("Rows", Value::Integer(24))]).unwrap().0.terminal, None);
        for options in [
            &[("TTY", Value::Bool(true)), ("Detach", Value::Bool(true))][..],
            &[("TTY", Value::Bool(true)), ("Rows", Value::Integer(65_536))],
        ] {
            assert_eq!(exec(options).unwrap_err().short_name(), "InvalidArgs");
        }
    }

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
