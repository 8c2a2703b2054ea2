//! Taking away volumes that nobody uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Volume;
use crate::engine::clock::Usec;
use crate::engine::jobs::Job;
use crate::engine::{Engine, Error};

/// Volumes that were removed, or would be.
#[derive(Debug, Default)]
pub(in crate::engine) struct FreedVolumes {
    pub(in crate::engine) names: Vec<String>,
    pub(in crate::engine) bytes: u64,
}

impl Engine {
    /// Removes all volumes that no container uses, are older than `until` and have all `labels`; or only
    /// says which.
    pub(in crate::engine) async fn prune_volumes(
        &self,
        until: Option<Usec>,
        labels: &BTreeMap<String, String>,
        dry_run: bool,
        job: &Job,
    ) -> Result<FreedVolumes, Error> {
        let mut freed = FreedVolumes::default();
        for volume in self.volumes.all().into_iter().filter(|volume| fits(volume, until, labels)) {
            job.check()?;
            // Whatever is in it: it is not needed.
            let bytes = self.usage_of(volume.row.name.clone()).await.unwrap_or_else(|error| {
                job.log(
                    4,
                    format!("volume {} is not measured: {}", volume.row.name, error.chain()),
                );
                0
            });
            let removed = if dry_run { Ok(()) } else { self.prune_volume(&volume, job).await };
            match removed {
                Ok(()) => {
                    freed.names.push(volume.row.name.to_string());
                    freed.bytes += bytes;
                }
                // Somebody uses it since.
                Err(Error::VolumeInUse { .. } | Error::NoSuchVolume(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(freed)
    }

    async fn prune_volume(&self, volume: &Arc<Volume>, job: &Job) -> Result<(), Error> {
        let _alone = job.or_canceled(self.volumes.changing.lock()).await?;
        let known = self.volumes.find(volume.row.name.as_str())?;
        if Arc::ptr_eq(&known, volume) { self.take_out_volume(volume).await } else { Ok(()) }
    }
}

fn fits(volume: &Volume, until: Option<Usec>, labels: &BTreeMap<String, String>) -> bool {
    let own = &volume.row.definition.labels;
    volume.users().is_empty()
        && until.is_none_or(|until| volume.row.created < until)
        && labels.iter().all(|(key, value)| own.get(key) == Some(value))
}
