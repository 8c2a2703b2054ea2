//! A repository of a registry, as `oci-client` speaks with it.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};

use futures_util::{Stream, TryStreamExt};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use crate::message::{By, Failure, FailureKind, Login, Place, Protocol};

/// Bytes that are sent at once.
const PIECE: usize = 128 << 10;
/// Longest manifest that is sent, in bytes.
const MAX_MANIFEST: u64 = 16 << 20;

/// A repository of a registry.
pub(super) struct Repository {
    client: Client,
    registry: String,
    name: String,
    auth: RegistryAuth,
    kinds: Vec<String>,
}

impl Repository {
    /// The repository of that name; nobody is asked yet.
    pub(super) fn new(place: &Place) -> Result<Self, Failure> {
        // Only once, and by the first who needs it; the others find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if rustls_native_certs::load_native_certs().certs.is_empty() {
            // Without them there is no client, whatever it is to check.
            return Err(Failure::new(FailureKind::NoAuthorities, "there are none"));
        }
        Ok(Self {
            client: Client::try_from(config(place)).map_err(of_client)?,
            registry: place.registry.clone(),
            name: place.repository.clone(),
            auth: auth(place.login.as_ref()),
            kinds: place.kinds.clone(),
        })
    }

    /// A manifest or index by tag or digest.
    pub(super) async fn manifest(&self, by: &By) -> Result<impl AsRef<[u8]> + use<>, Failure> {
        let kinds: Vec<&str> = self.kinds.iter().map(String::as_str).collect();
        let reference = self.reference(by);
        let pulled = self.client.pull_manifest_raw(&reference, &self.auth, &kinds).await;
        pulled.map(|(bytes, _)| bytes).map_err(of_client)
    }

    /// A blob from some byte on, piece by piece, and from which: registries need not give parts.
    pub(super) async fn blob(
        &self,
        digest: &str,
        byte: u64,
    ) -> Result<(u64, impl Stream<Item = io::Result<impl AsRef<[u8]> + use<>>> + use<>), Failure>
    {
        let reference = self.reference(&By::Digest(digest.into()));
        let (from, sized) = if byte == 0 {
            // Of a whole one the digest is checked while it comes.
            let sized = self.client.pull_blob_stream(&reference, digest).await;
            (0, sized.map_err(of_client)?)
        } else {
            let part = self.client.pull_blob_stream_partial(&reference, digest, byte, None);
            match part.await.map_err(of_client)? {
                BlobResponse::Full(sized) => (0, sized),
                BlobResponse::Partial(sized) => (byte, sized),
            }
        };
        Ok((from, sized.stream))
    }

    /// Tells the registry who asks, and finds out whether it is there.
    pub(super) async fn sign_in(&self) -> Result<(), Failure> {
        let reference = self.reference(&By::Tag("latest".into()));
        let signed_in = self.client.auth(&reference, &self.auth, RegistryOperation::Push).await;
        signed_in.map(drop).map_err(of_client)
    }

    /// Whether it has a blob.
    pub(super) async fn has_blob(&self, digest: &str) -> Result<(), Failure> {
        let reference = self.reference(&By::Digest(digest.into()));
        let exists = self.client.blob_exists(&reference, digest).await.map_err(of_client)?;
        let absent = || Failure::new(FailureKind::Unknown, "the registry has no such blob");
        exists.then_some(()).ok_or_else(absent)
    }

    /// Sends a blob of so many bytes.
    pub(super) async fn put_blob(
        &self,
        digest: &str,
        size: u64,
        file: File,
    ) -> Result<(), Failure> {
        let reference = self.reference(&By::Digest(digest.into()));
        let pieces = pieces(file).map_ok(Into::into).map_err(OciDistributionError::IoError);
        let sent = self.client.push_blob_stream(&reference, pieces, digest, Some(size)).await;
        sent.map(drop).map_err(of_client)
    }

    /// Sends a manifest, whose blobs are there, and gives it a name.
    pub(super) async fn put_manifest(
        &self,
        tag: &str,
        kind: &str,
        file: File,
    ) -> Result<(), Failure> {
        let reference = self.reference(&By::Tag(tag.into()));
        let mut bytes = Vec::new();
        file.take(MAX_MANIFEST).read_to_end(&mut bytes).map_err(of_file)?;
        let kind = kind.parse().map_err(|_| {
            Failure::new(FailureKind::Answer, "a manifest has a media type that is none")
        })?;
        let sent = self.client.push_manifest_raw(&reference, bytes, kind).await;
        sent.map(drop).map_err(of_client)
    }

    fn reference(&self, by: &By) -> Reference {
        let (registry, repository) = (self.registry.clone(), self.name.clone());
        match by {
            By::Tag(tag) => Reference::with_tag(registry, repository, tag.clone()),
            By::Digest(digest) => Reference::with_digest(registry, repository, digest.clone()),
        }
    }
}

fn config(place: &Place) -> ClientConfig {
    ClientConfig {
        protocol: match place.protocol {
            Protocol::Http => ClientProtocol::Http,
            Protocol::Https | Protocol::AnyHttps => ClientProtocol::Https,
        },
        // In the clear there are none.
        accept_invalid_certificates: place.protocol != Protocol::Https,
        read_timeout: place.silence,
        use_monolithic_push: true,
        connect_timeout: place.connect,
        user_agent: concat!("tare-worker/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    }
}

fn auth(login: Option<&Login>) -> RegistryAuth {
    match login {
        Some(Login { user, password }) => RegistryAuth::Basic(user.clone(), password.clone()),
        None => RegistryAuth::Anonymous,
    }
}

/// What a file has, piece by piece.
fn pieces(file: File) -> impl Stream<Item = io::Result<Vec<u8>>> + Send {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece)?;
            piece.truncate(read);
            Ok::<_, io::Error>((read > 0).then_some((piece, file)))
        });
        read.await.map_err(io::Error::other)?
    })
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn of_client(error: OciDistributionError) -> Failure {
    Failure::new(kind(&error), &chain(&error))
}

fn kind(error: &OciDistributionError) -> FailureKind {
    use OciDistributionError as E;
    match error {
        E::AuthenticationFailure(_)
        | E::UnauthorizedError { .. }
        | E::ServerError { code: 401 | 403, .. } => FailureKind::Denied,
        E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => FailureKind::Unknown,
        E::RequestError(_) | E::IoError(_) | E::ServerError { .. } => FailureKind::Unreachable,
        E::DigestError(_) => FailureKind::Digest,
        E::RegistryError { envelope, .. } => {
            use OciErrorCode as C;
            match envelope.errors.first().map(|error| &error.code) {
                Some(C::Denied | C::Unauthorized) => FailureKind::Denied,
                Some(C::ManifestUnknown | C::NameUnknown | C::BlobUnknown | C::NotFound) => {
                    FailureKind::Unknown
                }
                _ => FailureKind::Answer,
            }
        }
        _ => FailureKind::Answer,
    }
}

/// An error in the middle of a blob.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
pub(super) fn of_stream(error: io::Error) -> Failure {
    let is_digest = error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<DigestError>);
    let kind = if is_digest { FailureKind::Digest } else { FailureKind::Unreachable };
    Failure::new(kind, &chain(&error))
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn of_file(error: io::Error) -> Failure {
    Failure::new(FailureKind::Question, &error.to_string())
}

/// An error with all its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
