//! What registries have, and are given: manifests, and blobs as they come and go.
//!
//! A [worker](crate::workers) speaks with the registry. What it says is taken for what a stranger said: it is
//! bounded here, and every digest is checked by whoever stores it. Knows nothing of the engine. It
//! obeys `policy.json` as far as it can, and refuses where it cannot. What `registries.conf` says of a name is
//! found out here too, from the text of it.

mod auth;
mod policy;
mod registries;
#[expect(unsafe_code, reason = "descriptors that the runtime waits for")]
mod sys;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use tare_storage::{Digest, MAX_MANIFEST};
use tare_worker::{Ask, By as Name, Failure, FailureKind, Heard, Place, Reply};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use auth::Credentials;
pub(crate) use auth::MAX_AUTH;
pub(crate) use policy::Policy;
pub use policy::Unmet;
pub use registries::{Blocked, Unresolved};
pub(crate) use registries::{Endpoint, Registries, Text, is_host};

use crate::workers::{self, Worker, Workers};

/// A registry that does not answer for so long is not there.
const CONNECT: Duration = Duration::from_secs(30);
/// A registry that says nothing for so long has gone away.
const SILENCE: Duration = Duration::from_secs(60);
/// A worker that says nothing for so long is out of order: until a registry gives something it may have to
/// ask three times, and to be sent elsewhere.
const DEAF: Duration = Duration::from_secs(600);

/// What is asked for: the types of manifests that can be read.
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Why a registry does not give what is asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be talked with.
    #[error("the registry cannot be reached")]
    Unreachable(#[source] Failure),
    /// The host knows no authorities to check certificates by.
    #[error(
        "this host has no certificates of authorities; they come with the package ca-certificates"
    )]
    NoAuthorities,
    /// It wants to know who asks, or does not give it to them.
    #[error("the registry refuses access")]
    Denied(#[source] Failure),
    /// It has no such image.
    #[error("the registry has no such image")]
    Unknown(#[source] Failure),
    /// What came is not what was asked for.
    #[error("the registry gave something of another digest")]
    Digest(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not keep to the protocol.
    #[error("the registry answered with something that is not understood")]
    Answer(#[source] Failure),
    /// A document is larger than any real one.
    #[error("a document has more than {0} bytes")]
    TooLarge(usize),
    /// Nobody could be had who speaks with registries.
    #[error("no worker can be had that speaks with registries")]
    NoWorker(#[source] workers::Error),
    /// Who spoke with the registry has ended in the middle, or does not keep to what was agreed on.
    #[error("the worker that speaks with the registry has failed")]
    Worker(#[source] io::Error),
}

impl Error {
    /// The last part of its name on the bus.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::NoAuthorities => "RegistryUnreachable",
            Self::Denied(_) => "RegistryDenied",
            Self::Unknown(_) => "ManifestUnknown",
            Self::Digest(_) => "DigestMismatch",
            Self::Answer(_) | Self::TooLarge(_) => "InvalidArchive",
            Self::NoWorker(_) | Self::Worker(_) => "WorkerFailed",
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Unreachable => Self::Unreachable(failure),
            FailureKind::NoAuthorities => Self::NoAuthorities,
            FailureKind::Denied => Self::Denied(failure),
            FailureKind::Unknown => Self::Unknown(failure),
            FailureKind::Digest => Self::Digest(Box::new(failure)),
            FailureKind::Answer => Self::Answer(failure),
            // And what one of another version may say.
            _ => Self::Worker(io::Error::other(failure)),
        }
    }
}

/// Whether the certificate of a registry is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// It is.
    Verify,
    /// It is not, and it need not have one.
    Any,
}

/// A repository of a registry, and the worker that speaks with it.
#[derive(Debug)]
pub(crate) struct Repository(Worker);

impl Repository {
    /// The repository of that name; the registry is not asked yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoWorker`]; [`Error::NoAuthorities`]: without them there is no client, whatever it is to
    /// check.
    pub(crate) async fn open(
        workers: &Workers,
        (registry, name): (&str, &str),
        credentials: &Credentials,
        protocol: Protocol,
        purpose: Use,
    ) -> Result<Self, Error> {
        let mut place = Place::new(registry, name);
        place.login = credentials.of(registry, name);
        place.protocol = protocol.of_worker();
        place.connect = Some(CONNECT);
        // It is silent while it is sent something, too.
        place.silence = (purpose == Use::ToRead).then_some(SILENCE);
        place.kinds = MANIFESTS.map(Into::into).into();
        let workers = workers.clone();
        let had = tokio::task::spawn_blocking(move || workers.have_one()).await;
        let worker = had.map_err(|panic| Error::Worker(io::Error::other(panic)))?;
        let repository = Self(worker.map_err(Error::NoWorker)?);
        done(repository.ask(&Ask::Open(place), None)?, Some(DEAF)).await?;
        Ok(repository)
    }

    /// A manifest or index by tag or digest, and its digest.
    pub(crate) async fn manifest(&self, by: &By) -> Result<(Digest, Vec<u8>), Error> {
        let name = match by {
            By::Tag(tag) => Name::Tag(tag.clone()),
            By::Digest(digest) => Name::Digest(digest.to_string()),
        };
        let reply = self.ask(&Ask::Manifest(name), None)?;
        let bytes = collect(pieces(reply), MAX_MANIFEST).await?;
        let digest = Digest::of(&bytes);
        match by {
            By::Digest(wanted) if *wanted != digest => {
                Err(Error::Digest(format!("{digest}, and {wanted} was asked for").into()))
            }
            _ => Ok((digest, bytes)),
        }
    }

    /// A small blob as a whole.
    pub(crate) async fn small_blob(&self, digest: &Digest, most: usize) -> Result<Vec<u8>, Error> {
        let (_, pieces) = self.blob_from(digest, 0).await?;
        let bytes = collect(pieces, most).await?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(Error::Digest(format!("{found}, and {digest} was asked for").into()))
        }
    }

    /// A blob from some byte on, piece by piece, and from which: registries need not give parts.
    pub(crate) async fn blob_from(
        &self,
        digest: &Digest,
        byte: u64,
    ) -> Result<(u64, impl Stream<Item = Result<Vec<u8>, Error>> + Send + use<>), Error> {
        let mut reply = self.ask(&Ask::Blob { digest: digest.to_string(), from: byte }, None)?;
        match hear(&mut reply, Some(DEAF)).await? {
            Heard::From(from) if from == 0 || from == byte => Ok((from, pieces(reply))),
            Heard::Failed(failure) => Err(failure.into()),
            _ => Err(unheard_of()),
        }
    }

    /// Tells the registry who asks, and finds out whether it is there.
    pub(crate) async fn sign_in(&self) -> Result<(), Error> {
        done(self.ask(&Ask::SignIn {}, None)?, Some(DEAF)).await
    }

    /// Whether it has a blob; if the registry does not tell, it has not.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let reply = self.ask(&Ask::HasBlob { digest: digest.to_string() }, None)?;
        match done(reply, Some(DEAF)).await {
            Ok(()) => Ok(true),
            Err(error @ Error::Worker(_)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Sends a blob of so many bytes, which are in a file. That takes as long as it takes.
    pub(crate) async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        file: &File,
    ) -> Result<(), Error> {
        let ask = Ask::PutBlob { digest: digest.to_string(), size };
        done(self.ask(&ask, Some(file))?, None).await
    }

    /// Sends a manifest, whose blobs are there, and gives it a name. It is in the file, too.
    pub(crate) async fn put_manifest(
        &self,
        tag: &str,
        bytes: &[u8],
        file: &File,
    ) -> Result<(), Error> {
        let ask = Ask::PutManifest { tag: tag.into(), kind: media_type(bytes) };
        done(self.ask(&ask, Some(file))?, Some(DEAF)).await
    }

    fn ask(&self, ask: &Ask, file: Option<&File>) -> Result<AsyncFd<Reply>, Error> {
        let reply = self.0.session.ask(ask, file.map(AsFd::as_fd)).map_err(Error::Worker)?;
        sys::watched(reply).map_err(Error::Worker)
    }
}

/// What is said next.
async fn hear(reply: &mut AsyncFd<Reply>, patience: Option<Duration>) -> Result<Heard, Error> {
    let heard = reply.async_io_mut(Interest::READABLE, Reply::hear);
    let heard = match patience {
        Some(patience) => tokio::time::timeout(patience, heard).await,
        None => Ok(heard.await),
    };
    let in_time = heard.map_err(|_| Error::Worker(io::ErrorKind::TimedOut.into()))?;
    in_time.map_err(Error::Worker)
}

/// Waits until something that gives nothing is done.
async fn done(mut reply: AsyncFd<Reply>, patience: Option<Duration>) -> Result<(), Error> {
    match hear(&mut reply, patience).await? {
        Heard::Done => Ok(()),
        Heard::Failed(failure) => Err(failure.into()),
        Heard::From(_) | Heard::Bytes(_) => Err(unheard_of()),
    }
}

/// The bytes that are given, until it is said that these were all.
fn pieces(reply: AsyncFd<Reply>) -> impl Stream<Item = Result<Vec<u8>, Error>> + Send {
    futures_util::stream::try_unfold(reply, |mut reply| async move {
        match hear(&mut reply, Some(DEAF)).await? {
            Heard::Bytes(bytes) => Ok(Some((bytes, reply))),
            Heard::Done => Ok(None),
            Heard::Failed(failure) => Err(failure.into()),
            Heard::From(_) => Err(unheard_of()),
        }
    })
}

/// All of them, if they are not more than so many.
async fn collect(
    pieces: impl Stream<Item = Result<Vec<u8>, Error>>,
    most: usize,
) -> Result<Vec<u8>, Error> {
    let join = |mut all: Vec<u8>, piece: Vec<u8>| async move {
        all.extend(piece);
        if all.len() > most { Err(Error::TooLarge(most)) } else { Ok(all) }
    };
    pieces.try_fold(Vec::new(), join).await
}

fn unheard_of() -> Error {
    Error::Worker(io::Error::new(io::ErrorKind::InvalidData, "it says what it was not asked"))
}

/// The type that a manifest says it is of.
fn media_type(manifest: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(manifest).ok();
    let said = document.as_ref().and_then(|document| document["mediaType"].as_str());
    said.unwrap_or(MANIFESTS[0]).to_owned()
}

/// What a repository is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Images out of it.
    ToRead,
    /// Images into it.
    ToWrite,
}

/// How a registry is talked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// In the clear.
    Http,
    /// Encrypted.
    Https(Tls),
}

impl Protocol {
    fn of_worker(self) -> tare_worker::Protocol {
        match self {
            Self::Http => tare_worker::Protocol::Http,
            Self::Https(Tls::Verify) => tare_worker::Protocol::Https,
            Self::Https(Tls::Any) => tare_worker::Protocol::AnyHttps,
        }
    }
}

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// That of this name.
    Tag(String),
    /// That one.
    Digest(Digest),
}
