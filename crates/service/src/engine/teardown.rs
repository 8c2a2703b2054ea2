//! Taking down what a container was made of.

use std::os::fd::{AsFd, OwnedFd};

use tare_runtime::ContainerName;
use tare_spawn::Force;

use super::blocking::brief;
use super::process::target;
use super::records::volatile::{Incarnation, Stage};
use super::start::file_name;
use super::watched::Watched;
use super::{Engine, Error};

/// Something that could not be taken down.
#[derive(Debug)]
struct Leftover(Box<dyn std::error::Error + Send + Sync>);

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
                source: first.0.to_string().into(),
            }),
        }
    }

    /// Each of them to the journal.
    pub(super) fn log(&self) {
        for leftover in &self.leftovers {
            tracing::error!(container = self.container, "left behind: {}", leftover.0);
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
        if let Some(wanted) = record.network.clone() {
            leftovers.extend(self.network.tear_down(wanted).await.into_iter().map(Leftover::from));
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
            // A runtime that an earlier daemon left at work would go on making what is deleted here.
            let stopped = if half_made { spawner.cleanup_cgroup(&cgroup, extent) } else { Ok(()) };
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
