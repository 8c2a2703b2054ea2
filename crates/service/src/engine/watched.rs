//! A process that is watched for its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::watch;

use super::sys;

/// A pidfd, watched once for all who wait for it: an epoll knows a descriptor only once.
#[derive(Debug)]
pub(super) struct Watched {
    pidfd: Arc<OwnedFd>,
    ended: watch::Receiver<bool>,
}

impl Watched {
    /// Begins to watch the process behind `pidfd`.
    pub(super) fn new(pidfd: OwnedFd) -> io::Result<Self> {
        let pidfd = Arc::new(pidfd);
        let ready = sys::readable(pidfd.clone())?;
        let (end, ended) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                // An error means that the runtime is ending.
                _ = ready.readable() => drop(end.send(true)),
                () = end.closed() => {}
            }
        });
        Ok(Self { pidfd, ended })
    }

    /// The descriptor itself.
    pub(super) fn pidfd(&self) -> Arc<OwnedFd> {
        self.pidfd.clone()
    }

    /// Whether the process has ended by now.
    pub(super) fn has_ended(&self) -> bool {
        has_ended(&*self.pidfd)
    }

    /// Returns when the process has ended.
    pub(super) async fn ended(&self) {
        // The sender only goes away after it has sent.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// Whether the process behind a pidfd has ended by now.
pub(super) fn has_ended(pidfd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    #[tokio::test]
    async fn all_who_wait_are_told_and_who_comes_late_too() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let watched = Watched::new(pidfd_open(pid, PidfdFlags::empty()).unwrap()).unwrap();
        let early = std::time::Duration::from_millis(50);
        tokio::time::timeout(early, watched.ended()).await.unwrap_err();
        child.kill().unwrap();
        tokio::join!(watched.ended(), watched.ended());
        child.wait().unwrap();
        watched.ended().await;
    }
}
