//! The root of an image, handed out.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::manage::called;
use super::{Engine, Error};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::blocking::brief;
use crate::engine::view;

/// The root of an image, to be handed out.
#[derive(Debug)]
pub struct OpenImageRoot {
    /// Of which.
    pub image: Arc<view::Image>,
}

impl Ask for OpenImageRoot {
    fn question(&self, _: &Caller) -> Question {
        let name = called(&self.image);
        // The question is put in words that name a container.
        Question::new(Action::TransferFiles)
            .with("container", name.clone())
            .with("image", name)
            .with("verb", "open the files of")
    }
}

impl Engine {
    /// The root of an image in a mount of its own, which is nowhere, read-only, nosuid and nodev. It keeps
    /// nothing: once the image is removed, its files are gone from there, too.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::MountImage`].
    pub async fn open_image_root(
        &self,
        request: Authorized<OpenImageRoot>,
    ) -> Result<OwnedFd, Error> {
        let (OpenImageRoot { image }, _) = request.into_parts();
        let (engine, image) = (self.clone(), self.image(&image.id)?);
        brief(move || {
            let mounted = engine.store.mount_layers_to_hand_out(&image.layers);
            mounted.map_err(|source| Error::MountImage { image: image.id, source })
        })
        .await
    }
}
