//! Secrets: what containers may know, and nobody is told again.
//!
//! Their values are in the database and in the files and configurations of containers that have them;
//! here is only what everybody may see of them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tare_runtime::ContainerId;
use tare_specgen::{Placement, Request, SecretName, SecretValue};

use super::clock::Usec;
use super::events::Events;
use super::object::Visible;
use super::records::durable::{self, SecretRow};
use super::{Engine, Error, Inner, given, host, view};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::db::Db;

/// A secret to be made.
#[derive(Debug)]
pub struct CreateSecret {
    /// Its name.
    pub name: SecretName,
    /// What it says, to be read to its end.
    pub value: OwnedFd,
}

/// A secret that is to say something else.
#[derive(Debug)]
pub struct ReplaceSecret {
    /// Which.
    pub secret: Arc<view::Secret>,
    /// What it says from now on.
    pub value: OwnedFd,
}

/// A secret to be removed.
#[derive(Debug)]
pub struct RemoveSecret {
    /// Which.
    pub secret: Arc<view::Secret>,
}

fn question(name: &SecretName, verb: &str) -> Question {
    Question::new(Action::ManageSecrets).with("secret", name.as_str()).with("verb", verb)
}

impl Ask for CreateSecret {
    fn question(&self, _: &Caller) -> Question {
        question(&self.name, "create")
    }
}

impl Ask for ReplaceSecret {
    fn question(&self, _: &Caller) -> Question {
        question(&self.secret.name, "replace")
    }
}

impl Ask for RemoveSecret {
    fn question(&self, _: &Caller) -> Question {
        question(&self.secret.name, "remove")
    }
}

/// All secrets.
#[derive(Debug)]
pub(super) struct Secrets {
    all: RwLock<BTreeMap<SecretName, Arc<Secret>>>,
    /// Held by whoever makes, changes or removes one.
    changing: tokio::sync::Mutex<()>,
    events: Events,
}

#[derive(Debug)]
struct Secret {
    owner_uid: u32,
    users: Mutex<BTreeSet<ContainerId>>,
    seen: Visible<view::Secret>,
}

impl Secret {
    fn users(&self) -> MutexGuard<'_, BTreeSet<ContainerId>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secrets {
    /// All secrets as they are in the database.
    pub(super) async fn open(state: &Db, events: Events, host: &host::Host) -> Result<Self, Error> {
        let secrets =
            Self { all: RwLock::default(), changing: tokio::sync::Mutex::default(), events };
        for found in state.run(durable::secrets).await? {
            match found {
                Ok(row) => secrets.insert(row),
                Err(error) => host.taint_unreadable("a secret", &error.into()),
            }
        }
        Ok(secrets)
    }

    fn insert(&self, row: SecretRow) {
        let SecretRow { name, owner_uid, created, modified } = row;
        let view = view::Secret {
            name: name.clone(),
            owner_uid,
            created,
            modified,
            containers: Vec::new(),
        };
        let seen = Visible::new(view, self.events.clone());
        let secret = Secret { owner_uid, users: Mutex::default(), seen };
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, Arc::new(secret));
    }

    fn get(&self, name: &SecretName) -> Option<Arc<Secret>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Why the service is degraded, if there are any: their values are not encrypted.
    pub(super) fn taint(&self) -> Option<&'static str> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        (!all.is_empty()).then_some("secrets-plain")
    }

    /// Whose the secret of that name is.
    pub(super) fn owner_of(&self, name: &SecretName) -> Option<u32> {
        self.get(name).map(|secret| secret.owner_uid)
    }

    fn find(&self, name: &SecretName) -> Result<Arc<Secret>, Error> {
        self.get(name).ok_or_else(|| Error::NoSuchSecret(name.clone()))
    }

    /// The one that was seen: another of its name is none.
    fn the(&self, asked: &view::Secret) -> Result<Arc<Secret>, Error> {
        let found = self.find(&asked.name)?;
        let is_the_same = found.seen.get().created == asked.created;
        if is_the_same { Ok(found) } else { Err(Error::NoSuchSecret(asked.name.clone())) }
    }

    /// Nobody makes or removes one while this is held. They are those whose use was asked about.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSecret`] if one is another's by now.
    pub(super) async fn hold(
        &self,
        asked: &[(SecretName, u32)],
    ) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, Error> {
        if asked.is_empty() {
            return Ok(None);
        }
        let held = self.changing.lock().await;
        match asked.iter().find(|(name, owner)| self.owner_of(name) != Some(*owner)) {
            Some((name, _)) => Err(Error::NoSuchSecret(name.clone())),
            None => Ok(Some(held)),
        }
    }

    /// A container may know its secrets from now on.
    pub(super) fn join(&self, id: &ContainerId, request: &Request) {
        self.each_of(request, |users| users.insert(id.clone()));
    }

    /// A container is gone.
    pub(super) fn leave(&self, id: &ContainerId, request: &Request) {
        self.each_of(request, |users| users.remove(id));
    }

    fn each_of(&self, request: &Request, change: impl Fn(&mut BTreeSet<ContainerId>) -> bool) {
        for secret in used(request).iter().filter_map(|name| self.get(name)) {
            let mut users = secret.users();
            change(&mut users);
            secret.seen.show(|view| view.containers = users.iter().cloned().collect());
        }
    }
}

/// The secrets that a request names.
pub(super) fn used(request: &Request) -> BTreeSet<SecretName> {
    request.secrets.iter().map(|secret| secret.name.clone()).collect()
}

impl Inner {
    /// What is seen of all secrets.
    pub fn secrets(&self) -> Vec<Arc<view::Secret>> {
        let all = self.secrets.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().map(|secret| secret.seen.get()).collect()
    }

    /// What is seen of the secret of that name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSecret`].
    pub fn find_secret(&self, name: &SecretName) -> Result<Arc<view::Secret>, Error> {
        Ok(self.secrets.find(name)?.seen.get())
    }

    /// An error if one of the secrets of a request is not there.
    pub(super) fn check_secrets(&self, request: &Request) -> Result<(), Error> {
        used(request).iter().try_for_each(|name| self.secrets.find(name).map(drop))
    }

    /// What the secrets of a container say now.
    pub(super) async fn place_secrets(
        &self,
        request: &Request,
        placement: &mut Placement,
    ) -> Result<(), Error> {
        for name in used(request) {
            let wanted = name.clone();
            let value = self.state.run(move |c| durable::secret_value(c, &wanted)).await?;
            let value = value.ok_or_else(|| Error::NoSuchSecret(name.clone()))?;
            placement.secrets.insert(name, SecretValue::new(value.0));
        }
        Ok(())
    }
}

impl Engine {
    /// Makes a secret.
    ///
    /// # Errors
    ///
    /// [`Error::SecretExists`], [`Error::GivenValue`].
    pub async fn create_secret(
        &self,
        request: Authorized<CreateSecret>,
    ) -> Result<SecretName, Error> {
        let (CreateSecret { name, value }, by) = request.into_parts();
        let value = given::value(value).await?;
        let _alone = self.secrets.changing.lock().await;
        if self.secrets.get(&name).is_some() {
            return Err(Error::SecretExists(name));
        }
        let now = Usec::now();
        let row = SecretRow { name: name.clone(), owner_uid: by.uid, created: now, modified: now };
        let written = row.clone();
        self.state.run(move |c| durable::insert_secret(c, &written, &value)).await?;
        self.secrets.insert(row);
        Ok(name)
    }

    /// Has a secret say something else; containers that run keep what they know.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSecret`], [`Error::GivenValue`].
    pub async fn replace_secret(&self, request: Authorized<ReplaceSecret>) -> Result<(), Error> {
        let (ReplaceSecret { secret, value }, _) = request.into_parts();
        let value = given::value(value).await?;
        let _alone = self.secrets.changing.lock().await;
        let known = self.secrets.the(&secret)?;
        let (name, now) = (secret.name.clone(), Usec::now());
        self.state.run(move |c| durable::replace_secret(c, &name, now, &value)).await?;
        known.seen.show(|view| view.modified = now);
        Ok(())
    }

    /// Removes a secret.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchSecret`], [`Error::SecretInUse`].
    pub async fn remove_secret(&self, request: Authorized<RemoveSecret>) -> Result<(), Error> {
        let (RemoveSecret { secret }, _) = request.into_parts();
        let _alone = self.secrets.changing.lock().await;
        let known = self.secrets.the(&secret)?;
        let name = secret.name.clone();
        let deleted = self.state.run(move |c| durable::delete_secret(c, &name)).await;
        match deleted {
            Err(error) if error.is_in_use() => return Err(self.secret_in_use(&secret, &known)),
            deleted => deleted?,
        }
        let mut all = self.secrets.all.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(&secret.name);
        known.seen.remove();
        Ok(())
    }

    fn secret_in_use(&self, asked: &view::Secret, known: &Secret) -> Error {
        let users = known.users().clone();
        let named = |id| self.containers.get(&id).map(|container| container.name().to_string());
        let by: Vec<String> = users.into_iter().filter_map(named).collect();
        Error::SecretInUse { secret: asked.name.clone(), by: by.join(", ") }
    }
}
