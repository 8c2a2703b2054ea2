//! Taking away containers that do not run.

use std::sync::Arc;

use super::container::Container;
use super::images::Prune;
use super::jobs::Job;
use super::remove::{IfRunning, OwnVolumes, Remove};
use super::view::{self, State};
use super::{Engine, Error};

impl Engine {
    /// Removes all containers that fit, or only says which; their ids. What cannot be removed is in the log of
    /// the job.
    pub(super) async fn prune_containers(
        &self,
        request: &Prune,
        job: &Job,
    ) -> Result<Vec<String>, Error> {
        let mut left: Vec<_> = self.containers.all();
        left.retain(|container| self.is_pruned(container, &container.view(), request));
        if request.dry_run {
            return Ok(left.iter().map(|container| container.id.to_string()).collect());
        }
        let mut removed = Vec::new();
        loop {
            let before = removed.len();
            let mut shared = Vec::new();
            for container in left {
                match self.prune_container(&container, request, job).await? {
                    Pruned::Removed => removed.push(container.id.to_string()),
                    Pruned::Shared => shared.push(container),
                    Pruned::No => {}
                }
            }
            // With those that shared their networks, some of these may have become free.
            if shared.is_empty() || removed.len() == before {
                return Ok(removed);
            }
            left = shared;
        }
    }

    async fn prune_container(
        &self,
        container: &Arc<Container>,
        request: &Prune,
        job: &Job,
    ) -> Result<Pruned, Error> {
        job.check()?;
        let view = container.view();
        // It took a while to come to this one.
        if !self.is_pruned(container, &view, request) {
            return Ok(Pruned::No);
        }
        let remove =
            Remove { container: view, running: IfRunning::Refuse, volumes: OwnVolumes::Keep };
        match self.remove_container(&remove, job).await {
            Ok(()) => Ok(Pruned::Removed),
            Err(Error::NamespacesShared { .. }) => Ok(Pruned::Shared),
            // Somebody uses it since, or has removed it.
            Err(
                Error::InvalidState { .. }
                | Error::Changed(_)
                | Error::StillThere(_)
                | Error::NoSuchContainer(_),
            ) => Ok(Pruned::No),
            Err(Error::Canceled) => Err(Error::Canceled),
            // That is no reason not to remove the others.
            Err(error) => {
                job.log(3, error.chain());
                Ok(Pruned::No)
            }
        }
    }

    /// Whether a container is one of those, as it is seen.
    fn is_pruned(&self, container: &Container, view: &view::Container, request: &Prune) -> bool {
        let has_labels = || {
            // Of one whose image cannot be read it is not known which it has.
            let effective = self.effective(container);
            effective.is_ok_and(|effective| {
                request.labels.iter().all(|(key, value)| {
                    effective.labels.iter().any(|(own, it)| own.as_str() == key && it == value)
                })
            })
        };
        fits(view, request) && (request.labels.is_empty() || has_labels())
    }
}

/// What became of a container that was to be removed.
enum Pruned {
    Removed,
    /// Nothing: another one is in its namespaces.
    Shared,
    /// Nothing: it is not one of them any more, or cannot be removed.
    No,
}

/// Whether a container is one of those, as far as can be seen.
fn fits(container: &view::Container, request: &Prune) -> bool {
    matches!(container.state, State::Configured | State::Exited)
        && request.until.is_none_or(|until| container.created < until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::Usec;

    #[test]
    fn only_what_does_not_run_fits() {
        let view = Container::sample("c").view();
        for (state, want) in [
            (State::Configured, true),
            (State::Exited, true),
            (State::Running, false),
            (State::Paused, false),
            (State::Created, false),
            (State::Starting, false),
            (State::Removing, false),
            // Something of it may live.
            (State::Broken, false),
        ] {
            let view = view::Container { state, ..view::Container::clone(&view) };
            assert_eq!(fits(&view, &Prune::default()), want, "{state}");
        }
        for (until, want) in [(view.created.0, false), (view.created.0 + 1, true)] {
            let prune = Prune { until: Some(Usec(until)), ..Prune::default() };
            assert_eq!(fits(&view, &prune), want);
        }
    }
}
