//! What registries have, and are given: manifests, and blobs as they come and go.
//!
//! Knows registries and nothing of the engine: it answers with bytes, and every digest is checked by
//! whoever stores them. It obeys `policy.json` as far as it can, and refuses where it cannot.

mod auth;
mod policy;

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tare_storage::{Digest, MAX_MANIFEST};

pub use auth::Credentials;
pub(crate) use policy::Policy;
pub use policy::Unmet;

/// A registry that does not answer for so long is not there.
const CONNECT: Duration = Duration::from_secs(30);
/// A registry that says nothing for so long has gone away.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes that are sent at once.
const PIECE: usize = 128 << 10;

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
    Unreachable(#[source] Box<OciDistributionError>),
    /// The host knows no authorities to check certificates by.
    #[error(
        "this host has no certificates of authorities; they come with the package ca-certificates"
    )]
    NoAuthorities,
    /// It wants to know who asks, or does not give it to them.
    #[error("the registry refuses access")]
    Denied(#[source] Box<OciDistributionError>),
    /// It has no such image.
    #[error("the registry has no such image")]
    Unknown(#[source] Box<OciDistributionError>),
    /// What came is not what was asked for.
    #[error("the registry gave something of another digest")]
    Digest(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not keep to the protocol.
    #[error("the registry answered with something that is not understood")]
    Answer(#[source] Box<OciDistributionError>),
    /// A document is larger than any real one.
    #[error("a document has more than {0} bytes")]
    TooLarge(usize),
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

/// A repository of a registry.
pub(crate) struct Repository {
    client: Client,
    registry: String,
    name: String,
    auth: RegistryAuth,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the credentials.
        f.debug_tuple("Repository").field(&self.registry).field(&self.name).finish()
    }
}

impl Repository {
    /// The repository of that name; nobody is asked yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoAuthorities`]: without them there is no client, whatever it is to check.
    pub(crate) fn new(
        registry: &str,
        repository: &str,
        credentials: &Credentials,
        protocol: Protocol,
        purpose: Use,
    ) -> Result<Self, Error> {
        // Only once, and by the first who needs it; the others find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig {
            protocol: match protocol {
                Protocol::Http => ClientProtocol::Http,
                Protocol::Https(_) => ClientProtocol::Https,
            },
            // In the clear there are none.
            accept_invalid_certificates: protocol != Protocol::Https(Tls::Verify),
            // It is silent while it is sent something, too.
            read_timeout: (purpose == Use::ToRead).then_some(SILENCE),
            use_monolithic_push: true,
            connect_timeout: Some(CONNECT),
            user_agent: concat!("tared/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        if rustls_native_certs::load_native_certs().certs.is_empty() {
            return Err(Error::NoAuthorities);
        }
        let unusable = |error| Error::Unreachable(Box::new(error));
        Ok(Self {
            client: Client::try_from(config).map_err(unusable)?,
            registry: registry.into(),
            name: repository.into(),
            auth: credentials.of(registry, repository),
        })
    }

    /// A manifest or index by tag or digest, and its digest.
    pub(crate) async fn manifest(&self, by: &By) -> Result<(Digest, Vec<u8>), Error> {
        let reference = self.reference(by);
        let pulled = self.client.pull_manifest_raw(&reference, &self.auth, &MANIFESTS).await;
        let (bytes, _) = pulled.map_err(of_client)?;
        if bytes.len() > MAX_MANIFEST {
            return Err(Error::TooLarge(MAX_MANIFEST));
        }
        let digest = Digest::of(&bytes);
        match by {
            By::Digest(wanted) if *wanted != digest => {
                Err(Error::Digest(format!("{digest}, and {wanted} was asked for").into()))
            }
            _ => Ok((digest, bytes.to_vec())),
        }
    }

    /// A blob, piece by piece.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
    ) -> Result<impl Stream<Item = std::io::Result<Vec<u8>>> + Send + use<>, Error> {
        let reference = self.reference(&By::Digest(*digest));
        let digest = digest.to_string();
        let sized = self.client.pull_blob_stream(&reference, digest.as_str()).await;
        let stream = sized.map_err(of_client)?.stream;
        Ok(stream.map_ok(|bytes| bytes.to_vec()))
    }

    /// A blob from some byte on, piece by piece, and from which: registries need not give parts.
    pub(crate) async fn blob_from(
        &self,
        digest: &Digest,
        byte: u64,
    ) -> Result<(u64, impl Stream<Item = std::io::Result<Vec<u8>>> + Send + use<>), Error> {
        let reference = self.reference(&By::Digest(*digest));
        let digest = digest.to_string();
        let (from, sized) = if byte == 0 {
            // Of a whole one the digest is checked while it comes.
            let sized = self.client.pull_blob_stream(&reference, digest.as_str()).await;
            (0, sized.map_err(of_client)?)
        } else {
            let client = &self.client;
            let part = client.pull_blob_stream_partial(&reference, digest.as_str(), byte, None);
            match part.await.map_err(of_client)? {
                BlobResponse::Full(sized) => (0, sized),
                BlobResponse::Partial(sized) => (byte, sized),
            }
        };
        Ok((from, sized.stream.map_ok(|bytes| bytes.to_vec())))
    }

    /// Tells the registry who asks, and finds out whether it is there.
    pub(crate) async fn sign_in(&self) -> Result<(), Error> {
        let reference = self.reference(&By::Tag("latest".into()));
        let signed_in = self.client.auth(&reference, &self.auth, RegistryOperation::Push).await;
        signed_in.map(drop).map_err(of_client)
    }

    /// Whether it has a blob; if that cannot be known, it has not.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> bool {
        let reference = self.reference(&By::Digest(*digest));
        self.client.blob_exists(&reference, &digest.to_string()).await.unwrap_or(false)
    }

    /// Sends a blob of so many bytes.
    pub(crate) async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        file: File,
    ) -> Result<(), Error> {
        let reference = self.reference(&By::Digest(*digest));
        let pieces = pieces(file).map_ok(Into::into).map_err(OciDistributionError::IoError);
        let digest = digest.to_string();
        let sent = self.client.push_blob_stream(&reference, pieces, &digest, Some(size)).await;
        sent.map(drop).map_err(of_client)
    }

    /// Sends a manifest, whose blobs are there, and gives it a name.
    pub(crate) async fn put_manifest(&self, tag: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let reference = self.reference(&By::Tag(tag.into()));
        let kind = media_type(&bytes).parse();
        let kind =
            kind.map_err(|_| Error::Answer(Box::new(OciDistributionError::GenericError(None))))?;
        let sent = self.client.push_manifest_raw(&reference, bytes, kind).await;
        sent.map(drop).map_err(of_client)
    }

    fn reference(&self, by: &By) -> Reference {
        let (registry, repository) = (self.registry.clone(), self.name.clone());
        match by {
            By::Tag(tag) => Reference::with_tag(registry, repository, tag.clone()),
            By::Digest(digest) => Reference::with_digest(registry, repository, digest.to_string()),
        }
    }
}

/// The type that a manifest says it is of.
fn media_type(manifest: &[u8]) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(manifest).ok();
    let said = document.as_ref().and_then(|document| document["mediaType"].as_str());
    said.unwrap_or(MANIFESTS[0]).to_owned()
}

/// What a file has, piece by piece.
fn pieces(file: File) -> impl Stream<Item = std::io::Result<Vec<u8>>> + Send {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece)?;
            piece.truncate(read);
            Ok::<_, std::io::Error>((read > 0).then_some((piece, file)))
        });
        read.await.map_err(std::io::Error::other)?
    })
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

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// That of this name.
    Tag(String),
    /// That one.
    Digest(Digest),
}

fn of_client(error: OciDistributionError) -> Error {
    use OciDistributionError as E;
    match &error {
        E::AuthenticationFailure(_)
        | E::UnauthorizedError { .. }
        | E::ServerError { code: 401 | 403, .. } => Error::Denied(Box::new(error)),
        E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => {
            Error::Unknown(Box::new(error))
        }
        E::RequestError(_) | E::IoError(_) | E::ServerError { .. } => {
            Error::Unreachable(Box::new(error))
        }
        E::DigestError(_) => Error::Digest(Box::new(error)),
        E::RegistryError { envelope, .. } => {
            use OciErrorCode as C;
            match envelope.errors.first().map(|error| &error.code) {
                Some(C::Denied | C::Unauthorized) => Error::Denied(Box::new(error)),
                Some(C::ManifestUnknown | C::NameUnknown | C::BlobUnknown | C::NotFound) => {
                    Error::Unknown(Box::new(error))
                }
                _ => Error::Answer(Box::new(error)),
            }
        }
        _ => Error::Answer(Box::new(error)),
    }
}

/// An error in the middle of a blob.
pub(crate) fn of_stream(error: std::io::Error) -> Error {
    match error.downcast::<oci_client::errors::DigestError>() {
        Ok(digest) => Error::Digest(Box::new(digest)),
        Err(error) => Error::Unreachable(Box::new(OciDistributionError::IoError(error))),
    }
}
