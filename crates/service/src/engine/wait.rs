//! Waiting for what becomes of a container: by its pidfd, or by a line in a pipe.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use serde_json::{Value, json};

use super::container::Container;
use super::streams::Stream;
use super::view::{self, State};
use super::{Engine, Error, Health};
use crate::authority::Caller;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its first process runs, paused or not.
    Running,
    /// It does not run, and is not about to.
    Stopped,
    /// It is well, as far as its checks can tell.
    Healthy,
    /// It is gone.
    Removed,
}

impl Condition {
    /// The condition of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "running" => Some(Self::Running),
            "stopped" => Some(Self::Stopped),
            "healthy" => Some(Self::Healthy),
            "removed" => Some(Self::Removed),
            _ => None,
        }
    }

    /// Whether it holds of a container that is there.
    fn holds(self, state: State) -> bool {
        match self {
            Self::Running => matches!(state, State::Running | State::Paused | State::Stopping),
            Self::Stopped => matches!(state, State::Configured | State::Exited | State::Broken),
            // What is checked about a container is not its state.
            Self::Healthy | Self::Removed => false,
        }
    }
}

impl Engine {
    /// The pidfd of the first process of a container that runs.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`].
    pub fn open_pidfd(&self, container: &view::Container) -> Result<OwnedFd, Error> {
        let not_running = || Error::NotRunning(container.name.clone());
        let running = self.container(&container.id)?.running().ok_or_else(not_running)?;
        let pidfd = running.init.as_fd().try_clone_to_owned();
        pidfd.map_err(|source| Error::Host { what: "open a pidfd", source })
    }

    /// A stream that has one line when a condition holds, and ends then. It ends without one if the
    /// container is gone before that, or this daemon.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`], [`Error::TooManyStreams`].
    pub fn wait_fd(
        &self,
        container: &view::Container,
        condition: Condition,
        by: &Caller,
    ) -> Result<OwnedFd, Error> {
        let container = self.container(&container.id)?;
        let (reader, stream) = self.streams.open(by)?;
        tokio::spawn(wait(container, condition, stream));
        Ok(reader)
    }
}

async fn wait(container: Arc<Container>, condition: Condition, mut stream: Stream) {
    let held = tokio::select! {
        held = held(&container, condition) => held,
        () = stream.gone() => None,
    };
    if let Some(line) = held {
        // An error means that nobody reads any more.
        let _ = stream.line(&line).await;
    }
}

/// What to say when the condition holds; nothing if it never will.
async fn held(container: &Container, condition: Condition) -> Option<Value> {
    let ends = container.seen.watch_ends();
    let mut news = container.seen.watch();
    let started = news.borrow().started;
    loop {
        let view = news.borrow_and_update().clone();
        // Looked at after the news, which its removal is a part of.
        if container.seen.is_removed() {
            let waits = matches!(condition, Condition::Running | Condition::Healthy);
            return (!waits).then(|| line(&view, "removed"));
        }
        let well = condition == Condition::Healthy && view.health == Health::Healthy;
        if well || condition.holds(view.state) {
            return Some(line(&view, view.state.as_str()));
        }
        // It may have come and gone again between two looks.
        let between = match condition {
            Condition::Stopped if ends.has_changed().unwrap_or(false) => ends.borrow().clone(),
            Condition::Running if view.started != started => Some(view),
            _ => None,
        };
        if let Some(view) = between {
            return Some(line(&view, view.state.as_str()));
        }
        news.changed().await.ok()?;
    }
}

fn line(view: &view::Container, state: &str) -> Value {
    json!({
        "v": 1,
        "Id": view.id.as_str(),
        "State": state,
        "PID": view.process.map_or(0, |process| process.pid),
        "ExitCode": view.exit.map_or(-1, |exit| exit.code),
        "ExitSignal": view.exit.map_or(0, |exit| exit.signal),
        "ExitReason": view.exit.map_or("", |exit| exit.reason.as_str()),
        "FinishedTimestamp": view.finished.unwrap_or_default().0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_one_or_the_other_or_on_the_way() {
        for (state, running, stopped) in [
            (State::Configured, false, true),
            (State::Created, false, false),
            (State::Starting, false, false),
            (State::Running, true, false),
            (State::Paused, true, false),
            (State::Stopping, true, false),
            (State::Exited, false, true),
            (State::Broken, false, true),
            (State::Removing, false, false),
        ] {
            assert_eq!(Condition::Running.holds(state), running, "{state}");
            assert_eq!(Condition::Stopped.holds(state), stopped, "{state}");
            assert!(!Condition::Removed.holds(state), "{state}");
        }
    }

    #[tokio::test]
    async fn what_comes_and_goes_between_two_looks_is_heard() {
        let container = Container::sample("c");
        container.seen.show(|view| view.state = State::Starting);
        let stopped = held(&container, Condition::Stopped);
        let both = async {
            tokio::task::yield_now().await;
            let exit = view::Exit { code: 7, signal: 0, reason: view::ExitReason::Exited };
            let end = crate::engine::object::End { exit, at: crate::engine::clock::Usec(5) };
            container.seen.end(end, |view| (view.state, view.exit) = (State::Exited, Some(exit)));
            container.seen.show(|view| (view.state, view.exit) = (State::Running, None));
        };
        let (stopped, ()) = tokio::join!(stopped, both);
        let stopped = stopped.unwrap();
        assert_eq!((&stopped["State"], &stopped["ExitCode"]), (&"exited".into(), &7.into()));

        let running = held(&container, Condition::Running);
        assert_eq!(running.await.unwrap()["State"], "running");
        container.seen.show(|view| view.state = State::Exited);
        let running = held(&container, Condition::Running);
        let came = async {
            tokio::task::yield_now().await;
            container.seen.show(|view| view.started = Some(crate::engine::clock::Usec(9)));
        };
        let (running, ()) = tokio::join!(running, came);
        assert_eq!(running.unwrap()["State"], "exited");
    }

    #[tokio::test]
    async fn a_removal_is_heard_by_all_who_wait() {
        let container = Container::sample("c");
        let (removed, running) =
            (held(&container, Condition::Removed), held(&container, Condition::Running));
        let remove = async {
            tokio::task::yield_now().await;
            container.remove();
        };
        let (removed, running, ()) = tokio::join!(removed, running, remove);
        assert_eq!(removed.unwrap()["State"], "removed");
        assert_eq!(running, None);
        assert_eq!(held(&container, Condition::Stopped).await.unwrap()["State"], "removed");
    }
}
