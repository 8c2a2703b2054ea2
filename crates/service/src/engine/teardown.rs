//! Taking down what a container was made of.

use std::os::fd::{AsFd, OwnedFd};

use tare_runtime::ContainerName;
use tare_spawn::{Extent, Force};

use super::blocking::brief;
use super::bundle::file_name;
use super::process::target;
use super::records::volatile::{Incarnation, Stage};
use super::watched::Watched;
use super::{Engine, Error};

/// Something that could not be taken down.
#[derive(Debug)]
struct Leftover(Box<dyn std::error::Error + Send + Sync>);

impl Leftover {
    /// The error and its causes.
    fn chain(&self) -> String {
        let causes =
            std::iter::successors(Some(&*self.0 as &dyn std::error::Error), |e| e.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Leftover {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

/// What is left of a container after it was taken down: nothing, if all went well.
#[derive(Debug)]
#[must_use = "what is left must be told"]
pub(super) struct Remains {
    container: String,
    leftovers: Vec<Leftover>,
}

impl Remains {
    /// Whether all is taken down.
    pub(super) fn is_empty(&self) -> bool {
        self.leftovers.is_empty()
    }

    /// An error if there are any.
    pub(super) fn report(&self, name: &ContainerName) -> Result<(), Error> {
        match self.leftovers.first() {
            None => Ok(()),
            Some(first) => Err(Error::Teardown {
                name: name.clone(),
                count: self.leftovers.len(),
                source: first.chain().into(),
            }),
        }
    }

    /// Each of them to the journal.
    pub(super) fn log(&self) {
        for leftover in &self.leftovers {
            tracing::error!(container_id = self.container, "left behind: {}", leftover.chain());
        }
    }
}

impl Engine {
    /// Takes down all a container was made of, or what is there of it. Goes on past failures, and
    /// can be repeated.
    pub(super) async fn tear_down(
        &self,
        record: &Incarnation,
        supervisor: Option<&Watched>,
    ) -> Remains {
        let mut leftovers = self.tear_down_processes(record, supervisor.map(Watched::pidfd)).await;
        if let Some(network) = record.network.clone() {
            let left = self.networks.tear_down(network).await;
            leftovers.extend(left.into_iter().map(Leftover::from));
        }
        if let Err(error) = self.remove_bundle(record).await {
            leftovers.push(error.into());
        }
        Remains { container: record.container.to_string(), leftovers }
    }

    async fn tear_down_processes(
        &self,
        record: &Incarnation,
        supervisor: Option<std::sync::Arc<OwnedFd>>,
    ) -> Vec<Leftover> {
        let (spawner, cgroup, target) =
            (self.spawner.clone(), record.cgroup.clone(), target(record));
        let extent = self.groups.extent(&cgroup);
        let half_made = record.stage == Stage::Preparing;
        let work = move || {
            let supervisor = supervisor.as_ref().map(|fd| fd.as_fd());
            // A conmon and a runtime that are still at work would make again what is deleted. A conmon
            // that was not let go yet is in the group itself.
            let stopped = if half_made {
                spawner.cleanup_cgroup(&cgroup, extent)
            } else {
                spawner.cleanup_cgroup(&cgroup.supervisor(), Extent::Whole)
            };
            let deleted = spawner.delete(&target, supervisor, Force::Kill).map(drop);
            let cleaned = spawner.cleanup_cgroup(&cgroup, extent);
            Ok([stopped, deleted, cleaned]
                .into_iter()
                .filter_map(Result::err)
                .map(Leftover::from)
                .collect())
        };
        brief(work).await.unwrap_or_else(|error| vec![error.into()])
    }

    async fn remove_bundle(&self, record: &Incarnation) -> Result<(), Error> {
        let containers = self.instance.run_dir().join("containers");
        let name = record.container.to_string();
        brief(move || {
            let failed = |source| Error::Host { what: "open the run directory", source };
            let dir = std::fs::File::open(containers).map_err(failed)?;
            let name = file_name(&name)?;
            tare_storage::remove_tree(dir.as_fd(), &name).map_err(Error::Storage).map(drop)
        })
        .await
    }
}
