//! What is in the root of a container before there is that container.

use std::fs::File;
use std::sync::Arc;

use super::restore::ours;
use crate::engine::blocking::unbounded;
use crate::engine::images::transfer::JobWatch;
use crate::engine::jobs::Job;
use crate::engine::records::durable::ContainerRow;
use crate::engine::{Error, Inner, key};

/// What a container has in its root that its image has not.
#[derive(Debug)]
pub(in crate::engine) enum Filling {
    /// Nothing.
    Nothing,
    /// The changes of another, as a layer; for that job.
    Changes(File, Arc<Job>),
}

impl Inner {
    /// Puts that into a root which no row has yet.
    ///
    /// # Errors
    ///
    /// [`Error::Mount`], [`Error::Canceled`], [`Error::Storage`]; a part of it is there then.
    pub(in crate::engine) async fn fill(
        &self,
        row: &ContainerRow,
        filling: Filling,
    ) -> Result<(), Error> {
        let Filling::Changes(archive, job) = filling else { return Ok(()) };
        let (store, key, name) = (self.store.clone(), key(&row.id), row.definition.name.clone());
        let layers = self.image_of(&row.root)?.layers.clone();
        unbounded("copy", move || {
            let root = store.mount_rootfs(&layers, &key);
            let root = root.map_err(|source| Error::Mount { name, source })?;
            match root.apply(archive, &ours(), &JobWatch::new(&job)) {
                // When it is let go of, the kernel flushes it.
                Ok(_) => Ok(()),
                Err(_) if job.is_canceled() => Err(Error::Canceled),
                Err(error) => Err(Error::Storage(error)),
            }
        })
        .await
    }
}
