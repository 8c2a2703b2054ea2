//! The directories of checkpoints. All of this blocks.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tare_runtime::ContainerId;

use super::{CheckpointId, said};
use crate::effects;
use crate::engine::Error;
use crate::engine::blocking::unbounded;
use crate::instance::Instance;

/// What the name of a directory ends with that is not complete.
const UNFINISHED: &str = ".new";
/// Where CRIU's figures are, as it calls them itself.
const STATS: &str = "stats-dump";
/// CRIU's image of the control groups that its processes were in.
const GROUPS: &str = "cgroup.img";
/// Where CRIU's images are.
const IMAGES: &str = "images";

/// A tar beside the images, of what CRIU does not write down.
#[derive(Clone, Copy, Debug)]
pub(super) enum Archive {
    /// What a container had changed of its image, as a layer.
    Changes,
    /// What was in its `/dev/shm`.
    Memory,
}

impl Archive {
    fn name(self) -> &'static str {
        match self {
            Self::Changes => "changes.tar",
            Self::Memory => "shm.tar",
        }
    }
}

/// Where one checkpoint is.
#[derive(Clone, Debug)]
pub(super) struct Files {
    all: PathBuf,
    id: CheckpointId,
}

impl Files {
    pub(super) fn new(instance: &Instance, id: &CheckpointId) -> Self {
        Self { all: instance.checkpoints_dir(), id: id.clone() }
    }

    fn unfinished(&self) -> PathBuf {
        self.all.join(format!("{}{UNFINISHED}", self.id))
    }

    fn dir(&self) -> PathBuf {
        self.all.join(self.id.as_str())
    }

    /// Makes its directory, which is not complete; that of the images in it.
    pub(super) fn begin(&self) -> Result<OwnedFd, Error> {
        let images = self.unfinished().join(IMAGES);
        let begun = effects::make_dir(&images, 0o700).and_then(|()| File::open(images));
        begun.map(Into::into).map_err(failed("make the directory of a checkpoint"))
    }

    /// Makes one of its archives, while it is not complete.
    pub(super) fn make(&self, archive: Archive) -> Result<File, Error> {
        effects::make_file(&self.unfinished().join(archive.name()))
            .map_err(failed("make a file of a checkpoint"))
    }

    /// All that belongs to it is written: it is on the disk when this returns. How many bytes it has.
    pub(super) fn complete(&self) -> Result<u64, Error> {
        let complete = || -> io::Result<u64> {
            let dir = self.unfinished();
            let size = flush(&dir.join(IMAGES))? + flush(&dir)?;
            effects::rename(&dir, &self.dir())?;
            effects::sync(&self.all)?;
            Ok(size)
        };
        complete().map_err(failed("write a checkpoint"))
    }

    /// Keeps CRIU's figures, which are in that file, beside the images.
    pub(super) fn keep_stats(&self, stats: &Path) -> Result<(), Error> {
        let kept = said::stats(stats);
        let kept = kept.and_then(|stats| effects::write_new(&self.dir().join(STATS), &stats));
        kept.map_err(failed("keep the figures of a checkpoint"))
    }

    /// CRIU's figures, if they were kept.
    pub(super) fn stats(&self) -> Option<Vec<u8>> {
        said::stats(&self.dir().join(STATS)).ok()
    }

    /// One of its archives; `None` if it has none.
    pub(super) fn archive(&self, archive: Archive) -> Result<Option<File>, Error> {
        match File::open(self.dir().join(archive.name())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(failed("open the files of a checkpoint")),
        }
    }

    /// The directory of its images.
    pub(super) fn images(&self) -> Result<OwnedFd, Error> {
        let images = File::open(self.dir().join(IMAGES));
        images.map(Into::into).map_err(failed("open the images of a checkpoint"))
    }

    /// Makes a directory of its images for another container, in which these are for the control group of
    /// that one: CRIU moves what it restores into the one of the checkpoint, though it is told to ignore them.
    pub(super) fn images_for(&self, first: &ContainerId, other: &ContainerId) -> Result<(), Error> {
        let make = || -> io::Result<()> {
            let (images, own) = (self.dir().join(IMAGES), self.dir().join(other.as_str()));
            effects::remove_dir(&own)?;
            effects::make_dir(&own, 0o700)?;
            for entry in fs::read_dir(images)? {
                let entry = entry?;
                let to = own.join(entry.file_name());
                if entry.file_name() == GROUPS {
                    let image = regrouped(fs::read(entry.path())?, first, other);
                    effects::write_new(&to, &image)?;
                } else {
                    effects::link(&entry.path(), &to)?;
                }
            }
            Ok(())
        };
        make().map_err(failed("make images for another container"))
    }

    /// That directory.
    pub(super) fn open_images_for(&self, other: &ContainerId) -> Result<OwnedFd, Error> {
        let images = File::open(self.dir().join(other.as_str()));
        images.map(Into::into).map_err(failed("open the images of a checkpoint"))
    }

    /// Removes it: CRIU needs the images no more when it has restored a container.
    pub(super) fn remove_images_for(&self, other: &ContainerId) -> Result<(), Error> {
        let removed = effects::remove_dir(&self.dir().join(other.as_str()));
        removed.map_err(failed("remove the images for another container"))
    }

    /// Removes all that is there of it.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let removed =
            effects::remove_dir(&self.unfinished()).and_then(|()| effects::remove_dir(&self.dir()));
        removed.map_err(failed("remove a checkpoint"))
    }
}

/// The image of control groups, with those of one container in the place of another's. Their names differ in
/// the ids alone, or in the first twelve digits of these, so that nothing else of it changes, lengths included.
fn regrouped(mut image: Vec<u8>, first: &ContainerId, other: &ContainerId) -> Vec<u8> {
    let names = [(first.as_str(), other.as_str()), (first.short(), other.short())];
    for (from, to) in names.map(|(from, to)| (from.as_bytes(), to.as_bytes())) {
        for at in 0..=image.len().saturating_sub(from.len()) {
            if image[at..].starts_with(from) {
                image[at..at + to.len()].copy_from_slice(to);
            }
        }
    }
    image
}

/// Waits until a directory is on the disk, with the files that are in it; how many bytes those have.
fn flush(dir: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            size += entry.metadata()?.blocks() * 512;
            effects::sync(&entry.path())?;
        }
    }
    effects::sync(dir)?;
    Ok(size)
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Host { what, source }
}

/// Removes what is none of these.
pub(super) async fn sweep(instance: &Instance, known: Vec<CheckpointId>) -> Result<(), Error> {
    let all = instance.checkpoints_dir();
    unbounded("sweep", move || {
        let known: HashSet<String> = known.iter().map(ToString::to_string).collect();
        let entries = fs::read_dir(&all).map_err(failed("look for checkpoints"))?;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let id = name.strip_suffix(UNFINISHED).unwrap_or(&name);
            // What has another name is not ours.
            if known.contains(&name) || id.parse::<CheckpointId>().is_err() {
                continue;
            }
            match effects::remove_dir(&entry.path()) {
                Ok(()) => tracing::info!("took away a checkpoint that nothing has"),
                Err(error) => tracing::warn!("cannot take away what is left of one: {error}"),
            }
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_for_the_groups_of_another_container() {
        let id = |digit: &str| digit.repeat(64).parse::<ContainerId>().unwrap();
        let (first, other) = (id("a"), id("b"));
        let image = |id: &ContainerId| format!("x/tare-{}.scope/y\n/tare/{id}", id.short()).into();
        assert_eq!(regrouped(image(&first), &first, &other), image(&other) as Vec<u8>);
        assert_eq!(regrouped(image(&first), &other, &first), image(&first) as Vec<u8>);
        assert!(regrouped(Vec::new(), &first, &other).is_empty());
    }
}
