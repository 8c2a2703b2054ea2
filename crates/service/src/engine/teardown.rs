//! Taking down what a container was made of.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tare_runtime::ContainerName;
use tare_spawn::{Extent, Force};
use tare_storage::{ErrorKind, FileName};

use super::blocking::brief;
use super::bundle::file_name;
use super::process::target;
use super::records::volatile::{Incarnation, Stage};
use super::watched::Watched;
use super::{Engine, Error};

/// Each process of a container gives rise to a few changes of its bundle when it has ended; more than
/// so many at one moment are none of ours.
const MOST_CHANGES: usize = 64;

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
        let supervisor = supervisor.map(Watched::pidfd);
        let (mut leftovers, network) = tokio::join!(
            self.tear_down_processes_and_files(record, supervisor),
            self.tear_down_network(record),
        );
        leftovers.extend(network);
        Remains { container: record.container.to_string(), leftovers }
    }

    async fn tear_down_network(&self, record: &Incarnation) -> Vec<Leftover> {
        let Some(network) = record.network.clone() else { return Vec::new() };
        self.networks.tear_down(network).await.into_iter().map(Leftover::from).collect()
    }

    async fn tear_down_processes_and_files(
        &self,
        record: &Incarnation,
        supervisor: Option<Arc<OwnedFd>>,
    ) -> Vec<Leftover> {
        let mut leftovers = self.tear_down_processes(record, supervisor).await;
        // It may have ended before its scope was made.
        if record.init.is_none()
            && let Err(error) = self.groups.take_back(&record.container).await
        {
            leftovers.push(error.into());
        }
        if let Err(error) = self.remove_bundle(record).await {
            leftovers.push(error.into());
        }
        leftovers
    }

    async fn tear_down_processes(
        &self,
        record: &Incarnation,
        supervisor: Option<Arc<OwnedFd>>,
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
            remove_with_others(dir.as_fd(), &file_name(&name)?).map_err(Error::Storage)
        })
        .await
    }
}

/// Removes a bundle, in which others may be at work although all its processes have ended: what a
/// session that has just ended has in it is removed, and whoever waits for a process whose conmon was
/// killed writes its exit code, into a directory that was found to be empty.
fn remove_with_others(dir: BorrowedFd<'_>, name: &FileName) -> Result<(), tare_storage::Error> {
    let is_of_others = |error: &tare_storage::Error| {
        matches!(error.kind(), ErrorKind::InUse | ErrorKind::NotFound)
    };
    let mut others = MOST_CHANGES;
    loop {
        match tare_storage::remove_tree(dir, name) {
            Err(error) if is_of_others(&error) && others > 0 => others -= 1,
            removed => return removed.map(drop),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn what_others_write_and_remove_meanwhile_is_removed_too() {
        let dir = tempfile::tempdir().unwrap();
        let parent = File::open(dir.path()).unwrap();
        let (exit, bundle) = (dir.path().join("bundle/exit"), dir.path().join("bundle"));
        for round in 0..200 {
            fs::create_dir_all(&exit).unwrap();
            let sessions = (0..8).map(|number| bundle.join(format!("exec-{number}")));
            let sessions: Vec<_> = sessions.collect();
            for session in &sessions {
                fs::create_dir_all(session.join("exit")).unwrap();
            }
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for (process, session) in sessions.iter().enumerate() {
                        let _ = fs::write(exit.join(process.to_string()), "137");
                        let _ = fs::remove_dir_all(session);
                    }
                });
                let removed = remove_with_others(parent.as_fd(), &"bundle".parse().unwrap());
                removed.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
            });
            assert!(!exit.exists());
        }
    }
}
