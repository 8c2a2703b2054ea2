//! Starts conmon and hears what became of it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::Cause;
use crate::launch::{Child, Deadline, Fd, Launch, read_line};
use crate::message::{Word, last_words};
use crate::step::Step;
use crate::undo::{Undo, failed};

/// How long conmon and the runtime may take to create a container or to start a process in one.
/// Either takes milliseconds; a host short of memory or disk takes seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a conmon that cannot be let go may take to end by itself and tell why.
const EARLY_END: Duration = Duration::from_millis(20);
/// Longest line on the sync pipe, in bytes: conmon passes on at most 8 KiB of the runtime's words,
/// each byte escaped by at most six.
const MAX_WORD: usize = 64 << 10;

/// What conmon says when the runtime has done its part.
pub(super) enum Answer {
    /// The pid of the new process.
    Pid(u32),
    /// The runtime failed and said this.
    Failed(String),
    /// conmon ended without a word.
    Silent,
}

/// A conmon that waits to be let go.
#[derive(Debug)]
pub(super) struct Waiting {
    child: Child,
    word: Fd,
    start: Fd,
}

/// Starts conmon. `launch` gets the pipes conmon speaks through.
pub(super) fn start_conmon(
    undo: &mut Undo,
    launch: impl FnOnce([Fd; 2]) -> Launch,
) -> Result<Waiting, Cause> {
    let (word, their_word) = pipe()?;
    let (their_start, start) = pipe()?;
    // conmon takes the end of this pipe for the word to go on: it must be dead before that.
    undo.hold(start.clone());
    let child = undo.launch(launch([their_word, their_start]))?;
    Ok(Waiting { child, word, start })
}

impl Waiting {
    pub(super) fn pid(&self) -> u32 {
        self.child.pid
    }

    pub(super) fn pidfd(&self) -> &Fd {
        &self.child.pidfd
    }

    /// Does what is `left` to do before conmon goes on, lets it go on, and waits until it has become
    /// a daemon and the runtime is done.
    pub(super) fn go_on(&mut self, undo: &mut Undo, left: Vec<Step>) -> Result<Answer, Cause> {
        let deadline = Deadline::after(LIMIT);
        let go = Step::Go { start: self.start.clone(), pid: self.child.pid };
        let mut steps = left.into_iter().chain([go]);
        let went = steps.try_for_each(|step| undo.run(&step).map(drop));
        went.map_err(|cause| self.early_end().unwrap_or(cause))?;

        let daemonized = self.child.finish(deadline).map_err(|error| gave_up(error, deadline))?;
        if !daemonized.succeeded() {
            return Err(Cause::Supervisor { message: last_words(&daemonized.output) });
        }
        let word = read_line(&self.word, MAX_WORD, deadline);
        understand(&word.map_err(|error| gave_up(error, deadline))?)
    }

    /// What conmon said, if it ended before it was let go.
    pub(super) fn early_end(&mut self) -> Option<Cause> {
        let finished = self.child.finish(Deadline::after(EARLY_END)).ok()?;
        Some(Cause::Supervisor { message: last_words(&finished.output) })
    }
}

fn pipe() -> Result<(Fd, Fd), Cause> {
    let share = |(read, write): (OwnedFd, OwnedFd)| (Arc::new(read), Arc::new(write));
    pipe_with(PipeFlags::CLOEXEC).map(share).map_err(|errno| failed(&"make a pipe", errno.into()))
}

fn gave_up(error: io::Error, deadline: Deadline) -> Cause {
    match error.kind() {
        io::ErrorKind::TimedOut => Cause::Timeout { limit: deadline.limit },
        _ => failed(&"wait for conmon", error),
    }
}

fn understand(line: &[u8]) -> Result<Answer, Cause> {
    if line.is_empty() {
        return Ok(Answer::Silent);
    }
    let nonsense = || Cause::Supervisor { message: last_words(line) };
    let word = Word::parse(line).ok_or_else(nonsense)?;
    match u32::try_from(word.data) {
        Ok(0) => Err(nonsense()),
        Ok(pid) => Ok(Answer::Pid(pid)),
        Err(_) => Ok(Answer::Failed(last_words(word.message.as_bytes()))),
    }
}
