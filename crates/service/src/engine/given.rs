//! What callers hand over open, to be read to its end.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

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
    let file = File::from(fd);
    let about = file.metadata().map_err(failed)?.file_type();
    let bytes = if about.is_file() {
        unbounded("read-secret", move || super::env_file::up_to(&file, MAX).map_err(failed)).await?
    } else if about.is_fifo() {
        let read = tokio::time::timeout(PATIENCE, from_pipe(file.into()));
        read.await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?
    } else {
        return Err(Error::GivenValue("must be a regular file or a pipe", None));
    };
    match bytes {
        Some(bytes) if bytes.is_empty() => Err(Error::GivenValue("is empty", None)),
        Some(bytes) => Ok(Value(bytes)),
        None => Err(Error::GivenValue("has more than 512 KiB", None)),
    }
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
