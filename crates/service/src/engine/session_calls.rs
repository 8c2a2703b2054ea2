//! What is done with an exec session: a signal, another size of its terminal, waiting for its end.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use serde_json::{Value, json};
use tare_runtime::{ContainerId, Signal, signal, terminal};

use super::blocking::brief;
use super::container::ShownSession;
use super::object::Visible;
use super::streams::Stream;
use super::view::{self, ExecSession};
use super::{Engine, Error};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// An exec session, of which somebody wants something.
#[derive(Debug)]
pub struct SessionOf {
    /// The container it runs in.
    pub container: Arc<view::Container>,
    /// Its number there.
    pub number: u32,
    /// Who asked for it.
    pub started_by_uid: u32,
}

/// A signal to be sent to the process of a session.
#[derive(Debug)]
pub struct KillSession {
    /// Which.
    pub session: SessionOf,
    /// Which signal.
    pub signal: Signal,
}

/// A session whose terminal is to be of another size.
#[derive(Debug)]
pub struct ResizeSession {
    /// Which.
    pub session: SessionOf,
    /// How many lines.
    pub rows: u16,
    /// How many characters a line.
    pub columns: u16,
}

impl SessionOf {
    /// Whoever asked for it may; others, if they may execute something in the container.
    fn question(&self, by: &Caller, verb: &str) -> Question {
        let question = if self.started_by_uid == by.uid {
            Question::free().with("container", self.container.name.as_str())
        } else if self.container.privileged {
            Question::about(Action::ExecPrivilegedContainer, &self.container, by)
        } else {
            Question::about(Action::ExecContainer, &self.container, by)
        };
        question.with("verb", verb)
    }
}

impl Ask for KillSession {
    fn question(&self, by: &Caller) -> Question {
        self.session.question(by, "kill")
    }
}

impl Ask for ResizeSession {
    fn question(&self, by: &Caller) -> Question {
        self.session.question(by, "resize")
    }
}

impl Engine {
    /// The session of that number of a container, for somebody who wants something of it.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`], [`Error::SessionEnded`] if it is not seen any more.
    pub fn session_of(&self, id: &ContainerId, number: u32) -> Result<SessionOf, Error> {
        let container = self.container(id)?;
        let session = container.session(number).ok_or(Error::SessionEnded)?;
        let started_by_uid = session.shown.get().started_by_uid;
        Ok(SessionOf { container: container.view(), number, started_by_uid })
    }

    /// Sends a signal to the process of a session; does not wait for what comes of it.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Process`].
    pub async fn kill_session(&self, request: Authorized<KillSession>) -> Result<(), Error> {
        let ((KillSession { session, signal }, _), engine) = (request.into_parts(), self.clone());
        brief(move || {
            let process = engine.process_of(&session)?;
            signal::send(process.as_fd(), signal)
                .map_err(|error| failed("send a signal to a process in", &session, error))
        })
        .await
    }

    /// Makes the terminal of a session another size.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::NoTerminal`], [`Error::Process`].
    pub async fn resize_session(&self, request: Authorized<ResizeSession>) -> Result<(), Error> {
        let (ResizeSession { session, rows, columns }, _) = request.into_parts();
        let engine = self.clone();
        brief(move || {
            let process = engine.process_of(&session)?;
            match terminal::resize(process.as_fd(), rows, columns) {
                Ok(true) => Ok(()),
                Ok(false) => Err(Error::NoTerminal),
                Err(error) => Err(failed("resize the terminal of a process in", &session, error)),
            }
        })
        .await
    }

    /// The pidfd of the process of a session.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`].
    pub fn open_session_pidfd(&self, session: &SessionOf) -> Result<OwnedFd, Error> {
        let pidfd = self.process_of(session)?.try_clone();
        pidfd.map_err(|source| Error::Host { what: "open a pidfd", source })
    }

    /// A stream that has one line when a session has ended, and ends then.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`] if it is not seen any more, [`Error::TooManyStreams`].
    pub fn wait_for_session(&self, session: &SessionOf, by: &Caller) -> Result<OwnedFd, Error> {
        let shown = self.shown_session(session)?.shown;
        let (reader, stream) = self.streams.open(by)?;
        tokio::spawn(wait(shown, stream));
        Ok(reader)
    }

    fn shown_session(&self, session: &SessionOf) -> Result<ShownSession, Error> {
        let container = self.container(&session.container.id)?;
        container.session(session.number).ok_or(Error::SessionEnded)
    }

    fn process_of(&self, session: &SessionOf) -> Result<Arc<OwnedFd>, Error> {
        let ShownSession { shown, process } = self.shown_session(session)?;
        process.filter(|_| shown.get().exit.is_none()).ok_or(Error::SessionEnded)
    }
}

fn failed(what: &'static str, session: &SessionOf, error: tare_runtime::Error) -> Error {
    if error.kind() == tare_runtime::ErrorKind::Gone {
        return Error::SessionEnded;
    }
    let source = std::io::Error::other(error);
    Error::Process { what, name: session.container.name.clone(), source }
}

async fn wait(shown: Arc<Visible<ExecSession>>, mut stream: Stream) {
    let ended = tokio::select! {
        ended = ended(&shown) => ended,
        () = stream.gone() => None,
    };
    if let Some(line) = ended {
        // An error means that nobody reads any more.
        let _ = stream.line(&line).await;
    }
}

async fn ended(shown: &Visible<ExecSession>) -> Option<Value> {
    let mut news = shown.watch();
    loop {
        let exit = news.borrow_and_update().exit;
        if let Some(exit) = exit {
            return Some(json!({
                "v": 1, "State": "exited", "ExitCode": exit.code, "ExitSignal": exit.signal,
            }));
        }
        if shown.is_removed() {
            return None;
        }
        news.changed().await.ok()?;
    }
}
