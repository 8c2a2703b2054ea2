//! One container: what was asked for, what lives of it, what is seen of it.

use std::sync::{Arc, PoisonError};

use tare_runtime::ContainerName;
use tokio::sync::{Mutex, MutexGuard, RwLock, watch};

use super::Error;
use super::events::{Event, Events};
use super::records::durable::{ContainerRow, LifeRow};
use super::records::volatile::Incarnation;
use super::view::{self, State};
use super::watched::Watched;

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    /// What was asked for.
    pub(super) row: ContainerRow,
    /// Held by whoever changes it, so that changes of one container come one after the other;
    /// never while another container's is held.
    pub(super) life: Mutex<Life>,
    /// The same as in `life`, for those who do not wait for the lock.
    running: std::sync::Mutex<Option<Running>>,
    view: watch::Sender<Arc<view::Container>>,
    events: Events,
}

/// What lives of a container.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// While it runs.
    pub(super) running: Option<Running>,
    /// What is left of the last incarnation because it could not be taken down.
    pub(super) broken: Option<Incarnation>,
    /// How the last life began and ended.
    pub(super) last: LifeRow,
    /// Number of the last incarnation.
    pub(super) incarnation: u32,
    /// Number of the last exec session.
    pub(super) session: u32,
    /// Its row is gone; what is left of it on the disk has to follow.
    pub(super) unlisted: bool,
    /// It is gone; whoever waited for the lock comes too late.
    pub(super) removed: bool,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    /// What it is made of.
    pub(super) record: Incarnation,
    /// Its first process.
    pub(super) init: Arc<Watched>,
    /// Its conmon; without one there will be no exit file, and nothing can be executed in it.
    pub(super) supervisor: Option<Arc<Watched>>,
    /// Shared by those who execute something in it, taken alone by its end.
    pub(super) in_use: Arc<RwLock<()>>,
}

impl Running {
    /// Its conmon.
    ///
    /// # Errors
    ///
    /// [`Error::NoSupervisor`] if that was killed.
    pub(super) fn supervisor(&self, name: &ContainerName) -> Result<&Arc<Watched>, Error> {
        let alive = self.supervisor.as_ref().filter(|supervisor| !supervisor.has_ended());
        alive.ok_or_else(|| Error::NoSupervisor(name.clone()))
    }
}

impl Container {
    /// A container as it is found in the database, before anything of it is taken over.
    pub(super) fn new(
        row: ContainerRow,
        last: LifeRow,
        view: view::Container,
        events: Events,
    ) -> Self {
        let life = Life { last, ..Life::default() };
        let view = watch::Sender::new(Arc::new(view));
        Self { row, life: Mutex::new(life), running: std::sync::Mutex::default(), view, events }
    }

    /// What lives of it, if it runs; also while somebody else changes it.
    pub(super) fn running(&self) -> Option<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It runs now, or does no longer.
    pub(super) fn set_running(&self, life: &mut Life, running: Option<Running>) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&running);
        life.running = running;
    }

    /// Shows a state, unless that incarnation has ended meanwhile.
    pub(super) fn show_while(&self, running: &Running, state: State) {
        let pid = running.record.init.map(|init| init.pid);
        self.show(|view| {
            if view.process.map(|process| process.pid) == pid {
                view.state = state;
            }
        });
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

    /// Changes what is seen of it, and tells.
    pub(super) fn show(&self, change: impl FnOnce(&mut view::Container)) {
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
}

impl Container {
    /// Waits for its lock.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`] if it is gone when its turn comes.
    pub(super) async fn lock(&self) -> Result<MutexGuard<'_, Life>, Error> {
        let life = self.life.lock().await;
        if life.removed {
            return Err(Error::NoSuchContainer(self.row.name.to_string()));
        }
        Ok(life)
    }

    /// The error for a container that is not where it must be.
    pub(super) fn wrong_state(&self, needs: &'static str) -> Error {
        Error::InvalidState { name: self.row.name.clone(), state: self.state(), needs }
    }
}
