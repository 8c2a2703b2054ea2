//! The root of a container, handed out.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::transfer;
use crate::authority::{Ask, Authorized, Caller, Question};
use crate::engine::blocking::brief;
use crate::engine::{Engine, Error, view};

/// The root of a container, to be handed out.
#[derive(Debug)]
pub struct OpenRoot {
    /// Of which.
    pub container: Arc<view::Container>,
}

impl Ask for OpenRoot {
    fn question(&self, _: &Caller) -> Question {
        transfer(&self.container, "open the files of")
    }
}

impl Engine {
    /// The root of a container in a mount of its own, which is nowhere, read-only, nosuid and nodev, and
    /// has nothing of what is mounted on it.
    ///
    /// # Errors
    ///
    /// [`Error::Mount`].
    pub async fn open_root(&self, request: Authorized<OpenRoot>) -> Result<OwnedFd, Error> {
        let (OpenRoot { container }, _) = request.into_parts();
        let (engine, container) = (self.clone(), self.container(&container.id)?);
        brief(move || Ok(engine.root_to_read(&container)?.into())).await
    }
}
