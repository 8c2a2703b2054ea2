//! Taking away images that nobody needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::manage::called;
use super::{Engine, Error, Image};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::clock::Usec;
use crate::engine::jobs::{Job, JobKind, Origin, Output, Produced};
use crate::engine::{Pending, view};

/// Containers that do not run, and images and volumes that no container needs, to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Containers, before all else.
    pub containers: bool,
    /// Which images.
    pub images: Option<Pruned>,
    /// Volumes, too.
    pub volumes: bool,
    /// Only those that came before.
    pub until: Option<Usec>,
    /// Only those with all these labels.
    pub labels: BTreeMap<String, String>,
    /// Nothing is removed; it is only said what would be.
    pub dry_run: bool,
}

/// Which images are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pruned {
    /// Those without a name.
    #[default]
    Nameless,
    /// All.
    All,
}

impl Ask for Prune {
    fn question(&self, _: &Caller) -> Question {
        let containers = self.containers.then_some(Action::RemoveContainers);
        let images = self.images.map(|_| Action::ManageImages);
        let volumes = self.volumes.then_some(Action::ManageVolumes);
        let needs = containers.into_iter().chain(images).chain(volumes).map(Into::into).collect();
        Question { needs, ..Question::free() }.with("verb", "prune")
    }
}

impl Engine {
    /// Begins to remove what fits, and what no image needs of the store.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn prune(&self, request: Authorized<Prune>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        let engine = self.clone();
        self.pending(JobKind::Prune, None, Origin::Caller(&by), move |job| async move {
            let mut freed = Freed::default();
            if request.containers {
                freed.ids = engine.prune_containers(&request, &job).await?;
            }
            if request.images.is_some() {
                engine.prune_images(&request, &job, &mut freed).await?;
            }
            if request.volumes {
                let Prune { until, labels, dry_run, .. } = &request;
                let volumes = engine.prune_volumes(*until, labels, *dry_run, &job).await?;
                freed.ids.extend(volumes.names);
                freed.bytes += volumes.bytes;
            }
            Ok(freed.into_output())
        })
    }

    async fn prune_images(
        &self,
        request: &Prune,
        job: &Job,
        freed: &mut Freed,
    ) -> Result<(), Error> {
        let mut fitting = Vec::new();
        for image in self.images.all().into_iter().filter(|it| request.fits(&it.seen.get())) {
            match self.has_labels(&image, &request.labels).await {
                Ok(true) => fitting.push(image),
                Ok(false) => {}
                // No reason not to look at the others.
                Err(error) => job.log(4, format!("{} is left: {}", image.id, error.chain())),
            }
        }
        for image in fitting {
            job.check()?;
            // Counted before: what two of them share is freed with the second.
            let size = self.images.unique_size(&image.id);
            // It may have got a name since.
            let still_fits = |seen: &_| if request.fits(seen) { Ok(()) } else { Err(in_use(seen)) };
            let removed =
                if request.dry_run { Ok(()) } else { self.delete_image(&image, still_fits).await };
            match removed {
                Ok(()) => freed.add(&image, size),
                // Or a container was made from it.
                Err(Error::ImageInUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if !request.dry_run {
            job.stage("collecting");
            let collected = self.collect_garbage().await?;
            freed.bytes += collected.blob_bytes;
        }
        Ok(())
    }

    async fn has_labels(
        &self,
        image: &Arc<Image>,
        labels: &BTreeMap<String, String>,
    ) -> Result<bool, Error> {
        if labels.is_empty() {
            return Ok(true);
        }
        let (_, config) = self.image_config(image).await?;
        let has = config.labels_of_config();
        Ok(labels.iter().all(|(key, value)| has.and_then(|all| all.get(key)) == Some(value)))
    }
}

fn in_use(seen: &view::Image) -> Error {
    Error::ImageInUse { image: called(seen), by: "somebody".into() }
}

impl Prune {
    /// Whether an image is one of these, as far as can be seen.
    fn fits(&self, image: &view::Image) -> bool {
        image.containers.is_empty()
            && (self.images == Some(Pruned::All) || image.references.is_empty())
            && self.until.is_none_or(|until| image.pulled < until)
    }
}

/// What was removed.
#[derive(Default)]
struct Freed {
    ids: Vec<String>,
    bytes: u64,
}

impl Freed {
    fn add(&mut self, image: &Image, size: u64) {
        self.ids.push(image.id.to_string());
        self.bytes += size;
    }

    fn into_output(self) -> Output {
        Output(vec![
            ("Removed", Produced::Texts(self.ids)),
            ("ReclaimedBytes", Produced::Bytes(self.bytes)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_storage::Digest;

    #[test]
    fn only_what_nobody_needs_fits() {
        let image = |references: &[&str]| view::Image {
            id: Digest::of(b"i"),
            digests: Vec::new(),
            references: references.iter().map(ToString::to_string).collect(),
            architecture: String::new(),
            os: String::new(),
            variant: String::new(),
            created: None,
            pulled: Usec(10),
            size: 1,
            layers: 1,
            containers: Vec::new(),
            jobs: Vec::new(),
            public_labels: BTreeMap::new(),
        };
        let all = Prune { images: Some(Pruned::All), ..Prune::default() };
        let (named, nameless) = (image(&["a"]), image(&[]));
        let container = tare_runtime::ContainerId::random().unwrap();
        let used = view::Image { containers: vec![container], ..image(&[]) };
        assert_eq!([&named, &nameless, &used].map(|it| all.fits(it)), [true, true, false]);
        let nameless_only = Prune { images: Some(Pruned::Nameless), ..Prune::default() };
        assert_eq!([&named, &nameless].map(|it| nameless_only.fits(it)), [false, true]);
        for (until, fits) in [(10, false), (11, true)] {
            let prune = Prune { until: Some(Usec(until)), ..Prune::default() };
            assert_eq!(prune.fits(&nameless), fits, "{until}");
        }
    }
}
