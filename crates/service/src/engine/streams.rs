//! Streams that are written for callers: JSON lines in a pipe, for as long as somebody reads.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::pipe;

use super::Error;
use crate::authority::Caller;
use crate::effects;

/// Of one user, but root: each is a pipe and a task of ours, and costs the caller nothing.
const PER_USER: usize = 64;

/// How many streams there are, by user.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<u32, usize>>>);

/// The end of a stream that is written.
#[derive(Debug)]
pub(super) struct Stream {
    pipe: pipe::Sender,
    _counted: Counted,
}

impl Streams {
    /// A stream, and the end of it that `by` reads.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyStreams`], [`Error::Host`] if there can be no pipe.
    pub(super) fn open(&self, by: &Caller) -> Result<(OwnedFd, Stream), Error> {
        let counted = self.count(by.uid)?;
        open(counted).map_err(|source| Error::Host { what: "open a stream", source })
    }

    fn count(&self, uid: u32) -> Result<Counted, Error> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(uid).or_default();
        if *open >= PER_USER && uid != 0 {
            return Err(Error::TooManyStreams(PER_USER));
        }
        *open += 1;
        Ok(Counted { among: self.clone(), uid })
    }
}

fn open(counted: Counted) -> io::Result<(OwnedFd, Stream)> {
    let (reader, writer) = effects::pipe()?;
    let writer = OwnedFd::from(writer);
    rustix::io::ioctl_fionbio(&writer, true)?;
    let pipe = pipe::Sender::from_owned_fd(writer)?;
    Ok((reader.into(), Stream { pipe, _counted: counted }))
}

impl Stream {
    /// Writes one line; waits for a reader that is slow.
    ///
    /// # Errors
    ///
    /// If nobody reads any more.
    pub(super) async fn line(&mut self, line: &Value) -> io::Result<()> {
        self.pipe.write_all(format!("{line}\n").as_bytes()).await
    }

    /// Returns when nobody reads any more.
    pub(super) async fn gone(&self) {
        // An error means that the runtime is ending.
        let _ = self.pipe.ready(Interest::ERROR).await;
    }
}

/// A stream that counts, until it is dropped.
#[derive(Debug)]
struct Counted {
    among: Streams,
    uid: u32,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut streams = self.among.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&self.uid) {
            *open -= 1;
            if *open == 0 {
                streams.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Interactive;

    fn caller(uid: u32) -> Caller {
        Caller { uid, bus_name: ":1.7".into(), interactive: Interactive::No }
    }

    #[tokio::test]
    async fn nobody_but_root_has_more_streams_than_fit() {
        let streams = Streams::default();
        for (uid, more) in [(1000, false), (0, true)] {
            let mut open: Vec<_> =
                (0..PER_USER).map(|_| streams.open(&caller(uid)).unwrap()).collect();
            assert_eq!(streams.open(&caller(uid)).is_ok(), more, "{uid}");
            streams.open(&caller(1001)).unwrap();
            open.pop();
            streams.open(&caller(uid)).unwrap();
        }
        assert!(streams.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_stops_to_read_is_noticed() {
        let (reader, mut stream) = Streams::default().open(&caller(1000)).unwrap();
        let early = std::time::Duration::from_millis(20);
        tokio::time::timeout(early, stream.gone()).await.unwrap_err();
        stream.line(&Value::from(1)).await.unwrap();
        drop(reader);
        stream.gone().await;
        stream.line(&Value::from(2)).await.unwrap_err();
    }
}
