//! Images to registries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, TryStreamExt, stream};
use tare_storage::{Compression, Descriptor, Digest, MAX_MANIFEST, Manifest};

use super::access::{Access, KEPT_BACK, Place, whose};
use super::export::manifest_to_send;
use super::manage::called;
use super::{Engine, Error};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::blocking::{brief, unbounded};
use crate::engine::jobs::{Job, JobKind, Origin, Output, Produced};
use crate::engine::object::ObjectId;
use crate::engine::reference::Reference;
use crate::engine::{Pending, view};
use crate::pull::{self, Credentials, Protocol, Repository, Tls, Use};
use crate::workers::Workers;

/// So many blobs go at once.
const AT_ONCE: usize = 3;

/// An image to be put into a registry.
#[derive(Debug)]
pub struct PushImage {
    /// Which.
    pub image: Arc<view::Image>,
    /// Its name there, which says where it goes.
    pub destination: Reference,
    /// Whether the certificate of the registry is checked, if it is not to be as the host says.
    pub tls: Option<Tls>,
    /// For the registry, if it is not to be the host's.
    pub credentials: Option<Credentials>,
    /// How layers are compressed that are not here as they came.
    pub compression: Compression,
}

impl Ask for PushImage {
    fn question(&self, _: &Caller) -> Question {
        let name = format!("{} to {}", called(&self.image), self.destination.as_str());
        let question = Question::new(Action::ExportImages).with("image", name).with("verb", "push");
        let question = question.with_lines("destination", [self.destination.as_str()]);
        question.with("credentials", whose(self.credentials.as_ref()))
    }
}

impl Engine {
    /// Begins to put an image into a registry.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`]; [`Error::Host`] if there can be no job.
    pub fn push_image(&self, request: Authorized<PushImage>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        let (engine, object) = (self.clone(), ObjectId::Image(request.image.id));
        let work = move |job: Arc<Job>| async move {
            let pushed = engine.push(request, &job).await;
            // What was packed for it is of no image.
            engine.tidy_up().await;
            Ok(Output(vec![("Digest", Produced::Text(pushed?.to_string()))]))
        };
        self.pending(JobKind::PushImage, Some(object), Origin::Caller(&by), work)
    }

    async fn push(&self, request: PushImage, job: &Arc<Job>) -> Result<Digest, Error> {
        let said = (request.tls, request.credentials.as_ref());
        let access = job.or_canceled(Access::read(self, said, job)).await??;
        let place = access.target(&request.destination)?;
        let image = self.image(&request.image.id)?;
        // Held from now on, so that nobody removes what is being sent.
        let _hold = self.store.hold();
        let (store, packing, compression) = (self.store.clone(), job.clone(), request.compression);
        job.stage("packing");
        let (digest, bytes) = unbounded("pack", move || {
            let digest = manifest_to_send(&store, &image, compression, &packing)?;
            Ok((digest, store.get_blob(&digest, MAX_MANIFEST)?))
        })
        .await?;
        let manifest =
            Manifest::parse(&bytes).map_err(|fault| Error::InvalidArchive(Box::new(fault)))?;
        let fail = |source| failed(&request.destination, source);
        job.stage("resolving");
        if place.kept_back {
            job.log(4, KEPT_BACK);
        }
        let repository = job.or_canceled(sign_in(&place, &self.workers)).await?.map_err(fail)?;
        job.stage("uploading");
        self.upload_all(&request, &repository, &manifest, job).await?;
        job.point_of_no_return()?;
        job.stage("registering");
        let tag = request.destination.tag().unwrap_or("latest");
        let store = self.store.clone();
        let file = brief(move || Ok(store.open_blob(&digest)?)).await?;
        repository.put_manifest(tag, &bytes, &file).await.map_err(fail)?;
        Ok(digest)
    }

    /// Sends all that a manifest is of.
    async fn upload_all(
        &self,
        request: &PushImage,
        repository: &Repository,
        manifest: &Manifest,
        job: &Job,
    ) -> Result<(), Error> {
        let blobs = manifest.layers.iter().chain([&manifest.config]);
        let total = blobs.clone().map(|blob| blob.size).sum();
        let (done, blobs) = (AtomicU64::new(0), blobs.cloned().collect::<Vec<_>>());
        let done = &done;
        let uploads = stream::iter(blobs)
            .map(|blob| async move {
                self.upload(repository, &blob).await.map_err(|error| match error {
                    Upload::Here(error) => error,
                    Upload::There(source) => failed(&request.destination, source),
                })?;
                let sent = done.fetch_add(blob.size, Ordering::Relaxed) + blob.size;
                job.progress(sent, total);
                Ok::<_, Error>(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>();
        job.or_canceled(uploads).await?.map(drop)
    }

    /// Sends a blob that the registry does not have.
    async fn upload(&self, repository: &Repository, blob: &Descriptor) -> Result<(), Upload> {
        if repository.has_blob(&blob.digest).await.map_err(Upload::There)? {
            return Ok(());
        }
        let (store, digest) = (self.store.clone(), blob.digest);
        let file = brief(move || Ok(store.open_blob(&digest)?)).await.map_err(Upload::Here)?;
        repository.put_blob(&blob.digest, blob.size, &file).await.map_err(Upload::There)
    }
}

/// Why a blob does not get there.
enum Upload {
    Here(Error),
    There(pull::Error),
}

/// Says who asks; in the clear if that is allowed and nothing else works.
async fn sign_in(place: &Place<'_>, workers: &Workers) -> Result<Repository, pull::Error> {
    match sign_in_by(place, workers, Protocol::Https(place.tls)).await {
        Err(pull::Error::Unreachable(_)) if place.tls == Tls::Any => {
            sign_in_by(place, workers, Protocol::Http).await
        }
        done => done,
    }
}

async fn sign_in_by(
    place: &Place<'_>,
    workers: &Workers,
    protocol: Protocol,
) -> Result<Repository, pull::Error> {
    let Place { at, credentials, .. } = place;
    let opened = Repository::open(workers, at.place(), credentials, protocol, Use::ToWrite);
    let repository = opened.await?;
    repository.sign_in().await?;
    Ok(repository)
}

fn failed(destination: &Reference, source: pull::Error) -> Error {
    Error::Push { reference: destination.to_string(), source }
}
