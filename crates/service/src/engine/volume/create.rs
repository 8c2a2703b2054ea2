//! Making, showing and removing volumes by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tare_runtime::ContainerId;
use tare_storage::{SizeLimit, VolumeName, VolumeOptions};

use super::Volume;
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::clock::Usec;
use crate::engine::jobs::{Job, JobKind, Origin, Output};
use crate::engine::object::ObjectId;
use crate::engine::records::Version;
use crate::engine::records::durable::{self, VolumeDefinition, VolumeRow};
use crate::engine::{Engine, Error, Inner, Pending, view};

/// A volume to be made.
#[derive(Debug)]
pub struct CreateVolume {
    /// Its name.
    pub name: VolumeName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How much it may hold; as much as the disk, if nothing is said.
    pub size_limit: Option<SizeLimit>,
    /// Owner and group of its directory, as containers see them.
    pub owner: (u32, u32),
}

/// A volume to be removed with all that is in it.
#[derive(Debug)]
pub struct RemoveVolume {
    /// Which.
    pub volume: Arc<view::Volume>,
}

/// A volume of which all is to be told.
#[derive(Debug)]
pub struct InspectVolume {
    /// Which.
    pub volume: Arc<view::Volume>,
}

fn question(name: &VolumeName, verb: &str) -> Question {
    Question::new(Action::ManageVolumes).with("volume", name.as_str()).with("verb", verb)
}

impl Ask for CreateVolume {
    fn question(&self, _: &Caller) -> Question {
        question(&self.name, "create")
    }
}

impl Ask for RemoveVolume {
    fn question(&self, _: &Caller) -> Question {
        question(&self.volume.name, "remove")
    }
}

impl Ask for InspectVolume {
    fn question(&self, _: &Caller) -> Question {
        question(&self.volume.name, "inspect")
    }
}

impl Engine {
    /// Makes an empty volume.
    ///
    /// # Errors
    ///
    /// [`Error::VolumeExists`], [`Error::NoQuota`], [`Error::Storage`].
    pub async fn create_volume(
        &self,
        request: Authorized<CreateVolume>,
    ) -> Result<VolumeName, Error> {
        let (CreateVolume { name, labels, size_limit, owner: (uid, gid) }, by) =
            request.into_parts();
        let _alone = self.volumes.changing.lock().await;
        if self.volumes.get(&name).is_some() {
            return Err(Error::VolumeExists(name));
        }
        let row = VolumeRow {
            name: name.clone(),
            owner_uid: by.uid,
            created: Usec::now(),
            anonymous: false,
            definition: VolumeDefinition {
                version: Version,
                labels,
                size_limit: size_limit.map(SizeLimit::bytes),
            },
        };
        let rows = [row];
        let mut options = VolumeOptions::new().with_owner(uid, gid);
        if let Some(limit) = size_limit {
            options = options.with_limit(limit);
        }
        self.make_directories(&rows, options).await?;
        let [row] = rows.clone();
        if let Err(error) = self.state.run(move |c| durable::insert_volume(c, &row)).await {
            self.unmake(&rows).await;
            return Err(error.into());
        }
        let [row] = rows;
        self.volumes.insert(row, &self.config());
        Ok(name)
    }

    /// Begins to remove a volume.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn remove_volume(&self, request: Authorized<RemoveVolume>) -> Result<Pending, Error> {
        let (RemoveVolume { volume }, by) = request.into_parts();
        let engine = self.clone();
        let object = ObjectId::Volume(volume.name.clone());
        self.pending(
            JobKind::RemoveVolume,
            Some(object),
            Origin::Caller(&by),
            move |job| async move {
                engine.remove_now(&volume, &job).await?;
                Ok(Output::default())
            },
        )
    }

    async fn remove_now(&self, asked: &view::Volume, job: &Job) -> Result<(), Error> {
        let _alone = job.or_canceled(self.volumes.changing.lock()).await?;
        let volume = self.volumes.find(asked.name.as_str())?;
        if volume.row.created != asked.created {
            return Err(Error::VolumeChanged(asked.name.clone()));
        }
        job.point_of_no_return()?;
        self.take_out_volume(&volume).await
    }

    /// Removes a volume; only with `changing` held.
    pub(super) async fn take_out_volume(&self, volume: &Volume) -> Result<(), Error> {
        if volume.importing.load(Ordering::Acquire) > 0 {
            let by = "an import".into();
            return Err(Error::VolumeInUse { volume: volume.row.name.clone(), by });
        }
        let name = volume.row.name.clone();
        match self.state.run(move |c| durable::doom_volume(c, &name)).await {
            Err(error) if error.is_in_use() => return Err(self.volume_in_use(volume)),
            doomed => doomed?,
        }
        self.volumes.take(&volume.row.name);
        self.remove_remains(&volume.row.name).await
    }

    fn volume_in_use(&self, volume: &Volume) -> Error {
        let users = volume.users().clone();
        let named = |id| self.containers.get(&id).map(|container| container.name().to_string());
        let by: Vec<String> = users.into_iter().filter_map(named).collect();
        Error::VolumeInUse { volume: volume.row.name.clone(), by: by.join(", ") }
    }
}

impl Inner {
    /// All about a volume, as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVolume`].
    pub fn inspect_volume(&self, request: Authorized<InspectVolume>) -> Result<String, Error> {
        let (InspectVolume { volume }, _) = request.into_parts();
        let volume = self.volumes.find(volume.name.as_str())?;
        let (row, seen) = (&volume.row, volume.seen.get());
        let ids: Vec<&str> = seen.containers.iter().map(ContainerId::as_str).collect();
        let document = serde_json::json!({
            "v": 1,
            "Name": row.name.as_str(),
            "Driver": view::VOLUME_DRIVER,
            "OwnerUID": row.owner_uid,
            "CreatedTimestamp": row.created.0,
            "Anonymous": row.anonymous,
            "Labels": row.definition.labels,
            "SizeLimit": row.definition.size_limit,
            "Containers": ids,
        });
        Ok(document.to_string())
    }
}
