//! Images out of registries.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tare_specgen::ImageDefaults;
use tare_storage::{
    Blobs, ChainId, Descriptor, Digest, Estimate, Hold, ImageFacts, Limits, Platform, Store,
};
use tokio::sync::mpsc;

use super::access::whose;
use super::find::Found;
use super::import::layer_row;
use super::transfer::JobWatch;
use super::{Engine, Error, MAX_CONFIG, Stored};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::Pending;
use crate::engine::blocking::{brief, unbounded};
use crate::engine::clock::Usec;
use crate::engine::jobs::{Job, JobKind, Origin, Output, Produced};
use crate::engine::object::ObjectId;
use crate::engine::records::durable::ImageRow;
use crate::engine::reference::Reference;
use crate::pull::{self, Credentials, Tls};

/// So many layers come at once.
const AT_ONCE: usize = 3;
/// Before a registry that went away is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// Pieces of a layer that wait to be stored.
const WAITING: usize = 16;

/// An image to be pulled.
#[derive(Debug)]
pub struct PullImage {
    /// Its name. One without a registry is that of an image of this host.
    pub reference: Reference,
    /// The names it may have in registries, in the order that is tried: its own, or what one without a registry
    /// [stands for](Engine::resolve_pull).
    pub names: Vec<Reference>,
    /// What it is to run on; what this host is, if nothing is said.
    pub platform: Option<Platform>,
    /// Whether it is pulled if it is here.
    pub when: PullWhen,
    /// Whether certificates are checked, if it is not to be as the host says.
    pub tls: Option<Tls>,
    /// For the registries, if it is not to be the host's.
    pub credentials: Option<Credentials>,
    /// How often a layer is gone on with when the registry goes away.
    pub retries: u32,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullWhen {
    /// If no image has the name.
    #[default]
    Missing,
    /// In any case.
    Always,
    /// If the registry has another of that name.
    Newer,
}

impl Ask for PullImage {
    fn question(&self, _: &Caller) -> Question {
        let question = Question::new(Action::PullImage).with("verb", "pull");
        let question = question.with("credentials", whose(self.credentials.as_ref()));
        match &*self.names {
            [] => question.with_lines("image", [self.reference.as_str()]),
            [name] => question.with_lines("image", [name.as_str()]),
            // A rule for one registry says nothing of the others.
            names => question
                .with_lines("image", [self.reference.short()])
                .with_lines("candidates", names.iter().map(Reference::as_str)),
        }
    }
}

/// An image that is here now.
struct Pulled {
    id: Digest,
    name: Reference,
    /// Of its manifest.
    digest: Option<Digest>,
}

impl Engine {
    /// Begins to pull an image.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn pull_image(&self, request: Authorized<PullImage>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        let engine = self.clone();
        self.pending(JobKind::PullImage, None, Origin::Caller(&by), move |job| async move {
            let pulled = engine.pull(&request, &job).await;
            if pulled.is_err() {
                engine.tidy_up().await;
            }
            let Pulled { id, name, digest } = pulled?;
            let digest = digest.map(|digest| digest.to_string()).unwrap_or_default();
            Ok(Output(vec![
                ("Image", Produced::Object(ObjectId::Image(id))),
                ("Id", Produced::Text(id.to_string())),
                ("Reference", Produced::Text(name.to_string())),
                ("Digest", Produced::Text(digest)),
            ]))
        })
    }

    async fn pull(&self, request: &PullImage, job: &Arc<Job>) -> Result<Pulled, Error> {
        if request.when == PullWhen::Missing
            && let Some(here) = self.one_here(request)
        {
            return Ok(here);
        }
        job.stage("waiting");
        // It is never closed.
        let _turn = job.or_canceled(self.pulls.acquire()).await?.ok();
        job.stage("resolving");
        let found = job.or_canceled(self.find_there(request, job)).await??;
        let (name, digest) = (found.name.clone(), Some(found.digest));
        if request.when == PullWhen::Newer
            && let Ok(here) = self.images.find(name.as_str())
            && here.seen.get().digests.contains(&found.digest)
        {
            return Ok(Pulled { id: here.id, name, digest });
        }
        // Dropped when what it holds is written down, or is not wanted.
        let hold = self.store.hold();
        let (image, _hold) = self.fetch(request, &found, hold, job).await?;
        job.point_of_no_return()?;
        job.stage("registering");
        let ids = self.register(vec![image]).await?;
        let id = ids.first().ok_or_else(|| Error::Bug("no image was registered".into()))?;
        Ok(Pulled { id: *id, name, digest })
    }

    /// The first image here that has one of the names, and is for the platform if one is asked for.
    fn one_here(&self, request: &PullImage) -> Option<Pulled> {
        [&request.reference].into_iter().chain(&request.names).find_map(|name| {
            let here = self.images.find(name.as_str()).ok()?;
            let seen = here.seen.get();
            let is_for = |wanted: &Platform| {
                (wanted.os(), wanted.architecture()) == (&seen.os, &seen.architecture)
                    && wanted.variant().is_none_or(|variant| variant == seen.variant)
            };
            if !request.platform.as_ref().is_none_or(is_for) {
                return None;
            }
            let digest = seen.digests.first().copied();
            Some(Pulled { id: here.id, name: name.clone(), digest })
        })
    }

    /// Takes an image into the store.
    async fn fetch(
        &self,
        request: &PullImage,
        found: &Found,
        hold: Hold,
        job: &Arc<Job>,
    ) -> Result<(Stored, Hold), Error> {
        let config = job.or_canceled(config_from(found)).await??;
        let facts = ImageFacts::parse(&config).map_err(invalid)?;
        check_fits(request, found, &facts)?;
        ImageDefaults::parse(&config).map_err(invalid)?;
        super::read_config(&config)?;
        self.check_room(found, &facts).await?;

        job.stage("downloading");
        let layers = &found.manifest.layers;
        let total = layers.iter().map(|layer| layer.size).sum();
        let progress = Progress { job, done: AtomicU64::new(0), total };
        let progress = &progress;
        // Each has its own descriptor: the compiler cannot tell how long a borrowed one would live.
        let downloads = stream::iter(layers.clone())
            .map(|layer| async move { self.download(request, found, &layer, progress).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>();
        job.or_canceled(downloads).await??;

        job.stage("unpacking");
        let (store, watching) = (self.store.clone(), job.clone());
        let (layers, manifest) = (layers.clone(), found.bytes.clone());
        let references = vec![found.name.to_string()];
        unbounded("unpack", move || {
            let unpacked = unpack(&store, &layers, &facts, &watching)?;
            let row = ImageRow {
                id: store.put_blob(&config)?,
                pulled: Usec::now(),
                layers: unpacked.iter().map(layer_row).collect(),
                references,
                manifests: vec![store.put_blob(&manifest)?],
                layer_blobs: layers.iter().map(|layer| layer.digest).collect(),
            };
            Ok((Stored { row, config }, hold))
        })
        .await
    }

    /// Refuses before anything comes what cannot fit.
    async fn check_room(&self, found: &Found, facts: &ImageFacts) -> Result<(), Error> {
        let store = self.store.clone();
        let (layers, stack) = (found.manifest.layers.clone(), ChainId::stack(&facts.diff_ids));
        brief(move || {
            let here: std::collections::HashSet<ChainId> = store.layers()?.into_iter().collect();
            let mut estimate = Estimate::default();
            for (layer, _) in layers.iter().zip(&stack).filter(|(_, it)| !here.contains(it)) {
                estimate.add_layer(layer.size, Blobs::Keep);
            }
            Ok(store.check_room(&estimate)?)
        })
        .await
    }

    /// Downloads a layer that is not here as it comes.
    async fn download(
        &self,
        request: &PullImage,
        found: &Found,
        layer: &Descriptor,
        progress: &Progress<'_>,
    ) -> Result<(), Error> {
        let (store, digest) = (self.store.clone(), layer.digest);
        if brief(move || Ok(store.has_blob(&digest)?)).await? {
            progress.add(layer.size);
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        let (store, size) = (self.store.clone(), layer.size);
        let stored = unbounded("download", move || {
            let pieces = Pieces { receiver, piece: Vec::new(), read: 0, ended: false };
            let go_on = |_| ControlFlow::Continue(());
            Ok(store.store_blob(&digest, Some(size), pieces, &go_on))
        });
        let (stored, sent) = tokio::join!(stored, send(request, found, layer, progress, sender));
        let fail = |source| failed(&found.name, source);
        sent.map_err(fail)?;
        match stored? {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == tare_storage::ErrorKind::InvalidInput => {
                Err(fail(pull::Error::Digest(Box::new(error))))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Gives a layer to who stores it. When the registry goes away in the middle, it goes on from there.
async fn send(
    request: &PullImage,
    found: &Found,
    layer: &Descriptor,
    progress: &Progress<'_>,
    sender: mpsc::Sender<Piece>,
) -> Result<(), pull::Error> {
    let (mut come, mut left) = (0, request.retries);
    loop {
        match send_from(found, layer, progress, &sender, &mut come).await {
            Err(pull::Error::Unreachable(error)) if left > 0 && come < layer.size => {
                left -= 1;
                let message = format!("{} goes on at byte {come}: {error}", layer.digest);
                progress.job.log(4, message);
                tokio::time::sleep(PAUSE).await;
            }
            Err(pull::Error::Unreachable(_)) if come == layer.size => break,
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    // Who stores it may have had enough, and says why.
    let _ = sender.send(Piece::End).await;
    Ok(())
}

/// Gives what comes from byte `come` on, and counts it.
async fn send_from(
    found: &Found,
    layer: &Descriptor,
    progress: &Progress<'_>,
    sender: &mpsc::Sender<Piece>,
    come: &mut u64,
) -> Result<(), pull::Error> {
    let (from, pieces) = found.repository.blob_from(&layer.digest, *come).await?;
    let (mut known, mut pieces) = (come.saturating_sub(from), Box::pin(pieces));
    while let Some(piece) = pieces.next().await {
        let mut piece = piece?;
        let again = usize::try_from(known).unwrap_or(usize::MAX).min(piece.len());
        known -= again as u64;
        let piece = piece.split_off(again);
        let new = piece.len() as u64;
        if new > 0 && sender.send(Piece::Bytes(piece)).await.is_err() {
            return Ok(());
        }
        *come += new;
        progress.add(new);
    }
    Ok(())
}

async fn config_from(found: &Found) -> Result<Vec<u8>, Error> {
    let descriptor = &found.manifest.config;
    let fail = |source| failed(&found.name, source);
    if descriptor.size > MAX_CONFIG as u64 {
        return Err(fail(pull::Error::TooLarge(MAX_CONFIG)));
    }
    found.repository.small_blob(&descriptor.digest, MAX_CONFIG).await.map_err(fail)
}

/// What the manifest and the configuration say must go together, and be what is wanted.
fn check_fits(request: &PullImage, found: &Found, facts: &ImageFacts) -> Result<(), Error> {
    let counts = (found.manifest.layers.len(), facts.diff_ids.len());
    if counts.0 != counts.1 {
        let (manifest, config) = counts;
        return Err(invalid(format!(
            "the manifest has {manifest} layers, its configuration {config}"
        )));
    }
    let (Some(wanted), Some(made_for)) = (&request.platform, &facts.platform) else {
        return Ok(());
    };
    let same = (wanted.os(), wanted.architecture()) == (made_for.os(), made_for.architecture());
    if same {
        Ok(())
    } else {
        Err(platform_missing(&found.name, format!("it is for {made_for}").into()))
    }
}

fn unpack(
    store: &Store,
    layers: &[Descriptor],
    facts: &ImageFacts,
    job: &Job,
) -> Result<Vec<tare_storage::Layer>, Error> {
    let stack = ChainId::stack(&facts.diff_ids);
    let watch = JobWatch::new(job);
    let unpack = |(nth, layer): (usize, &Descriptor)| {
        let archive = store.open_blob(&layer.digest)?;
        let diff_id = &facts.diff_ids[nth];
        let unpacked =
            store.unpack_layer(&stack[..nth], diff_id, archive, &Limits::default(), &watch);
        unpacked.map_err(|error| match error.kind() {
            _ if job.is_canceled() => Error::Canceled,
            tare_storage::ErrorKind::InvalidInput => Error::InvalidArchive(Box::new(error)),
            _ => Error::Storage(error),
        })
    };
    layers.iter().enumerate().map(unpack).collect()
}

pub(super) fn failed(reference: &Reference, source: pull::Error) -> Error {
    Error::Pull { reference: reference.to_string(), source }
}

pub(super) fn platform_missing(
    reference: &Reference,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> Error {
    Error::PlatformMissing { reference: reference.to_string(), source }
}

pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::InvalidArchive(error.into())
}

/// How much of all layers has come.
struct Progress<'j> {
    job: &'j Job,
    done: AtomicU64,
    total: u64,
}

impl Progress<'_> {
    fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        self.job.progress(before + bytes, self.total);
    }
}

/// Part of a layer, from who receives to who stores.
enum Piece {
    Bytes(Vec<u8>),
    /// It was the last.
    End,
}

/// Pieces as a file: one whose end is not seen ends with an error.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    piece: Vec<u8>,
    read: usize,
    ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(bytes)) => (self.piece, self.read) = (bytes, 0),
                Some(Piece::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let rest = &self.piece[self.read..];
        let some = rest.len().min(buffer.len());
        buffer[..some].copy_from_slice(&rest[..some]);
        self.read += some;
        Ok(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Interactive;

    #[test]
    fn rules_hear_of_all_names_and_of_the_whole_of_each() {
        let caller = Caller { uid: 1000, bus_name: ":1.7".into(), interactive: Interactive::No };
        let long = "a".repeat(250);
        let asked = |names: &[String]| {
            let request = PullImage {
                reference: long.parse().unwrap(),
                names: names.iter().map(|name| name.parse().unwrap()).collect(),
                platform: None,
                when: PullWhen::Always,
                tls: None,
                credentials: None,
                retries: 0,
            };
            let mut details = request.question(&caller).details;
            (details.remove("image"), details.remove("candidates"))
        };
        let [first, second] = ["r.test", "s.test"].map(|host| format!("{host}/{long}:latest"));
        assert_eq!(asked(std::slice::from_ref(&first)), (Some(first.clone()), None));
        let short = format!("{long}:latest");
        let all = format!("{first}\n{second}");
        assert_eq!(asked(&[first, second]), (Some(short.clone()), Some(all)), "no rule fits one");
        assert_eq!(asked(&[]), (Some(format!("localhost/{short}")), None));
    }

    #[test]
    fn only_what_was_sent_whole_has_an_end() {
        for (about, end, wanted) in [("whole", true, Some(&b"abc"[..])), ("cut off", false, None)] {
            let (sender, receiver) = mpsc::channel(4);
            for bytes in [&b"ab"[..], b"", b"c"] {
                assert!(sender.try_send(Piece::Bytes(bytes.to_vec())).is_ok());
            }
            if end {
                assert!(sender.try_send(Piece::End).is_ok());
            }
            drop(sender);
            let mut pieces = Pieces { receiver, piece: Vec::new(), read: 0, ended: false };
            let mut all = Vec::new();
            let read = pieces.read_to_end(&mut all);
            assert_eq!(read.ok().map(|_| all.as_slice()), wanted, "{about}");
        }
    }
}
