//! Running steps, and taking them back.

use std::io;

use rustix::io::Errno;

use crate::{Error, Leftover, Step};

/// What this crate asks of the kernel: one method, not one per system call.
pub(crate) trait Kernel {
    /// Carries out one step; one that fails had no effect.
    fn run(&mut self, step: &Step) -> io::Result<()>;
}

/// Runs `steps` in order and returns what can take them back.
///
/// # Errors
///
/// [`Error::Step`] for the first step that fails, after taking back the earlier ones.
pub(crate) fn apply<K: Kernel>(
    kernel: &mut K,
    steps: Vec<Step>,
) -> Result<UndoStack<'_, K>, Error> {
    let mut done = UndoStack { kernel, undo: Vec::new() };
    for step in steps {
        if let Err(source) = done.run(&step) {
            let leftovers = done.roll_back();
            return Err(Error::Step { step: Box::new(step), leftovers, source });
        }
    }
    Ok(done)
}

/// Runs undo steps in the order given, going on past failures, and returns those.
///
/// What is already gone needs no taking back and is no failure.
pub(crate) fn take_back(
    kernel: &mut impl Kernel,
    undo: impl IntoIterator<Item = Step>,
) -> Vec<Leftover> {
    undo.into_iter()
        .filter_map(|undo| {
            let source = kernel.run(&undo).err().filter(|error| !is_gone(error))?;
            Some(Leftover { undo, source })
        })
        .collect()
}

/// Whether the kernel says that the thing to remove is not there.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::NODEV, Errno::ADDRNOTAVAIL];
    error.kind() == io::ErrorKind::NotFound
        || gone.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Steps that were done and how to take them back.
///
/// Ends in [`commit`](Self::commit) or [`roll_back`](Self::roll_back); dropped without either, it
/// rolls back and can only log what it leaves behind.
#[must_use = "dropping an undo stack takes its steps back; call commit() to keep them"]
#[derive(Debug)]
pub(crate) struct UndoStack<'k, K: Kernel> {
    kernel: &'k mut K,
    undo: Vec<Step>,
}

impl<K: Kernel> UndoStack<'_, K> {
    fn run(&mut self, step: &Step) -> io::Result<()> {
        self.kernel.run(step)?;
        self.undo.extend(step.inverse());
        Ok(())
    }

    /// Keeps everything done so far.
    pub(crate) fn commit(mut self) {
        self.undo.clear();
    }

    /// Takes everything back, newest first, and returns what failed.
    pub(crate) fn roll_back(mut self) -> Vec<Leftover> {
        self.unwind()
    }

    fn unwind(&mut self) -> Vec<Leftover> {
        let undo = std::mem::take(&mut self.undo);
        take_back(self.kernel, undo.into_iter().rev())
    }
}

impl<K: Kernel> Drop for UndoStack<'_, K> {
    fn drop(&mut self) {
        for Leftover { undo, source } in self.unwind() {
            tracing::error!(%undo, %source, "left behind");
        }
    }
}
