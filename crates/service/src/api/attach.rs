//! `Attach`, `Resize`, and what `Start` is given.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::pipe::fcntl_getpipe_size;
use tare_specgen::TerminalSize;

use super::error::ApiError;
use super::options::{Options, Values, flags};
use super::text::wrong;
use crate::engine::{AtStart, Attach, Input, Start, view};

/// The container that is meant; looked up when the rest is known to be right.
type Found = Result<Arc<view::Container>, ApiError>;

/// Arguments of `Start`.
pub(crate) fn start(
    given: u64,
    options: Values,
    find: impl FnOnce() -> Found,
) -> Result<Start, ApiError> {
    flags(given, 0)?;
    let at_start = at_start(options)?;
    Ok(Start { container: find()?, at_start })
}

fn at_start(options: Values) -> Result<AtStart, ApiError> {
    let mut o = Options::new(options);
    let streams = [
        pipe(&mut o, "Stdin", OFlags::RDONLY)?,
        pipe(&mut o, "Stdout", OFlags::WRONLY)?,
        pipe(&mut o, "Stderr", OFlags::WRONLY)?,
    ];
    let size = match (o.number("Rows")?, o.number("Columns")?) {
        (None, None) => None,
        (rows, columns) => Some(TerminalSize {
            rows: rows.unwrap_or_default(),
            columns: columns.unwrap_or_default(),
        }),
    };
    o.finish()?;
    Ok(AtStart { streams, size })
}

/// Options of `Attach`.
pub(crate) fn attach(options: Values, find: impl FnOnce() -> Found) -> Result<Attach, ApiError> {
    let mut o = Options::new(options);
    let wanted = o.boolean("Stdin")?.unwrap_or_default();
    let input = if wanted { Input::Wanted } else { Input::Unwanted };
    o.finish()?;
    Ok(Attach { container: find()?, input })
}

/// An end of a pipe, which is what can be used without waiting, whoever else has it.
fn pipe(o: &mut Options, key: &'static str, mode: OFlags) -> Result<Option<OwnedFd>, ApiError> {
    let Some(fd) = o.fd(key)? else { return Ok(None) };
    // Not by `fstat`: that asks the file system, which may never answer.
    let is_pipe = fcntl_getpipe_size(&fd).is_ok();
    let flags = fcntl_getfl(&fd).unwrap_or(OFlags::PATH);
    if !is_pipe || flags.contains(OFlags::PATH) || flags & OFlags::ACCMODE != mode {
        let end = if mode == OFlags::RDONLY { "read from" } else { "written to" };
        return Err(wrong(key, &format!("must be the end of a pipe that can be {end}")));
    }
    Ok(Some(fd))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use crate::api::value::Value;

    fn started(options: Vec<(&str, Value)>) -> Result<AtStart, ApiError> {
        at_start(options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    #[test]
    fn a_start_takes_the_ends_of_pipes_that_the_container_would_have() {
        let (reader, writer) = std::io::pipe().unwrap();
        let fd = |fd: OwnedFd| Value::Fd(fd);
        let both = vec![("Stdin", fd(reader.into())), ("Stdout", fd(writer.into()))];
        let [input, output, errors] = started(both).unwrap().streams;
        assert!(input.is_some() && output.is_some() && errors.is_none());

        let (reader, writer) = std::io::pipe().unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        for (about, key, wrong) in [
            ("the other end", "Stdin", writer.into()),
            ("the other end", "Stderr", reader.into()),
            ("a socket", "Stdout", OwnedFd::from(socket)),
            ("a device", "Stdin", null.into()),
        ] {
            let error = started(vec![(key, fd(wrong))]).unwrap_err();
            assert_eq!(error.short_name(), "InvalidArgs", "{about}");
            assert!(error.message().contains(key), "{error:?}");
        }
    }

    #[test]
    fn a_terminal_has_the_size_that_it_is_said_to_have() {
        assert_eq!(started(Vec::new()).unwrap().size, None);
        let rows = vec![("Rows", Value::Integer(24))];
        let size = TerminalSize { rows: 24, columns: 0 };
        assert_eq!(started(rows).unwrap().size, Some(size));
        assert!(started(vec![("Columns", Value::Integer(65_536))]).is_err());
        assert!(started(vec![("DetachKeys", "x".into())]).is_err(), "not known");
    }
}
