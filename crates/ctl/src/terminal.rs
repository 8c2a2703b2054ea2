//! A terminal of a process in a container, with our own in front of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::termios::{
    OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;

/// Ctrl-D.
pub(crate) const END_OF_INPUT: u8 = 4;

/// How large our own is: lines, and characters a line; nothing if we have none.
pub(crate) fn own_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdin()).ok()?;
    Some((size.ws_row, size.ws_col))
}

/// Our own terminal, while each key goes to the other one as it is pressed.
pub(crate) struct Raw(Termios);

impl Raw {
    /// Nothing if we have none.
    pub(crate) fn set() -> Result<Option<Self>, Failure> {
        let stdin = std::io::stdin();
        if !isatty(&stdin) {
            return Ok(None);
        }
        let failed =
            |errno: rustix::io::Errno| Failure::io("cannot use our own terminal")(errno.into());
        let before = tcgetattr(&stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Passes on what is typed and what is shown, until the process has hung up.
pub(crate) async fn pass_on(terminal: OwnedFd) -> Result<(), Failure> {
    let failed = || Failure::io("cannot use the terminal");
    let raw = Raw::set()?;
    let mut keys = File::from(terminal.try_clone().map_err(failed())?);
    // Ends with this program: nothing can wake it.
    thread::spawn(move || {
        let typed = std::io::copy(&mut std::io::stdin().lock(), &mut keys);
        // What is no terminal ends; a terminal says so by a key.
        typed.and_then(|_| keys.write_all(&[END_OF_INPUT]))
    });
    let mut shown = File::from(terminal.try_clone().map_err(failed())?);
    let passing = tokio::task::spawn_blocking(move || show(&mut shown));
    tokio::select! {
        _ = passing => {}
        result = follow_size(terminal) => result?,
    }
    drop(raw);
    Ok(())
}

/// The end of a terminal is an error of the kernel.
fn show(terminal: &mut File) {
    let mut block = [0; 4096];
    let mut stdout = std::io::stdout();
    while let Ok(count @ 1..) = terminal.read(&mut block) {
        if stdout.write_all(&block[..count]).and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}

async fn follow_size(terminal: OwnedFd) -> Result<(), Failure> {
    let changes = signal(SignalKind::window_change());
    let mut changes = changes.map_err(Failure::io("cannot follow our own terminal"))?;
    while changes.recv().await.is_some() {
        if let Ok(size) = tcgetwinsize(std::io::stdin()) {
            // The other end may have gone, which is noticed elsewhere.
            let _ = tcsetwinsize(terminal.as_fd(), size);
        }
    }
    Ok(())
}
