//! Taking back what was done when a later step fails.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

use crate::error::{Error, Failure, Leftover};
use crate::sys::{Step, perform};

/// Runs steps and remembers how to take them back, newest first.
///
/// Ends in [`commit`](Self::commit) or [`roll_back`](Self::roll_back); dropped without either (a
/// panic), it rolls back and can only log what it leaves behind.
#[must_use = "dropping an undo stack takes its steps back; call commit() to keep them"]
#[derive(Default)]
pub(crate) struct UndoStack<'a>(Vec<Step<'a>>);

impl<'a> UndoStack<'a> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Runs `step` and, if it worked, remembers its inverse.
    pub(crate) fn run(&mut self, step: &Step<'a>) -> Result<(), Failure> {
        perform(step)?;
        self.0.extend(step.inverse());
        Ok(())
    }

    /// Runs [`Step::Publish`], whose inverse needs the name only: `file` may be closed before.
    pub(crate) fn publish(
        &mut self,
        file: BorrowedFd<'_>,
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
    ) -> Result<(), Failure> {
        perform(&Step::Publish { file, dir, name })?;
        self.0.push(Step::Unlink { dir, name });
        Ok(())
    }

    /// Keeps everything done so far.
    pub(crate) fn commit(mut self) {
        self.0.clear();
    }

    /// Takes everything back and returns `error`, with what could not be taken back.
    pub(crate) fn roll_back(mut self, error: Error) -> Error {
        error.with_leftovers(self.unwind())
    }

    fn unwind(&mut self) -> Vec<Leftover> {
        let newest_first = std::mem::take(&mut self.0).into_iter().rev();
        newest_first.filter_map(|undo| perform(&undo).err()).map(Leftover::from).collect()
    }
}

impl Drop for UndoStack<'_> {
    fn drop(&mut self) {
        for Leftover { undo, source } in self.unwind() {
            tracing::error!(undo, %source, "left behind");
        }
    }
}
