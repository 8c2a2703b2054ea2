//! The root of a container, held until its end is told.
//!
//! Whoever is last to let go of an overlay flushes the file system that its upper layer is on, which
//! takes as long as the disk does. A descriptor of ours is the last: neither conmon waits for that,
//! nor who waits for the container.

use std::mem;
use std::os::fd::OwnedFd;

use tokio::task::{JoinHandle, spawn_blocking};

/// What is held of a root.
#[derive(Debug, Default)]
pub(in crate::engine) struct HeldRoot(Held);

#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Mount(OwnedFd),
    LettingGo(JoinHandle<()>),
}

impl HeldRoot {
    /// Keeps it mounted, if nowhere else.
    pub(in crate::engine) fn hold(&mut self, mount: OwnedFd) {
        self.0 = Held::Mount(mount);
    }

    /// Lets go of it; does not wait for that.
    pub(in crate::engine) fn let_go(&mut self) {
        self.0 = match mem::take(&mut self.0) {
            Held::Mount(mount) => Held::LettingGo(spawn_blocking(move || drop(mount))),
            other => other,
        };
    }

    /// Waits until nothing is held of it any more: it is mounted to be written to once at a time.
    pub(in crate::engine) async fn is_let_go(&mut self) {
        self.let_go();
        if let Held::LettingGo(going) = &mut self.0 {
            // There is nothing in it that could fail.
            let _ = going.await;
            self.0 = Held::Nothing;
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use std::io::{PipeReader, Read, pipe};

    fn held() -> (PipeReader, HeldRoot) {
        let (reader, writer) = pipe().unwrap();
        let mut root = HeldRoot::default();
        root.hold(writer.into());
        (reader, root)
    }

    #[tokio::test]
    async fn what_is_let_go_is_closed_when_that_was_waited_for() {
        HeldRoot::default().is_let_go().await;
        let (mut reader, mut root) = held();
        root.let_go();
        root.let_go();
        root.is_let_go().await;
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        root.is_let_go().await;

        let (mut reader, mut root) = held();
        root.is_let_go().await;
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}
