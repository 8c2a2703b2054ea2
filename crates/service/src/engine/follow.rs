//! Does what follows the end of a container: starts it again, or removes it.
//!
//! What is to follow is noted in the container's life, and done if that is still so when its time has
//! come: whoever starts or stops the container meanwhile takes the note away. A new daemon decides it
//! anew, from how the container ended.

use std::sync::Arc;
use std::time::Duration;

use super::container::{Container, Life, Now};
use super::jobs::{JobKind, Origin, Output};
use super::lifecycle::{Boot, End, Next, is_short};
use super::object::ObjectId;
use super::remove::{IfRunning, OwnVolumes, Remove};
use super::start::StartedBy;
use super::view::{Exit, ExitReason};
use super::{Engine, Error, Pending};

/// Something that is to follow; no two are alike.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan(Option<Arc<()>>);

impl Plan {
    /// Nothing.
    pub(super) const NONE: Self = Self(None);

    fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// Whether there is one.
    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    fn is(&self, other: &Self) -> bool {
        matches!((&self.0, &other.0), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
    }
}

impl Engine {
    /// Decides what follows the end that a container has come to a moment ago.
    pub(super) fn follow_end(&self, container: &Arc<Container>, life: &mut Life, exit: Exit) {
        let ran = life.last.ran();
        life.short = if is_short(ran) { life.short.saturating_add(1) } else { 0 };
        if life.kept == 0 && is_an_end(exit, life.last.restarts) {
            self.plan(container, life, exit, Boot::Same);
        }
    }

    /// Decides what follows the ends that an earlier daemon saw, or nobody.
    pub(super) async fn follow_earlier_ends(&self) {
        let boot = if self.same_boot { Boot::Same } else { Boot::Earlier };
        for container in self.containers.all() {
            let Ok(mut life) = container.lock().await else { continue };
            let restarts = life.last.restarts;
            let ended = life.last.exit.filter(|exit| is_an_end(*exit, restarts));
            if let (Now::Idle, Some(exit), false) = (&life.now, ended, life.next.is_some()) {
                self.plan(&container, &mut life, exit, boot);
            }
        }
    }

    fn plan(&self, container: &Arc<Container>, life: &mut Life, exit: Exit, boot: Boot) {
        let end = End {
            failed: exit.code != 0,
            asked: life.last.asked,
            restarts: life.last.restarts,
            // The first one that is short has a pause, too.
            short: life.short.saturating_sub(1),
        };
        let next = container.definition().row.lifecycle.after(end, boot);
        let pause = match next {
            Next::Nothing => return,
            Next::Remove => Duration::ZERO,
            Next::Start(pause) => pause,
        };
        life.next = Plan::new();
        let (engine, container, plan) = (self.clone(), container.clone(), life.next.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            match engine.carry_on(&container, &plan, next).await {
                // The next daemon does it.
                Ok(()) | Err(Error::ShuttingDown | Error::NoSuchContainer(_)) => {}
                Err(error) => tracing::error!(
                    container = %container.name(), container_id = %container.id, "{}", error.chain()
                ),
            }
        });
    }

    /// Begins what was planned, if it still is.
    async fn carry_on(
        &self,
        container: &Arc<Container>,
        plan: &Plan,
        next: Next,
    ) -> Result<(), Error> {
        self.check_serving()?;
        let life = container.lock().await?;
        if !life.next.is(plan) || !matches!(life.now, Now::Idle | Now::Broken(_)) {
            return Ok(());
        }
        drop(life);
        let pending = match next {
            Next::Nothing => return Ok(()),
            Next::Remove => self.remove_by_itself(container),
            Next::Start(_) => self.start_by_itself(container, plan.clone()),
        };
        pending.map(Pending::run)
    }

    fn start_by_itself(&self, container: &Arc<Container>, plan: Plan) -> Result<Pending, Error> {
        let (engine, object) = (self.clone(), ObjectId::Container(container.id.clone()));
        let container = container.clone();
        self.pending(JobKind::StartContainer, Some(object), Origin::Host, move |job| async move {
            // Somebody may have been faster, or want it to stay as it is.
            if container.lock().await?.next.is(&plan) {
                let started =
                    engine.start_container(&container.view(), &job, StartedBy::Policy).await;
                if started.is_err() {
                    engine.try_again(&container).await?;
                }
                started?;
            }
            Ok(Output::default())
        })
    }

    /// What keeps a container from being started at all, such as a port that another has, may pass.
    async fn try_again(&self, container: &Arc<Container>) -> Result<(), Error> {
        let mut life = container.lock().await?;
        if let (Now::Idle, Some(exit), false) = (&life.now, life.last.exit, life.next.is_some()) {
            life.short = life.short.saturating_add(1);
            self.plan(container, &mut life, exit, Boot::Same);
        }
        Ok(())
    }

    fn remove_by_itself(&self, container: &Arc<Container>) -> Result<Pending, Error> {
        let (engine, object) = (self.clone(), ObjectId::Container(container.id.clone()));
        let request = Remove {
            container: container.view(),
            running: IfRunning::Refuse,
            volumes: OwnVolumes::Remove,
        };
        self.pending(JobKind::RemoveContainer, Some(object), Origin::Host, move |job| async move {
            engine.remove_container(&request, &job).await?;
            Ok(Output::default())
        })
    }
}

/// What cannot be started is told to whoever wanted that, and nothing follows; a policy goes on wanting.
fn is_an_end(exit: Exit, restarts: u32) -> bool {
    exit.reason != ExitReason::StartFailed || restarts > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_tries_again_what_cannot_be_started() {
        let exit = |reason| Exit { code: -1, signal: 0, reason };
        for (reason, restarts, follows) in [
            (ExitReason::Exited, 0, true),
            (ExitReason::Lost, 0, true),
            (ExitReason::StartFailed, 0, false),
            (ExitReason::StartFailed, 1, true),
        ] {
            assert_eq!(is_an_end(exit(reason), restarts), follows, "{reason:?} {restarts}");
        }
    }
}
