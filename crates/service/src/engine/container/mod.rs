//! One container: what was asked for, what lives of it, what is seen of it.

mod definition;
mod held_root;
mod life;
mod running;

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tare_runtime::{ContainerId, ContainerName};
use tare_specgen::Categories;

use tokio::sync::{Mutex, MutexGuard};

use super::Error;
use super::events::Events;
use super::names::Names;
use super::object::{End, Visible};
use super::records::durable::{ContainerRow, LifeRow, Root, UserRange};
use super::records::volatile::Incarnation;
use super::view::{self, State};

pub(super) use definition::Definition;
pub(super) use held_root::HeldRoot;
pub(super) use life::{Life, Now, Pace};
pub(super) use running::Running;

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) root: Root,
    /// The subordinate ids it was given, if it has a user namespace of its own.
    pub(super) users: Option<UserRange>,
    /// What keeps it apart from others on a host with `SELinux`, once it was given that.
    pub(super) categories: OnceLock<Categories>,
    /// What it is to be. Changed under the lock alone.
    definition: RwLock<Arc<Definition>>,
    /// Held by whoever changes it, so that changes of one container come one after the other;
    /// never while another container's is held.
    life: Mutex<Life>,
    /// The same as in `life`, for those who do not wait for the lock.
    running: RwLock<Option<Arc<Running>>>,
    /// Likewise, what it is made of.
    record: RwLock<Option<Arc<Incarnation>>>,
    /// Its exec sessions that are seen: those at work, and those that ended a while ago.
    sessions: std::sync::Mutex<Vec<ShownSession>>,
    /// Addresses it has with another container, whose network it shares.
    borrowed: RwLock<Vec<view::Address>>,
    /// Who is called what, for those who ask on its networks.
    names: Arc<Names>,
    /// What is seen of it. All but the lists of what is at work in it follows from the above.
    pub(super) seen: Visible<view::Container>,
}

/// An exec session that is seen.
#[derive(Clone, Debug)]
pub(super) struct ShownSession {
    pub(super) shown: Arc<Visible<view::ExecSession>>,
    /// Its process, if that was seen to live.
    pub(super) process: Option<Arc<OwnedFd>>,
}

impl Container {
    /// A container as it is written down, before anything of it is taken over; it is seen from now
    /// on.
    pub(super) fn new(
        row: &ContainerRow,
        definition: Definition,
        last: LifeRow,
        events: Events,
        names: Arc<Names>,
    ) -> Self {
        let life = Life::new(last);
        Self {
            id: row.id.clone(),
            root: row.root.clone(),
            users: row.users,
            categories: row.categories.map(OnceLock::from).unwrap_or_default(),
            seen: Visible::new(first_view(row, &definition, &life), events),
            definition: RwLock::new(Arc::new(definition)),
            life: Mutex::new(life),
            running: RwLock::default(),
            record: RwLock::default(),
            sessions: std::sync::Mutex::default(),
            borrowed: RwLock::default(),
            names,
        }
    }

    /// What it is to be.
    pub(super) fn definition(&self) -> Arc<Definition> {
        self.definition.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its name.
    pub(super) fn name(&self) -> ContainerName {
        self.definition().row.name.clone()
    }

    /// From now on it is to be this; with the lock held.
    pub(super) fn define(&self, definition: Definition, life: &Life) {
        *self.definition.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(definition);
        self.show(life);
    }

    /// Waits for its lock.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`] if it is gone when its turn comes.
    pub(super) async fn lock(&self) -> Result<MutexGuard<'_, Life>, Error> {
        let life = self.life.lock().await;
        match life.now {
            Now::Removed => Err(Error::NoSuchContainer(self.name().to_string())),
            _ => Ok(life),
        }
    }

    /// Waits for its lock, for what was asked about `asked`: it must still be that.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`] and [`Error::Changed`], if it is not when its turn comes.
    pub(super) async fn lock_unchanged(
        &self,
        asked: &view::Container,
    ) -> Result<MutexGuard<'_, Life>, Error> {
        let life = self.lock().await?;
        self.check_unchanged(asked)?;
        Ok(life)
    }

    /// An error if it is not what was asked about any more.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`].
    pub(super) fn check_unchanged(&self, asked: &view::Container) -> Result<(), Error> {
        if self.definition().row.revision == asked.revision {
            Ok(())
        } else {
            Err(Error::Changed(asked.name.clone()))
        }
    }

    /// What lives of it, if it runs; also while somebody else changes it.
    pub(super) fn running(&self) -> Option<Arc<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it is made of, if it runs; also while somebody else changes it.
    pub(super) fn record(&self) -> Option<Arc<Incarnation>> {
        self.record.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this session is seen.
    pub(super) fn add_session(
        &self,
        shown: Arc<Visible<view::ExecSession>>,
        process: Option<Arc<OwnedFd>>,
    ) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push(ShownSession { shown, process });
    }

    /// The session of that number, if it is seen.
    pub(super) fn session(&self, number: u32) -> Option<ShownSession> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().find(|session| session.shown.get().number == number).cloned()
    }

    /// The process of a session has ended: nobody can do anything to it any more.
    pub(super) fn let_go_of_session(&self, number: u32) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = sessions.iter_mut().find(|session| session.shown.get().number == number);
        if let Some(session) = ended {
            session.process = None;
        }
    }

    /// Takes the session of that number away, if it is seen.
    pub(super) fn take_session(&self, number: u32) -> Option<Arc<Visible<view::ExecSession>>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sessions.iter().position(|session| session.shown.get().number == number)?;
        Some(sessions.swap_remove(at).shown)
    }

    /// It is gone, and its sessions go before it.
    pub(super) fn remove(&self) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.drain(..).for_each(|session| session.shown.remove());
        self.seen.remove();
    }

    /// What is seen of it now.
    pub(super) fn view(&self) -> Arc<view::Container> {
        self.seen.get()
    }

    /// Where it is in its life.
    pub(super) fn state(&self) -> State {
        self.seen.get().state
    }

    /// Shows what it is to be and what lives of it; whoever changed that calls it, with the lock still held.
    pub(super) fn show(&self, life: &Life) {
        let definition = self.follow(life);
        self.seen.show(|view| {
            definition.describe(view);
            life.describe(view);
            if view.process.is_some() && view.addresses.is_empty() {
                view.addresses
                    .clone_from(&self.borrowed.read().unwrap_or_else(PoisonError::into_inner));
            }
        });
    }

    /// These are the addresses it has with the one whose network it shares.
    pub(super) fn borrow(&self, addresses: Vec<view::Address>) {
        *self.borrowed.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// The same of one that has just ended.
    pub(super) fn show_end(&self, life: &Life, end: End) {
        let definition = self.follow(life);
        self.seen.end(end, |view| {
            definition.describe(view);
            life.describe(view);
        });
    }

    /// All that is found out about it follows its life.
    fn follow(&self, life: &Life) -> Arc<Definition> {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = life.running().cloned();
        *self.record.write().unwrap_or_else(PoisonError::into_inner) = life.record();
        let definition = self.definition();
        match life.network() {
            Some(network) => self.names.show(&self.id, &definition.row, network),
            None => self.names.hide(&self.id),
        }
        definition
    }

    /// An error if nothing can be done with it but to remove it.
    pub(super) fn check_listed(&self, life: &Life) -> Result<(), Error> {
        match life.now {
            Now::Unlisted => Err(self.wrong_state("to be removed")),
            _ => Ok(()),
        }
    }

    /// An error if it is being removed, or is gone, and with it files of its root. Needs no lock.
    pub(super) fn check_kept(&self) -> Result<(), Error> {
        match self.state() {
            State::Removing => Err(self.wrong_state("to be kept")),
            _ => Ok(()),
        }
    }

    /// An error if somebody writes to its root.
    pub(super) fn check_unwritten(&self, life: &Life) -> Result<(), Error> {
        match life.writers {
            0 => Ok(()),
            _ => Err(self.wrong_state("that nothing is copied into it")),
        }
    }

    /// Whoever asks for it finds it from now on, with what it is made of.
    pub(super) fn show_names(&self, record: &Incarnation) {
        if let Some(network) = &record.network {
            self.names.show(&self.id, &self.definition().row, network);
        }
    }

    /// Nobody finds it any more: its first process is gone.
    pub(super) fn hide_names(&self) {
        self.names.hide(&self.id);
    }

    /// The error for a container that is not where it must be.
    pub(super) fn wrong_state(&self, needs: &'static str) -> Error {
        Error::InvalidState { name: self.name(), state: self.state(), needs }
    }
}

/// What is seen of a container before anything of it is taken over.
fn first_view(row: &ContainerRow, definition: &Definition, life: &Life) -> view::Container {
    let Root::Image { id: image_id, reference: image_reference } = row.root.clone();
    let mut view = view::Container {
        id: row.id.clone(),
        revision: 0,
        name: row.definition.name.clone(),
        image_id,
        image_reference,
        owner_uid: row.owner_uid,
        privileged: false,
        state: State::Configured,
        process: None,
        exit: None,
        created: row.created,
        started: None,
        started_monotonic: None,
        finished: None,
        terminal: row.definition.request.terminal.into(),
        lifecycle: row.definition.lifecycle.clone(),
        limits: tare_specgen::Resources::default(),
        stop_timeout_usec: None,
        health: super::Health::None,
        restarts: 0,
        cgroup: String::new(),
        networks: Vec::new(),
        addresses: Vec::new(),
        ports: Vec::new(),
        public_labels: std::collections::BTreeMap::new(),
        jobs: Vec::new(),
        processes: Vec::new(),
    };
    definition.describe(&mut view);
    life.describe(&mut view);
    view
}

#[cfg(test)]
impl Container {
    pub(super) fn sample(name: &str) -> Self {
        let row = ContainerRow::sample(name);
        let definition = Definition {
            row: row.definition.clone(),
            privileged: false,
            public_labels: std::collections::BTreeMap::new(),
        };
        let names = Arc::new(Names::new(Arc::new(crate::names::local())));
        Self::new(&row, definition, LifeRow::default(), Events::channel().0, names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_asked_about_one_definition_is_not_done_to_the_next() {
        let container = Container::sample("web");
        let asked = container.view();
        drop(container.lock_unchanged(&asked).await.unwrap());
        let mut definition = Definition::clone(&container.definition());
        definition.row.revision += 1;
        definition.privileged = true;
        container.define(definition, &container.lock().await.unwrap());
        let refused = container.lock_unchanged(&asked).await.map(drop);
        assert!(matches!(refused, Err(Error::Changed(_))), "{refused:?}");
        let now = container.view();
        assert!(now.privileged, "it is seen at once");
        drop(container.lock_unchanged(&now).await.unwrap());
    }
}
