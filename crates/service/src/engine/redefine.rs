//! Changing what a container is to be.
//!
//! The one way to do it: state.db first, with what the container then needs, in one transaction;
//! then what is known; then what is seen. Each change has a number, and what was asked about one
//! is not done to the next (`Container::lock_unchanged`).

use std::sync::Arc;

use tare_runtime::ContainerName;
use tare_specgen::reasons;

use super::container::{Container, Definition, Life};
use super::records::durable::{self, DefinitionRow, Root};
use super::view;
use super::{Engine, Error, Inner};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container that is to have another name.
#[derive(Debug)]
pub struct Rename {
    /// Which.
    pub container: Arc<view::Container>,
    /// Its new name.
    pub name: ContainerName,
}

impl Ask for Rename {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "rename")
    }
}

impl Engine {
    /// Gives a container another name. What runs in it keeps the one it was started with.
    ///
    /// # Errors
    ///
    /// [`Error::NameInUse`], [`Error::NameLikeAnId`], [`Error::Changed`].
    pub async fn rename(&self, request: Authorized<Rename>) -> Result<(), Error> {
        let (Rename { container, name }, _) = request.into_parts();
        if container.name == name {
            return Ok(());
        }
        let known = self.container(&container.id)?;
        let life = known.lock_unchanged(&container).await?;
        let reservation = self.containers.reserve(name.clone())?;
        self.redefine(&known, &life, |row| row.name = name).await?;
        reservation.give_to(&known, &container.name);
        Ok(())
    }
}

impl Inner {
    /// Changes what a container is to be; only with its lock held, as `life` shows.
    pub(super) async fn redefine(
        &self,
        container: &Container,
        life: &Life,
        change: impl FnOnce(&mut DefinitionRow),
    ) -> Result<(), Error> {
        container.check_listed(life)?;
        let mut row = container.definition().row.clone();
        change(&mut row);
        row.revision += 1;
        let definition = self.define(&container.root, container.view().owner_uid, row.clone())?;
        let id = container.id.clone();
        self.state.run(move |c| durable::update_definition(c, &id, &row)).await?;
        container.define(definition, life);
        Ok(())
    }

    /// What follows from what was asked for, by the image and the rules of today.
    pub(super) fn define(
        &self,
        root: &Root,
        owner_uid: u32,
        row: DefinitionRow,
    ) -> Result<Definition, Error> {
        let effective = self.effective_of(root, owner_uid, &row.request)?;
        let labels = effective.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let public_labels = self.public_labels(labels);
        Ok(Definition { privileged: !reasons(&effective).is_empty(), public_labels, row })
    }
}
