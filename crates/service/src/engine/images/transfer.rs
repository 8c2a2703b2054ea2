//! Bytes to and from a caller's descriptor, for as long as the job is wanted.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use tare_storage::Watch;

use crate::engine::Error;
use crate::engine::jobs::Job;

/// A pipe that polls writable takes so many bytes at once (`PIPE_BUF`).
const ATOMIC: usize = 4096;

/// Shows how far a transfer is, and ends it when its job is canceled.
pub(in crate::engine) struct JobWatch<'j> {
    job: &'j Job,
    total: AtomicU64,
}

impl<'j> JobWatch<'j> {
    pub(in crate::engine) fn new(job: &'j Job) -> Self {
        Self { job, total: AtomicU64::new(0) }
    }
}

impl Watch for JobWatch<'_> {
    fn progress(&self, bytes: u64) -> ControlFlow<()> {
        self.job.progress(bytes, self.total.load(Ordering::Relaxed));
        if self.job.is_canceled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn expect(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }
}

/// Whether a file is a regular one, which always has an answer.
pub(in crate::engine) fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// A caller's end of something, which ends with an error when the job is canceled, however long the
/// other end keeps silent.
pub(in crate::engine) struct Cancelable<'j> {
    file: File,
    cancel: Arc<OwnedFd>,
    /// Set when it is the caller's end that fails: that is no fault of the store.
    failed: &'j Cell<bool>,
}

impl<'j> Cancelable<'j> {
    pub(in crate::engine) fn new(
        file: File,
        job: &Job,
        failed: &'j Cell<bool>,
    ) -> Result<Self, Error> {
        let cancel =
            job.cancel_event().ok_or_else(|| Error::Bug("a transfer after its end".into()))?;
        Ok(Self { file, cancel, failed })
    }

    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.file, events), PollFd::new(&*self.cancel, PollFlags::IN)];
        poll(&mut fds, None)?;
        if fds[1].revents().is_empty() { Ok(()) } else { Err(io::Error::other("canceled")) }
    }
}

impl Read for Cancelable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        self.file.read(buffer).inspect_err(|_| self.failed.set(true))
    }
}

impl Write for Cancelable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT)?;
        // More could block, and then nothing could be canceled any more.
        let some = &bytes[..bytes.len().min(ATOMIC)];
        self.file.write(some).inspect_err(|_| self.failed.set(true))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
