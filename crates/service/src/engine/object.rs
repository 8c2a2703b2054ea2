//! The things there are: what tells each from all others, and how what is seen of it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tare_netns::NetworkName;
use tare_runtime::ContainerId;
use tare_specgen::SecretName;
use tare_storage::{Digest, VolumeName};
use tokio::sync::watch;

use super::checkpoint::CheckpointId;
use super::clock::Usec;
use super::events::{Event, Events};
use super::view::Exit;

/// What tells one thing from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ObjectId {
    /// A container.
    Container(ContainerId),
    /// An exec session of a container, by its number in it.
    Process(ContainerId, u32),
    /// An image.
    Image(Digest),
    /// A network.
    Network(NetworkName),
    /// A volume.
    Volume(VolumeName),
    /// A secret.
    Secret(SecretName),
    /// A checkpoint.
    Checkpoint(CheckpointId),
    /// A job.
    Job(u32),
}

/// What others may see of a thing, as an immutable snapshot. Nothing in it is secret.
pub trait Seen: Clone + PartialEq + Send + Sync + 'static {
    /// Of which thing.
    fn id(&self) -> ObjectId;

    /// A change of it, among all that is told.
    fn event(change: Change<Self>) -> Event;
}

/// What became of a thing.
#[derive(Debug)]
pub enum Change<V> {
    /// It is there.
    Added(Arc<V>),
    /// It is seen differently.
    Changed {
        /// Before.
        old: Arc<V>,
        /// Now.
        new: Arc<V>,
    },
    /// It is seen differently, because it has ended: a container, or an exec session.
    Ended {
        /// Before.
        old: Arc<V>,
        /// Now.
        new: Arc<V>,
        /// How it ended.
        end: End,
    },
    /// It is gone.
    Removed(ObjectId),
}

/// The end of something that ran.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// How.
    pub exit: Exit,
    /// When that was seen.
    pub at: Usec,
}

/// A thing that is seen: whatever changes about that is told, once and in order.
#[derive(Debug)]
pub(super) struct Visible<V> {
    view: watch::Sender<Arc<V>>,
    /// What was seen of it when it last ended.
    ended: watch::Sender<Option<Arc<V>>>,
    removed: AtomicBool,
    events: Events,
}

impl<V: Seen> Visible<V> {
    /// From now on it is seen.
    pub(super) fn new(view: V, events: Events) -> Self {
        let view = Arc::new(view);
        events.tell(V::event(Change::Added(view.clone())));
        let ended = watch::Sender::new(None);
        Self { view: watch::Sender::new(view), ended, removed: false.into(), events }
    }

    /// What is seen of it now.
    pub(super) fn get(&self) -> Arc<V> {
        self.view.borrow().clone()
    }

    /// Follows what is seen of it.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<V>> {
        self.view.subscribe()
    }

    /// Follows its ends: each of them is known there before what is seen of it changes.
    pub(super) fn watch_ends(&self) -> watch::Receiver<Option<Arc<V>>> {
        self.ended.subscribe()
    }

    /// Changes what is seen of it, and tells; what is seen then.
    pub(super) fn show(&self, change: impl FnOnce(&mut V)) -> Arc<V> {
        // Told while the value is locked, so that events come in the order of the changes.
        self.view.send_if_modified(|view| {
            let old = view.clone();
            let mut new = V::clone(&old);
            change(&mut new);
            if new == *old {
                return false;
            }
            *view = Arc::new(new);
            self.events.tell(V::event(Change::Changed { old, new: view.clone() }));
            true
        });
        self.get()
    }

    /// The same because it has ended, which is told even if nothing is seen of it.
    pub(super) fn end(&self, end: End, change: impl FnOnce(&mut V)) {
        self.view.send_modify(|view| {
            let old = view.clone();
            change(Arc::make_mut(view));
            self.ended.send_replace(Some(view.clone()));
            self.events.tell(V::event(Change::Ended { old, new: view.clone(), end }));
        });
    }

    /// Whether it is gone; whoever follows what is seen of it gets news of that too.
    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// It is gone.
    pub(super) fn remove(&self) {
        self.removed.store(true, Ordering::Release);
        self.view.send_modify(|_| ());
        self.events.tell(V::event(Change::Removed(self.view.borrow().id())));
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::ExitReason;
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Number(u32);

    impl Seen for Number {
        fn id(&self) -> ObjectId {
            ObjectId::Job(self.0)
        }

        fn event(change: Change<Self>) -> Event {
            let told = match change {
                Change::Added(new) => format!("+{}", new.0),
                Change::Changed { old, new } => format!("{}>{}", old.0, new.0),
                Change::Ended { old, new, end } => format!("{}>{}:{}", old.0, new.0, end.exit.code),
                Change::Removed(id) => format!("-{id:?}"),
            };
            Event::JobLogged { id: 0, to: told, line: crate::engine::jobs::LogLine::default() }
        }
    }

    #[test]
    fn each_change_is_told_once_and_nothing_else() {
        let (events, mut told) = Events::channel();
        let number = Visible::new(Number(1), events);
        assert_eq!(*number.show(|it| it.0 = 2), Number(2));
        number.show(|it| it.0 = 2);
        let exit = Exit { code: 7, signal: 0, reason: ExitReason::Exited };
        number.end(End { exit, at: Usec(1) }, |it| it.0 = 3);
        number.end(End { exit, at: Usec(2) }, |it| it.0 = 3);
        number.remove();
        let mut heard = Vec::new();
        while let Ok(Event::JobLogged { to, .. }) = told.try_recv() {
            heard.push(to);
        }
        assert_eq!(heard, ["+1", "1>2", "2>3:7", "3>3:7", "-Job(3)"]);
    }
}
