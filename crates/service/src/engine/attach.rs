//! Attaching to a container: what it writes and reads goes through pipes that somebody has.
//!
//! Whoever forks passes on between these and conmon, so a new daemon has nothing to do with it. Whoever
//! wants all that a container writes attaches when it is started: after it is made, and before it runs.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tare_runtime::terminal;
use tare_spawn::{AttachedStreams, Cause, Refusal, Stdin};
use tare_specgen::{OpenStdin, Request, Terminal, TerminalSize};

use super::blocking::brief;
use super::container::{Container, Running};
use super::exec::{Direction, open_one};
use super::process::runtime_error;
use super::view;
use super::{Engine, Error, Stdio};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// Somebody who wants to attach to a container that runs.
#[derive(Debug)]
pub struct Attach {
    /// To which.
    pub container: Arc<view::Container>,
    /// Whether its standard input is wanted, too.
    pub input: Input,
}

/// Whether somebody who attaches has something for a container to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Not that.
    Unwanted,
    /// That, too.
    Wanted,
}

/// What a container is started with.
#[derive(Debug, Default)]
pub struct AtStart {
    /// Who has attached by the time it runs.
    pub streams: AttachedStreams,
    /// How large its terminal is then.
    pub size: Option<TerminalSize>,
}

/// A container whose terminal is to be of another size.
#[derive(Debug)]
pub struct Resize {
    /// Which.
    pub container: Arc<view::Container>,
    /// How large it is to be.
    pub size: TerminalSize,
}

impl AtStart {
    /// Starting it takes more if somebody attaches.
    pub(super) fn question(&self, container: &view::Container, by: &Caller) -> Option<Question> {
        let attaches = self.streams.iter().any(Option::is_some);
        attaches.then(|| exec_question(container, by))
    }

    /// An error if the container has not what is to be used of it.
    pub(super) fn check(&self, container: &Container) -> Result<(), Error> {
        let [input, ..] = &self.streams;
        if input.is_some() {
            check_input(container)?;
        }
        if self.size.is_some() && container.definition().row.request.terminal == Terminal::No {
            return Err(Error::NoTerminal);
        }
        Ok(())
    }
}

/// Who reads what a container writes, and writes what it reads, has as much of it as who executes
/// something in it.
fn exec_question(container: &view::Container, by: &Caller) -> Question {
    let action =
        if container.privileged { Action::ExecPrivilegedContainer } else { Action::ExecContainer };
    Question::about(action, container, by)
}

impl Ask for Attach {
    fn question(&self, by: &Caller) -> Question {
        exec_question(&self.container, by).with("verb", "attach")
    }
}

impl Ask for Resize {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "resize")
    }
}

impl Engine {
    /// Attaches to a container that runs; the caller's ends of pipes: standard input, output, error.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::NoInput`], [`Error::TooManyAttached`], [`Error::Runtime`].
    pub async fn attach(&self, request: Authorized<Attach>) -> Result<[Option<OwnedFd>; 3], Error> {
        let (Attach { container: asked, input }, _) = request.into_parts();
        let container = self.container(&asked.id)?;
        let running = {
            let life = container.lock_unchanged(&asked).await?;
            let running = life.running().cloned();
            running.ok_or_else(|| Error::NotRunning(container.name()))?
        };
        if input == Input::Wanted {
            check_input(&container)?;
        }
        let pipe = |direction| open_one(Stdio::Pipe, direction);
        let input = match input {
            Input::Wanted => Some(pipe(Direction::In)?),
            Input::Unwanted => None,
        };
        let (output, errors) = (pipe(Direction::Out)?, pipe(Direction::Out)?);
        let (input, to_input) = input.unzip();
        self.pass_on(&container, &running, [input, Some(output.0), Some(errors.0)]).await?;
        Ok([to_input.flatten(), output.1, errors.1])
    }

    /// What a container is started with is in its place before it runs.
    pub(super) async fn attach_at_start(
        &self,
        container: &Container,
        running: &Arc<Running>,
        at_start: AtStart,
    ) -> Result<(), Error> {
        let AtStart { streams, size } = at_start;
        if let Some(size) = size
            && let Err(error) = resize_terminal(container, running, size).await
        {
            // It can be done again, by whoever started it.
            tracing::warn!("{}", error.chain());
        }
        if streams.iter().any(Option::is_some) {
            self.pass_on(container, running, streams).await?;
        }
        Ok(())
    }

    async fn pass_on(
        &self,
        container: &Container,
        running: &Arc<Running>,
        streams: AttachedStreams,
    ) -> Result<(), Error> {
        let request = tare_spawn::Attach {
            target: running.target.clone(),
            stdin: stdin_of(&container.definition().row.request),
            owner: Some(container.view().owner_uid),
        };
        let (spawner, running, name) = (self.spawner.clone(), running.clone(), container.name());
        brief(move || {
            let attached = spawner.attach(&request, running.init.as_fd(), streams);
            attached.map_err(|error| match error.cause() {
                Some(Cause::Gone) => Error::NotRunning(name),
                Some(Cause::Refused(Refusal::TooManyAttached)) => Error::TooManyAttached(name),
                _ => runtime_error("attach to", &name, error),
            })
        })
        .await
    }

    /// Makes the terminal of a container another size.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::NoTerminal`], [`Error::Process`].
    pub async fn resize(&self, request: Authorized<Resize>) -> Result<(), Error> {
        let (Resize { container: asked, size }, _) = request.into_parts();
        let container = self.container(&asked.id)?;
        container.check_unchanged(&asked)?;
        let running = container.running().ok_or_else(|| Error::NotRunning(container.name()))?;
        resize_terminal(&container, &running, size).await
    }
}

async fn resize_terminal(
    container: &Container,
    running: &Arc<Running>,
    size: TerminalSize,
) -> Result<(), Error> {
    let (running, name) = (running.clone(), container.name());
    brief(move || match terminal::resize(running.init.as_fd(), size.rows, size.columns) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::NoTerminal),
        Err(error) if error.kind() == tare_runtime::ErrorKind::Gone => Err(Error::NotRunning(name)),
        Err(error) => Err(Error::Process {
            what: "resize the terminal of",
            name,
            source: std::io::Error::other(error),
        }),
    })
    .await
}

/// What becomes of a container's standard input.
pub(super) fn stdin_of(request: &Request) -> Stdin {
    match (request.terminal, request.stdin) {
        (Terminal::Yes, _) => Stdin::Terminal,
        (Terminal::No, OpenStdin::Yes) => Stdin::Open,
        (Terminal::No, OpenStdin::No) => Stdin::Null,
    }
}

fn check_input(container: &Container) -> Result<(), Error> {
    match stdin_of(&container.definition().row.request) {
        Stdin::Null => Err(Error::NoInput(container.name())),
        Stdin::Open | Stdin::Terminal => Ok(()),
    }
}
