//! Which image of which registry a name stands for.

use tare_storage::{Digest, Manifest, Platform, choose_for, is_index, parse_index};

use super::access::{Access, KEPT_BACK, Place};
use super::pull::{PullImage, PullWhen, failed, invalid, platform_missing};
use super::{Engine, Error};
use crate::engine::blocking::brief;
use crate::engine::jobs::Job;
use crate::engine::of_host;
use crate::engine::reference::Reference;
use crate::pull::{self, By, Policy, Protocol, Repository, Tls, Unresolved, Use};

/// An image that a registry has.
pub(super) struct Found {
    /// The name it goes by, wherever it was found.
    pub(super) name: Reference,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Manifest,
}

impl Engine {
    /// The same request, with the names in registries that one without a registry stands for. Reads files of
    /// the host.
    ///
    /// # Errors
    ///
    /// [`Error::ShortName`], [`Error::Registries`].
    pub async fn resolve_pull(&self, mut pull: PullImage) -> Result<PullImage, Error> {
        let is_here = || self.images.find(pull.reference.as_str()).is_ok();
        if !pull.names.is_empty() || (pull.when == PullWhen::Missing && is_here()) {
            return Ok(pull);
        }
        let short = pull.reference.short();
        let names = of_host::registries().await?.resolve(short);
        let names = names.map_err(|problem| short_name(short, problem))?;
        let parsed =
            names.iter().map(|name| name.parse::<Reference>()).collect::<Result<_, Error>>();
        pull.names = parsed.map_err(|source| Error::Registries(source.into()))?;
        Ok(pull)
    }

    /// The image of the first place that has it.
    pub(super) async fn find_there(&self, request: &PullImage, job: &Job) -> Result<Found, Error> {
        let said = (request.tls, request.credentials.as_ref());
        let access = Access::read(self, said, job).await?;
        let mut last: Option<Error> = None;
        for name in &request.names {
            check_policy(name).await?;
            for place in access.sources(name)? {
                if let Some(error) = last.take() {
                    job.log(4, error.chain());
                }
                if place.at != *name {
                    job.log(6, format!("asking for {}", place.at));
                }
                if place.kept_back {
                    job.log(4, KEPT_BACK);
                }
                match self.find_at(request, name, &place).await {
                    Err(error) if may_be_elsewhere(&error) => last = Some(error),
                    done => return done,
                }
            }
        }
        // One that stood for an image of this host is gone meanwhile.
        let short = request.reference.short();
        Err(last.unwrap_or_else(|| short_name(short, Unresolved::Unknown(short.into()))))
    }

    /// Asks one place, and in the clear if that is allowed and nothing else works.
    async fn find_at(
        &self,
        request: &PullImage,
        name: &Reference,
        place: &Place<'_>,
    ) -> Result<Found, Error> {
        match self.find_by(request, name, place, Protocol::Https(place.tls)).await {
            Err(Error::Pull { source: pull::Error::Unreachable(_), .. })
                if place.tls == Tls::Any =>
            {
                self.find_by(request, name, place, Protocol::Http).await
            }
            done => done,
        }
    }

    async fn find_by(
        &self,
        request: &PullImage,
        name: &Reference,
        place: &Place<'_>,
        protocol: Protocol,
    ) -> Result<Found, Error> {
        let fail = |source| failed(name, source);
        let Place { at, credentials, .. } = place;
        let opened =
            Repository::open(&self.workers, at.place(), credentials, protocol, Use::ToRead).await;
        let repository = opened.map_err(fail)?;
        let by = match at.digest() {
            Some(digest) => By::Digest(digest.parse().map_err(invalid)?),
            None => By::Tag(at.tag().unwrap_or("latest").into()),
        };
        let (mut digest, mut bytes) = repository.manifest(&by).await.map_err(fail)?;
        if is_index(&bytes) {
            let entries = parse_index(&bytes).map_err(invalid)?;
            let platform = request.platform.clone().unwrap_or_else(Platform::host);
            let chosen = choose_for(&entries, &platform)
                .map_err(|fault| platform_missing(name, Box::new(fault)))?;
            let by = By::Digest(chosen.manifest.digest);
            (digest, bytes) = repository.manifest(&by).await.map_err(fail)?;
        }
        let manifest = Manifest::parse(&bytes).map_err(invalid)?;
        Ok(Found { name: name.clone(), repository, digest, bytes, manifest })
    }
}

/// Whether another place may still have what one does not give.
fn may_be_elsewhere(error: &Error) -> bool {
    match error {
        Error::Pull { source, .. } => {
            !matches!(source, pull::Error::NoWorker(_) | pull::Error::NoAuthorities)
        }
        _ => false,
    }
}

/// By the name that it goes by, whatever it is called where it comes from.
async fn check_policy(reference: &Reference) -> Result<(), Error> {
    let policy = brief(|| {
        Policy::of_host()
            .map_err(|source| Error::Host { what: "read the policy for images", source })
    });
    let Some(policy) = policy.await? else { return Ok(()) };
    policy
        .check(reference.for_rules().as_str())
        .map_err(|source| Error::SignatureRejected { reference: reference.to_string(), source })
}

fn short_name(short: &str, problem: Unresolved) -> Error {
    Error::ShortName { reference: short.into(), problem }
}
