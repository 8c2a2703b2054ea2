//! One container: what was asked for, what lives of it, what is seen of it.

mod life;
mod running;

use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, MutexGuard, watch};

use super::Error;
use super::events::{Event, Events};
use super::records::durable::{ContainerRow, LifeRow};
use super::view::{self, State};

pub(super) use life::{Life, Now};
pub(super) use running::Running;

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    /// What was asked for.
    pub(super) row: ContainerRow,
    /// Held by whoever changes it, so that changes of one container come one after the other;
    /// never while another container's is held.
    life: Mutex<Life>,
    /// The same as in `life`, for those who do not wait for the lock.
    running: std::sync::Mutex<Option<Arc<Running>>>,
    view: watch::Sender<Arc<view::Container>>,
    events: Events,
}

impl Container {
    /// A container as it is found in the database, before anything of it is taken over.
    pub(super) fn new(
        row: ContainerRow,
        last: LifeRow,
        mut view: view::Container,
        events: Events,
    ) -> Self {
        let life = Life::new(last);
        life.describe(&mut view);
        let view = watch::Sender::new(Arc::new(view));
        Self { row, life: Mutex::new(life), running: std::sync::Mutex::default(), view, events }
    }

    /// Waits for its lock.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`] if it is gone when its turn comes.
    pub(super) async fn lock(&self) -> Result<MutexGuard<'_, Life>, Error> {
        let life = self.life.lock().await;
        match life.now {
            Now::Removed => Err(Error::NoSuchContainer(self.row.name.to_string())),
            _ => Ok(life),
        }
    }

    /// What lives of it, if it runs; also while somebody else changes it.
    pub(super) fn running(&self) -> Option<Arc<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is seen of it now.
    pub(super) fn view(&self) -> Arc<view::Container> {
        self.view.borrow().clone()
    }

    /// Follows what is seen of it.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<view::Container>> {
        self.view.subscribe()
    }

    /// Where it is in its life.
    pub(super) fn state(&self) -> State {
        self.view.borrow().state
    }

    /// Shows what lives of it; whoever changed that calls it, with the lock still held.
    pub(super) fn show(&self, life: &Life) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = life.running().cloned();
        self.change(|view| life.describe(view));
    }

    /// Changes what is seen of it, and tells.
    pub(super) fn change(&self, change: impl FnOnce(&mut view::Container)) {
        // Told while the value is locked, so that events come in the order of the changes.
        self.view.send_if_modified(|view| {
            let old = view.clone();
            let mut new = view::Container::clone(&old);
            change(&mut new);
            if new == *old {
                return false;
            }
            *view = Arc::new(new);
            self.events.tell(Event::ContainerChanged { old, new: view.clone() });
            true
        });
    }

    /// The error for a container that is not where it must be.
    pub(super) fn wrong_state(&self, needs: &'static str) -> Error {
        Error::InvalidState { name: self.row.name.clone(), state: self.state(), needs }
    }
}
