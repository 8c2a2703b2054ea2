//! What a container claims of volumes when it is made: those that are there, and new ones.

use std::collections::BTreeSet;

use tare_specgen::{
    Foreign, ForeignKind, ImageDefaults, MountOption, MountRequest, MountSource, MountTarget,
    Request, RootfsAccess, SubPath, anonymous_volumes,
};
use tare_storage::{VolumeName, VolumeOptions};

use super::{Volumes, used};
use crate::authority::Caller;
use crate::engine::blocking::brief;
use crate::engine::clock::Usec;
use crate::engine::records::durable::{self, VolumeDefinition, VolumeRow};
use crate::engine::{Engine, Error, Inner, random_id, secret};

/// A volume as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedVolume {
    /// Its name; without one, a volume is made for this container.
    pub name: Option<VolumeName>,
    /// The directory in it.
    pub sub_path: Option<SubPath>,
    /// Where it is mounted.
    pub target: MountTarget,
    /// Whether it may be written to.
    pub access: RootfsAccess,
    /// How it is mounted.
    pub options: Vec<MountOption>,
}

/// A volume that a container is going to use, as it was when that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Claim {
    name: VolumeName,
    /// Whose it is; nobody's if it is to be made.
    owner: Option<u32>,
    anonymous: bool,
}

impl Claim {
    /// Whether this is somebody else's.
    pub(in crate::engine) fn is_foreign(&self, uid: u32) -> bool {
        self.owner.is_some_and(|owner| owner != uid)
    }

    pub(in crate::engine) fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Inner {
    /// Adds the volumes that are asked for to a request, and those that the image wants.
    pub(in crate::engine) fn claim(
        &self,
        request: &mut Request,
        asked: Vec<AskedVolume>,
        image: &ImageDefaults,
    ) -> Result<Vec<Claim>, Error> {
        let mut claims = Vec::new();
        for volume in asked {
            let claim = self.claim_one(volume.name)?;
            let mut mount = mount(&claim, volume.sub_path, volume.target)?;
            (mount.access, mount.options) = (volume.access, volume.options);
            request.mounts.push(mount);
            claims.push(claim);
        }
        for target in anonymous_volumes(request, image) {
            let claim = self.claim_one(None)?;
            request.mounts.push(mount(&claim, None, target)?);
            claims.push(claim);
        }
        let mut known = BTreeSet::new();
        claims.retain(|claim| known.insert(claim.name.clone()));
        Ok(claims)
    }

    /// The volumes that a request names already.
    pub(in crate::engine) fn claims_of(&self, request: &Request) -> Result<Vec<Claim>, Error> {
        used(request).map(|name| self.claim_one(Some(name))).collect()
    }

    fn claim_one(&self, name: Option<VolumeName>) -> Result<Claim, Error> {
        let bug = |error: tare_storage::InvalidName| Error::Bug(error.to_string());
        let anonymous = name.is_none();
        let name = match name {
            Some(name) => name,
            None => random_id()?.as_str().parse().map_err(bug)?,
        };
        let owner = self.volumes.get(&name).map(|volume| volume.row.owner_uid);
        Ok(Claim { name, owner, anonymous })
    }

    /// What a container of this owner reaches that is somebody else's.
    pub(in crate::engine) fn foreign(&self, owner: u32, request: &Request) -> Foreign {
        let mut foreign = Foreign::default();
        let others = used(request)
            .filter_map(|name| self.volumes.get(&name))
            .filter(|volume| volume.row.owner_uid != owner)
            .map(|volume| (ForeignKind::Volume, volume.row.name.to_string()));
        foreign.things.extend(others);
        let containers = request.shares_with().into_iter();
        for id in containers.filter_map(|id| id.as_str().parse().ok()) {
            let Some(container) = self.containers.get(&id) else { continue };
            let (seen, name) = (container.view(), container.name().to_string());
            // Who is at the end of a chain has made the one before it privileged in the same way.
            if seen.privileged {
                foreign.privileged.insert(name.clone());
            }
            if seen.owner_uid != owner {
                foreign.things.insert((ForeignKind::Container, name));
            }
        }
        let secrets = secret::used(request)
            .into_iter()
            .filter(|name| self.secrets.owner_of(name).is_some_and(|other| other != owner))
            .map(|name| (ForeignKind::Secret, name.to_string()));
        foreign.things.extend(secrets);
        foreign
    }
}

fn mount(
    claim: &Claim,
    sub_path: Option<SubPath>,
    target: MountTarget,
) -> Result<MountRequest, Error> {
    let name = claim.name.as_str().parse();
    let name = name.map_err(|error: tare_specgen::InvalidText| Error::Bug(error.to_string()))?;
    Ok(MountRequest::new(target, MountSource::Volume { name, sub_path }))
}

impl Volumes {
    /// The claims whose volumes are to be made. The others must be whose they were when that was
    /// asked about.
    fn to_be_made(&self, claims: &[Claim], by: &Caller) -> Result<Vec<VolumeRow>, Error> {
        let mut rows = Vec::new();
        for claim in claims {
            match self.get(&claim.name) {
                Some(volume)
                    if volume.row.owner_uid == by.uid
                        || claim.owner == Some(volume.row.owner_uid) => {}
                Some(_) => return Err(Error::VolumeChanged(claim.name.clone())),
                None => rows.push(VolumeRow {
                    name: claim.name.clone(),
                    owner_uid: by.uid,
                    created: Usec::now(),
                    anonymous: claim.anonymous,
                    definition: VolumeDefinition::default(),
                }),
            }
        }
        Ok(rows)
    }
}

impl Inner {
    /// Makes the directories of volumes that are not there; their rows come with the container's.
    /// Only with `changing` held.
    ///
    /// # Errors
    ///
    /// [`Error::VolumeChanged`], [`Error::Storage`]; nothing is made then.
    pub(in crate::engine) async fn make_claimed(
        &self,
        claims: &[Claim],
        by: &Caller,
    ) -> Result<Vec<VolumeRow>, Error> {
        let rows = self.volumes.to_be_made(claims, by)?;
        self.make_directories(&rows, VolumeOptions::new()).await?;
        Ok(rows)
    }

    /// Makes the directories of volumes, whose rows are written next.
    pub(super) async fn make_directories(
        &self,
        rows: &[VolumeRow],
        mut options: VolumeOptions,
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let names: Vec<VolumeName> = rows.iter().map(|row| row.name.clone()).collect();
        let (store, wanted) = (self.store.clone(), names.clone());
        // What is there already may be somebody's data: it is no part of what may be removed.
        let there = brief(move || store.volumes().map_err(Error::Storage)).await?;
        if let Some(name) = names.iter().find(|name| there.contains(name)) {
            return Err(Error::VolumeExists(name.clone()));
        }
        let written = names.clone();
        self.state.run(move |c| durable::begin_volumes(c, &written)).await?;
        if let Some(label) = self.volume_label()? {
            options = options.with_label(label);
        }
        let store = self.store.clone();
        let made = brief(move || {
            wanted.iter().try_for_each(|name| {
                let made = store.create_volume(name, &options);
                made.map(drop).map_err(|error| match error {
                    tare_storage::Error::Unsupported { .. } => Error::NoQuota,
                    other => Error::Storage(other),
                })
            })
        });
        match made.await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.unmake(rows).await;
                Err(error)
            }
        }
    }

    /// Removes the directories of volumes whose rows could not be written.
    pub(in crate::engine) async fn unmake(&self, rows: &[VolumeRow]) {
        for row in rows {
            if let Err(error) = self.remove_remains(&row.name).await {
                tracing::warn!("what is left of volume '{}' stays: {}", row.name, error.chain());
            }
        }
    }
}

impl Engine {
    /// Lets go of what a container used, of which these volumes were taken out with it.
    pub(in crate::engine) async fn remove_doomed(&self, doomed: Vec<VolumeName>) {
        for name in doomed {
            self.volumes.take(&name);
            if let Err(error) = self.remove_remains(&name).await {
                tracing::warn!("what is left of volume '{name}' stays: {}", error.chain());
            }
        }
    }
}
