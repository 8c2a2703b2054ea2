//! What is in a volume: out of it and into it as an archive, and how much it is.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tare_storage::{Limits, Store, VolumeName};

use super::Volume;
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::blocking::unbounded;
use crate::engine::files::pour;
use crate::engine::images::transfer::{Cancelable, JobWatch, is_regular};
use crate::engine::jobs::{Job, JobKind, Origin, Output};
use crate::engine::object::ObjectId;
use crate::engine::{Engine, Error, Pending, view};

/// A volume whose content is to be written as an archive.
#[derive(Debug)]
pub struct ExportVolume {
    /// Which.
    pub volume: Arc<view::Volume>,
    /// Where to.
    pub archive: File,
}

/// A volume that an archive is to be unpacked in.
#[derive(Debug)]
pub struct ImportVolume {
    /// Which.
    pub volume: Arc<view::Volume>,
    /// What.
    pub archive: File,
    /// What becomes of what is there.
    pub before: Before,
}

/// What becomes of what is in a volume when more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It stays, but for files of the same names.
    Keep,
    /// It is removed first.
    Remove,
}

/// A volume of which the size is to be found out.
#[derive(Debug)]
pub struct GetUsage {
    /// Which.
    pub volume: Arc<view::Volume>,
}

fn question(volume: &view::Volume, verb: &str) -> Question {
    Question::new(Action::AccessVolumeData).with("volume", volume.name.as_str()).with("verb", verb)
}

impl Ask for ExportVolume {
    fn question(&self, _: &Caller) -> Question {
        question(&self.volume, "export")
    }
}

impl Ask for ImportVolume {
    fn question(&self, _: &Caller) -> Question {
        question(&self.volume, "import into")
    }
}

impl Ask for GetUsage {
    fn question(&self, _: &Caller) -> Question {
        Question::new(Action::ManageVolumes)
            .with("volume", self.volume.name.as_str())
            .with("verb", "measure")
    }
}

/// Who fills a volume from outside, while this lives: it is not removed.
struct Filling(Arc<Volume>);

impl Drop for Filling {
    fn drop(&mut self) {
        self.0.importing.fetch_sub(1, Ordering::Release);
    }
}

impl Engine {
    /// Begins to write the content of a volume as an archive.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn export_volume(&self, request: Authorized<ExportVolume>) -> Result<Pending, Error> {
        let (ExportVolume { volume, archive }, by) = request.into_parts();
        let (engine, object) = (self.clone(), ObjectId::Volume(volume.name.clone()));
        let work = move |job: Arc<Job>| async move {
            let name = engine.same_volume(&volume)?.row.name.clone();
            job.stage("copying");
            unbounded("export", move || {
                let content = engine.store.open_volume(&name)?;
                pour(content.export()?, archive, &job, &|| engine.same_volume(&volume).map(drop))
            })
            .await?;
            Ok(Output::default())
        };
        self.pending(JobKind::ExportVolume, Some(object), Origin::Caller(&by), work)
    }

    /// Begins to unpack an archive in a volume.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn import_volume(&self, request: Authorized<ImportVolume>) -> Result<Pending, Error> {
        let (ImportVolume { volume, archive, before }, by) = request.into_parts();
        let (engine, object) = (self.clone(), ObjectId::Volume(volume.name.clone()));
        let work = move |job: Arc<Job>| async move {
            let filling = engine.begin_filling(&volume, &job).await?;
            let store = engine.store.clone();
            job.stage("copying");
            unbounded("import", move || {
                let result = fill(&store, &filling.0, archive, before, &job);
                drop(filling);
                result
            })
            .await?;
            Ok(Output::default())
        };
        self.pending(JobKind::ImportVolume, Some(object), Origin::Caller(&by), work)
    }

    /// Keeps a volume from being removed.
    async fn begin_filling(&self, asked: &view::Volume, job: &Job) -> Result<Filling, Error> {
        let _alone = job.or_canceled(self.volumes.changing.lock()).await?;
        let volume = self.same_volume(asked)?;
        volume.importing.fetch_add(1, Ordering::Acquire);
        Ok(Filling(volume))
    }

    /// The volume that was asked about, if it is still that.
    fn same_volume(&self, asked: &view::Volume) -> Result<Arc<Volume>, Error> {
        let volume = self.volumes.find(asked.name.as_str())?;
        if volume.row.created == asked.created {
            Ok(volume)
        } else {
            Err(Error::VolumeChanged(asked.name.clone()))
        }
    }

    /// Bytes that a volume takes on the disk.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVolume`], [`Error::Storage`].
    pub async fn volume_usage(&self, request: Authorized<GetUsage>) -> Result<u64, Error> {
        let (GetUsage { volume }, _) = request.into_parts();
        let name = self.same_volume(&volume)?.row.name.clone();
        self.usage_of(name).await
    }

    /// A tree may be large.
    pub(in crate::engine) async fn usage_of(&self, name: VolumeName) -> Result<u64, Error> {
        let store = self.store.clone();
        unbounded("usage", move || Ok(store.open_volume(&name)?.usage()?)).await
    }
}

fn fill(
    store: &Store,
    volume: &Volume,
    archive: File,
    before: Before,
    job: &Job,
) -> Result<(), Error> {
    let content = {
        // Whoever fills it for the first time puts another directory in its place.
        let _alone = volume.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let content = store.open_volume(&volume.row.name)?;
        content.begin_use()?;
        content
    };
    if before == Before::Remove {
        content.clear()?;
    }
    let (watch, unreadable) = (JobWatch::new(job), Cell::new(false));
    let archive: Box<dyn Read> = if is_regular(&archive) {
        Box::new(archive)
    } else {
        Box::new(Cancelable::new(archive, job, &unreadable)?)
    };
    match content.import(archive, &Limits::default(), &watch) {
        Ok(imported) => {
            if imported.skipped_devices > 0 {
                job.log(4, format!("{} device nodes were left out", imported.skipped_devices));
            }
            Ok(())
        }
        Err(_) if job.is_canceled() => Err(Error::Canceled),
        Err(error) if unreadable.get() || error.kind() == tare_storage::ErrorKind::InvalidInput => {
            Err(Error::InvalidArchive(Box::new(error)))
        }
        Err(error) => Err(Error::Storage(error)),
    }
}
