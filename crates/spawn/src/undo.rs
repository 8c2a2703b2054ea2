use std::io;

use serde::{Deserialize, Serialize};

use crate::launch::{Child, Fd, Launch};
use crate::step::{Done, Step};
use crate::{Cause, Leftover, sys};

/// Runs steps and remembers how to take them back, newest first.
///
/// Ends in [`end`](Self::end); dropped without it (a panic), it rolls back and can only log what
/// it leaves behind.
#[derive(Debug, Default)]
#[must_use = "dropping it takes its steps back; call end()"]
pub(crate) struct Undo {
    steps: Vec<Step>,
    held: Vec<Fd>,
}

impl Undo {
    /// Runs `step` and, if it changed anything, remembers its inverse.
    pub(crate) fn run(&mut self, step: &Step) -> Result<Done, Cause> {
        let done = run(step)?;
        if !matches!(done, Done::Unchanged) {
            self.steps.extend(step.inverse());
        }
        Ok(done)
    }

    /// Starts a program that is killed on the way back.
    pub(crate) fn launch(&mut self, launch: Launch) -> Result<Child, Cause> {
        match run(&Step::Launch(launch))? {
            Done::Child(child) => {
                self.arm(Step::Kill { pid: child.pid, pidfd: child.pidfd.clone() });
                Ok(child)
            }
            other => unreachable!("launching gave {other:?}"),
        }
    }

    /// Has `step` run on the way back: for what a program is about to do.
    pub(crate) fn arm(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Keeps a descriptor open until all is taken back or kept.
    pub(crate) fn hold(&mut self, fd: Fd) {
        self.held.push(fd);
    }

    /// Keeps everything if `result` is good; takes everything back otherwise.
    pub(crate) fn end<T>(mut self, result: Result<T, Cause>) -> Result<T, Failure> {
        match result {
            Ok(value) => {
                self.steps.clear();
                Ok(value)
            }
            Err(cause) => Err(Failure { cause, leftovers: self.unwind() }),
        }
    }

    /// Takes everything back, whatever came of it; gives what is left.
    pub(crate) fn roll_back(mut self) -> Vec<Leftover> {
        self.unwind()
    }

    fn unwind(&mut self) -> Vec<Leftover> {
        let mut leftovers = Vec::new();
        while let Some(undo) = self.steps.pop() {
            if let Err(source) = undo_step(&undo) {
                leftovers.push(Leftover { undo: undo.to_string(), source });
            }
        }
        self.held.clear();
        leftovers
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for Leftover { undo, source } in self.unwind() {
            tracing::error!(%undo, %source, "left behind");
        }
    }
}

/// Why something failed, and what it left.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) leftovers: Vec<Leftover>,
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self { cause, leftovers: Vec::new() }
    }
}

/// Runs a step that needs no undo.
pub(crate) fn run(step: &Step) -> Result<Done, Cause> {
    sys::run(step).map_err(|source| failed(step, source))
}

/// The cause for a failed step.
pub(crate) fn failed(step: &impl ToString, source: io::Error) -> Cause {
    Cause::Step { step: step.to_string(), source }
}

fn undo_step(step: &Step) -> io::Result<()> {
    match sys::run(step)? {
        Done::Finished(finished) if !finished.succeeded() => {
            Err(io::Error::other(crate::message::last_words(&finished.output)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_takes_back_what_was_done_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().join("a"), dir.path().join("a/b"));
        let mut undo = Undo::default();
        undo.run(&Step::MakeDir(outer.clone())).unwrap();
        undo.run(&Step::MakeMountPoint(inner.clone())).unwrap();
        let result = undo.run(&Step::MakeDir(outer.clone())).map(drop);
        let failure = undo.end(result).unwrap_err();
        assert!(matches!(failure.cause, Cause::Step { .. }), "{:?}", failure.cause);
        assert!(failure.leftovers.is_empty(), "{:?}", failure.leftovers);
        assert!(!outer.exists());
    }

    #[test]
    fn what_was_there_before_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut undo = Undo::default();
        undo.run(&Step::MakeMountPoint(dir.path().into())).unwrap();
        assert!(undo.roll_back().is_empty());
        assert!(dir.path().exists());
    }

    #[test]
    fn a_failed_undo_is_reported_and_the_others_still_run() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        let mut undo = Undo::default();
        undo.run(&Step::MakeDir(first.clone())).unwrap();
        undo.run(&Step::MakeMountPoint(second.clone())).unwrap();
        std::fs::write(second.join("in the way"), "").unwrap();
        let failure = undo.end::<()>(Err(Cause::Gone)).unwrap_err();
        assert_eq!(failure.leftovers.len(), 1);
        assert!(failure.leftovers[0].undo.starts_with("remove mount point"));
        assert!(!first.exists());
    }

    #[test]
    fn success_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut undo = Undo::default();
        undo.run(&Step::MakeDir(path.clone())).unwrap();
        undo.end(Ok(())).unwrap();
        assert!(path.exists());
    }
}
