//! Files in and out of containers, as tar archives.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use tare_specgen::AbsolutePath;
use tare_storage::{Limits, Rootfs, TarStream, Watch};

use super::{inside, transfer, transfer_inside};
use crate::authority::{Ask, Authorized, Caller, Question};
use crate::engine::blocking::unbounded;
use crate::engine::container::{Container, Running};
use crate::engine::images::transfer::{Cancelable, JobWatch, is_regular};
use crate::engine::jobs::{Job, JobKind, Origin, Output};
use crate::engine::object::ObjectId;
use crate::engine::{Engine, Error, Pending, key, view};

/// Bytes that are moved at once.
const CHUNK: usize = 64 << 10;

/// A container whose whole root is to be written as an archive.
#[derive(Debug)]
pub struct ExportContainer {
    /// Which.
    pub container: Arc<view::Container>,
    /// Where to.
    pub archive: File,
}

/// Something in a container that is to be written as an archive.
#[derive(Debug)]
pub struct CopyOut {
    /// In which.
    pub container: Arc<view::Container>,
    /// Where there.
    pub path: AbsolutePath,
    /// Where to.
    pub archive: File,
}

/// An archive that is to be unpacked in a container.
#[derive(Debug)]
pub struct CopyIn {
    /// In which.
    pub container: Arc<view::Container>,
    /// In which directory there.
    pub path: AbsolutePath,
    /// What.
    pub archive: File,
}

impl Ask for ExportContainer {
    fn question(&self, _: &Caller) -> Question {
        transfer(&self.container, "export")
    }
}

impl Ask for CopyOut {
    fn question(&self, by: &Caller) -> Question {
        transfer_inside(&self.container, "copy files out of", by)
    }
}

impl Ask for CopyIn {
    fn question(&self, by: &Caller) -> Question {
        transfer_inside(&self.container, "copy files into", by)
    }
}

impl Engine {
    /// Begins to write the whole root of a container, without what is mounted on it, as an archive.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn export_container(&self, request: Authorized<ExportContainer>) -> Result<Pending, Error> {
        let (ExportContainer { container, archive }, by) = request.into_parts();
        let (engine, container) = (self.clone(), self.container(&container.id)?);
        let object = ObjectId::Container(container.id.clone());
        let work = move |job: &Job| {
            let root = engine.root_to_read(&container)?;
            pour(root.export()?, archive, job, &|| container.check_kept())
        };
        self.transfer_job(JobKind::ExportContainer, object, &by, work)
    }

    /// Begins to write what is at a place of a container as an archive. While the container runs, that
    /// is what its processes see there.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn copy_out(&self, request: Authorized<CopyOut>) -> Result<Pending, Error> {
        let (CopyOut { container: asked, path, archive }, by) = request.into_parts();
        let (engine, container) = (self.clone(), self.container(&asked.id)?);
        container.check_unchanged(&asked)?;
        let object = ObjectId::Container(container.id.clone());
        let work = move |job: &Job| {
            let running = container.running();
            let root = match &running {
                Some(running) => inside(&container, running)?,
                None => engine.root_to_read(&container)?,
            };
            let stream = root.copy_out(path.as_str())?.ok_or(Error::NoSuchPath)?;
            let whole = || match &running {
                Some(running) => check_running(running),
                None => container.check_kept(),
            };
            pour(stream, archive, job, &whole)
        };
        self.transfer_job(JobKind::CopyOut, object, &by, work)
    }

    fn transfer_job(
        &self,
        kind: JobKind,
        object: ObjectId,
        by: &Caller,
        work: impl FnOnce(&Job) -> Result<(), Error> + Send + 'static,
    ) -> Result<Pending, Error> {
        self.pending(kind, Some(object), Origin::Caller(by), move |job| async move {
            job.stage("copying");
            unbounded("copy", move || work(&job)).await?;
            Ok(Output::default())
        })
    }

    /// Begins to unpack an archive in a directory of a container. While the container runs, that is what
    /// its processes see there.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn copy_in(&self, request: Authorized<CopyIn>) -> Result<Pending, Error> {
        let (CopyIn { container: asked, path, archive }, by) = request.into_parts();
        let engine = self.clone();
        let object = Some(ObjectId::Container(asked.id.clone()));
        self.pending(JobKind::CopyIn, object, Origin::Caller(&by), move |job| async move {
            let container = engine.container(&asked.id)?;
            let running = engine.begin_to_write(&container, &asked, &job).await?;
            job.stage("copying");
            let (at, inner, writing) = (container.clone(), engine.clone(), job.clone());
            let copied = unbounded("copy", move || {
                let root = match &running {
                    Some(running) => inside(&at, running)?,
                    None => inner.root_to_write(&at)?,
                };
                unpack(&root, &path, archive, &writing, running.as_deref())
            })
            .await;
            // Only now nothing of that mount is open any more.
            container.lock().await?.writers -= 1;
            copied.map(|()| Output::default())
        })
    }

    /// Keeps a container from being started and removed; what runs of it.
    async fn begin_to_write(
        &self,
        container: &Arc<Container>,
        asked: &view::Container,
        job: &Job,
    ) -> Result<Option<Arc<Running>>, Error> {
        let mut life = job.or_canceled(container.lock_unchanged(asked)).await??;
        container.check_listed(&life)?;
        let running = life.running().cloned();
        if running.is_none() {
            // What is mounted to be written to is mounted once.
            container.check_unwritten(&life)?;
            self.mend(container, &mut life).await?;
            self.check_alone(container)?;
            life.root.is_let_go().await;
        }
        life.writers += 1;
        Ok(running)
    }
}

impl super::Inner {
    fn root_to_write(&self, container: &Container) -> Result<Rootfs, Error> {
        let layers = self.image_of(&container.root)?.layers.clone();
        let mounted = self.store.mount_rootfs(&layers, &key(&container.id));
        mounted.map_err(|source| Error::Mount { name: container.name(), source })
    }
}

/// Whether a container runs on, if it ran.
fn is_there(running: Option<&Running>) -> bool {
    running.is_none_or(|running| !running.init.has_ended())
}

fn check_running(running: &Running) -> Result<(), Error> {
    if is_there(Some(running)) { Ok(()) } else { Err(Error::EndedMeanwhile) }
}

/// Moves a whole archive to whoever asked for it, for as long as that is wanted.
///
/// What is removed under the archive is passed over in it. So `is_whole` is asked once more after the last of
/// it: what says then that nothing was being removed has lost nothing.
pub(in crate::engine) fn pour(
    mut stream: TarStream,
    archive: File,
    job: &Job,
    is_whole: &dyn Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    let (watch, failed) = (JobWatch::new(job), Cell::new(false));
    let mut out: Box<dyn Write> = if is_regular(&archive) {
        Box::new(archive)
    } else {
        Box::new(Cancelable::new(archive, job, &failed)?)
    };
    let (mut buffer, mut done) = (vec![0; CHUNK], 0);
    loop {
        let read = stream.read(&mut buffer);
        is_whole()?;
        let read = read.map_err(broken)?;
        if read == 0 {
            return out.flush().map_err(Error::WriteArchive);
        }
        let written = out.write_all(&buffer[..read]);
        if job.is_canceled() {
            return Err(Error::Canceled);
        }
        written.map_err(Error::WriteArchive)?;
        done += read as u64;
        if watch.progress(done).is_break() {
            return Err(Error::Canceled);
        }
    }
}

fn unpack(
    root: &Rootfs,
    path: &AbsolutePath,
    archive: File,
    job: &Job,
    running: Option<&Running>,
) -> Result<(), Error> {
    if !root.is_dir(path.as_str())? {
        return Err(Error::NoSuchPath);
    }
    let (progress, unreadable) = (JobWatch::new(job), Cell::new(false));
    let watch = |bytes: u64| match progress.progress(bytes) {
        ControlFlow::Continue(()) if is_there(running) => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let archive: Box<dyn Read> = if is_regular(&archive) {
        Box::new(archive)
    } else {
        Box::new(Cancelable::new(archive, job, &unreadable)?)
    };
    match root.copy_in(path.as_str(), archive, &Limits::default(), &watch) {
        Ok(transferred) => {
            if transferred.skipped_devices > 0 {
                let count = transferred.skipped_devices;
                job.log(4, format!("{count} device nodes were left out"));
            }
            Ok(())
        }
        Err(_) if job.is_canceled() => Err(Error::Canceled),
        Err(_) if !is_there(running) => Err(Error::EndedMeanwhile),
        Err(error) if unreadable.get() => Err(Error::InvalidArchive(Box::new(error))),
        Err(error) if error.kind() == tare_storage::ErrorKind::InvalidInput => {
            Err(Error::InvalidArchive(Box::new(error)))
        }
        Err(error) => Err(Error::Storage(error)),
    }
}

/// The error that an archive we make carried.
fn broken(error: io::Error) -> Error {
    match error.downcast::<tare_storage::Error>() {
        Ok(error) => Error::Storage(error),
        Err(error) => Error::Host { what: "read the files of a container", source: error },
    }
}
