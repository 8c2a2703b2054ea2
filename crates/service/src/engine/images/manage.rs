//! Naming images, and removing them.

use std::sync::Arc;

use tare_storage::Digest;

use super::{Engine, Error, Image};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::jobs::{Job, JobKind, Origin, Output};
use crate::engine::object::ObjectId;
use crate::engine::records::durable;
use crate::engine::reference::Reference;
use crate::engine::remove::{IfRunning, OwnVolumes, Remove};
use crate::engine::{Pending, view};

/// A name to be given to an image.
#[derive(Debug)]
pub struct TagImage {
    /// Which.
    pub image: Arc<view::Image>,
    /// The name; another image that has it loses it.
    pub reference: Reference,
}

/// A name to be taken from an image.
#[derive(Debug)]
pub struct UntagImage {
    /// Which.
    pub image: Arc<view::Image>,
    /// The name.
    pub reference: Reference,
}

/// An image to be removed.
#[derive(Debug)]
pub struct RemoveImage {
    /// Which.
    pub image: Arc<view::Image>,
    /// What is done if it has several names.
    pub names: Names,
    /// What is done about containers that were made from it.
    pub users: Users,
}

/// What is done if an image that is to be removed has several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// It is not removed: others may know it by another name.
    Refuse,
    /// They are taken away with it.
    Untag,
}

/// What is done about the containers of an image that is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// It is not removed.
    Refuse,
    /// They are killed and removed first.
    Remove,
}

/// How an image is called in a sentence or a dialog.
pub(super) fn called(image: &view::Image) -> String {
    image.references.first().cloned().unwrap_or_else(|| image.id.to_string())
}

fn manage(image: &view::Image, verb: &str) -> Question {
    Question::new(Action::ManageImages).with("image", called(image)).with("verb", verb)
}

impl Ask for TagImage {
    fn question(&self, _: &Caller) -> Question {
        manage(&self.image, "tag")
    }
}

impl Ask for UntagImage {
    fn question(&self, _: &Caller) -> Question {
        manage(&self.image, "untag")
    }
}

impl Ask for RemoveImage {
    fn question(&self, _: &Caller) -> Question {
        let question = manage(&self.image, "remove");
        match self.users {
            Users::Refuse => question,
            Users::Remove => question.and(Action::RemoveContainers),
        }
    }
}

impl RemoveImage {
    /// An error if it is known by more names than may be taken from it.
    fn check(&self, seen: &view::Image) -> Result<(), Error> {
        if self.names == Names::Refuse && seen.references.len() > 1 {
            return Err(Error::ImageNamed {
                image: called(seen),
                names: seen.references.join(", "),
            });
        }
        Ok(())
    }
}

impl Engine {
    /// Gives an image a name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::InvalidReference`] for a name with a digest.
    pub async fn tag_image(&self, request: Authorized<TagImage>) -> Result<(), Error> {
        let (TagImage { image, reference }, _) = request.into_parts();
        let reference = reference.for_tag()?;
        let _alone = self.registering.lock().await;
        let image = self.image(&image.id)?;
        let (name, id) = (reference.to_string(), image.id);
        self.state.run(move |c| durable::put_reference(c, &name, &id)).await?;
        self.images.tag(&reference, image.id);
        Ok(())
    }

    /// Takes a name from an image, which stays.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`] also if another image has the name, or none.
    pub async fn untag_image(&self, request: Authorized<UntagImage>) -> Result<(), Error> {
        let (UntagImage { image, reference }, _) = request.into_parts();
        let _alone = self.registering.lock().await;
        let image = self.image(&image.id)?;
        if !image.seen.get().references.iter().any(|name| name == reference.as_str()) {
            return Err(Error::NoSuchImage(reference.to_string()));
        }
        let name = reference.to_string();
        self.state.run(move |c| durable::delete_reference(c, &name)).await?;
        self.images.untag(&reference);
        Ok(())
    }

    /// Begins to remove an image, with all that no other needs of it.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn remove_image(&self, request: Authorized<RemoveImage>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        let (engine, object) = (self.clone(), ObjectId::Image(request.image.id));
        let work = move |job: Arc<Job>| async move {
            engine.take_out(&request, &job).await?;
            Ok(Output::default())
        };
        self.pending(JobKind::RemoveImage, Some(object), Origin::Caller(&by), work)
    }

    async fn take_out(&self, request: &RemoveImage, job: &Job) -> Result<(), Error> {
        let image = self.image(&request.image.id)?;
        request.check(&image.seen.get())?;
        if request.users == Users::Remove {
            for id in &image.seen.get().containers {
                let Ok(container) = self.get(id) else { continue };
                let remove =
                    Remove { container, running: IfRunning::Kill, volumes: OwnVolumes::Keep };
                self.remove_container(&remove, job).await?;
            }
        }
        job.point_of_no_return()?;
        self.delete_image(&image, |seen| request.check(seen)).await?;
        // It is gone: what stays of it now, the next collection takes.
        self.tidy_up().await;
        Ok(())
    }

    /// Takes an image out of what is written down, and out of sight, if `may` says so: nobody gives it a name
    /// meanwhile.
    pub(super) async fn delete_image(
        &self,
        image: &Image,
        may: impl FnOnce(&view::Image) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _alone = self.registering.lock().await;
        may(&image.seen.get())?;
        let id = image.id;
        match self.state.run(move |c| durable::delete_image(c, &id)).await {
            Err(error) if error.is_in_use() => return Err(self.image_in_use(image)),
            deleted => deleted?,
        }
        self.images.remove(&image.id);
        Ok(())
    }

    fn image_in_use(&self, image: &Image) -> Error {
        let seen = image.seen.get();
        let named = |id| Some(self.containers.get(id)?.name().to_string());
        let by: Vec<String> = seen.containers.iter().filter_map(named).collect();
        // A container that cannot be read has no name here, and needs its image all the same.
        let by = if by.is_empty() { "a container".into() } else { by.join(", ") };
        Error::ImageInUse { image: called(&seen), by }
    }

    /// The image of that id, if it is still there.
    pub(super) fn image(&self, id: &Digest) -> Result<Arc<Image>, Error> {
        self.images.get(id).ok_or_else(|| Error::NoSuchImage(id.to_string()))
    }
}
