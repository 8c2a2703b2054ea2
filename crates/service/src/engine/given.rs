//! What callers hand over open, to be read to its end.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::pipe::fcntl_getpipe_size;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::Error;
use super::blocking::unbounded;
use super::records::durable::Value;

/// Most bytes of a secret.
const MAX: usize = 512 << 10;
/// Who writes into a pipe has so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The value of a secret: what is in a regular file, or comes out of a pipe until its other end is
/// closed; nobody's thread waits for that.
///
/// # Errors
///
/// [`Error::GivenValue`].
pub(super) async fn value(fd: OwnedFd) -> Result<Value, Error> {
    // A pipe is one without the file system being asked, which may never answer.
    let bytes = if fcntl_getpipe_size(&fd).is_ok() {
        let read = tokio::time::timeout(PATIENCE, from_pipe(fd));
        read.await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?
    } else {
        unbounded("read-secret", move || from_file(&fd.into())).await?
    };
    match bytes {
        Some(bytes) if bytes.is_empty() => Err(Error::GivenValue("is empty", None)),
        Some(bytes) => Ok(Value(bytes)),
        None => Err(Error::GivenValue("has more than 512 KiB", None)),
    }
}

fn from_file(file: &File) -> Result<Option<Vec<u8>>, Error> {
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Error::GivenValue("must be a regular file or a pipe", None));
    }
    up_to(file, MAX).map_err(failed)
}

/// What is in a file, from its beginning; `None` if that is more than so many bytes.
pub(super) fn up_to(file: &File, max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; max + 1];
    let length = fill(file, &mut bytes)?;
    bytes.truncate(length);
    Ok((length <= max).then_some(bytes))
}

/// How much of that could be filled.
fn fill(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn failed(source: io::Error) -> Error {
    Error::GivenValue("cannot be read", Some(source))
}

async fn from_pipe(fd: OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let pipe = Receiver::from_owned_fd(fd)?;
    pipe.take(MAX as u64 + 1).read_to_end(&mut bytes).await?;
    Ok((bytes.len() <= MAX).then_some(bytes))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use std::io::Write;

    async fn said(fd: impl Into<OwnedFd>) -> Result<Vec<u8>, String> {
        value(fd.into()).await.map(|value| value.0).map_err(|error| error.to_string())
    }

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[tokio::test]
    async fn a_value_is_a_whole_file_or_all_that_comes_out_of_a_pipe() {
        let most = vec![b'x'; MAX];
        for bytes in [&b"value"[..], &most] {
            assert_eq!(said(file_of(bytes)).await.unwrap(), bytes);
            let (reader, mut writer) = io::pipe().unwrap();
            let bytes = bytes.to_owned();
            let written = bytes.clone();
            let writing = std::thread::spawn(move || writer.write_all(&written).unwrap());
            assert_eq!(said(reader).await.unwrap(), bytes);
            writing.join().unwrap();
        }
        let too_much = file_of(&vec![b'x'; MAX + 1]);
        let (pipe, writer) = io::pipe().unwrap();
        drop(writer);
        for (wrong, says) in [
            (too_much.into(), "more than 512 KiB"),
            (file_of(b"").into(), "is empty"),
            (File::open("/").unwrap().into(), "must be a regular file or a pipe"),
            (OwnedFd::from(pipe), "is empty"),
        ] {
            let error = said(wrong).await.unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
