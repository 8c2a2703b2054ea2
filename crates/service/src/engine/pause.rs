//! Pausing a container, and letting it go on, by the freezer of its control group.
//!
//! What is frozen the kernel knows, so nothing is written down: a daemon that takes a container
//! over looks. While a group freezes nobody holds the container's lock; a stop, or somebody who
//! resumes it, wins over the pause that is on its way.

use std::sync::Arc;
use std::time::Duration;

use tare_runtime::cgroup::Cgroup;
use tokio::time::{Instant, sleep, timeout};

use super::blocking::brief;
use super::container::{Container, Life, Pace, Running};
use super::still::Still;
use super::view;
use super::{Engine, Error};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// What has not stopped by then waits for something that may never come.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(2);

/// A container to be paused.
#[derive(Debug)]
pub struct Pause {
    /// Which.
    pub container: Arc<view::Container>,
}

/// A container that is to go on.
#[derive(Debug)]
pub struct Resume {
    /// Which.
    pub container: Arc<view::Container>,
}

impl Ask for Pause {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "pause")
    }
}

impl Ask for Resume {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "resume")
    }
}

impl Engine {
    /// Stops all processes of a container where they are; returns when they have.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::InvalidState`], [`Error::FreezeTimeout`], after which it runs
    /// on, and [`Error::Changed`] if somebody let it go on meanwhile.
    pub async fn pause(&self, request: Authorized<Pause>) -> Result<(), Error> {
        let (Pause { container: asked }, _) = request.into_parts();
        let container = self.container(&asked.id)?;
        let mut life = container.lock_unchanged(&asked).await?;
        let running = life.running().cloned();
        let running = running.ok_or_else(|| Error::NotRunning(container.name()))?;
        let group = self.begin_to_freeze(&container, &mut life, &running).await?;
        drop(life);
        self.end_freezing(&container, &running, group, Pace::Frozen).await.map(drop)
    }

    /// Waits until all of a group has stopped; then its container is as it is `to` be. If it does not stop, it
    /// goes on.
    pub(super) async fn end_freezing(
        &self,
        container: &Container,
        running: &Running,
        group: Cgroup,
        to: Pace,
    ) -> Result<Still, Error> {
        let frozen = is_frozen_within(&group, FREEZE_TIMEOUT).await;
        let mut life = container.lock().await?;
        match (life.pace(running.number()), frozen) {
            (Some(Pace::Freezing), Ok(true)) => {
                life.set_pace(running.number(), to);
                container.show(&life);
                Ok(Still::of(&life))
            }
            (Some(Pace::Freezing), failed) => {
                let (thawed, _) = ordered(group, Cgroup::thaw).await?;
                thawed.map_err(|error| failed_to("resume", container, error))?;
                life.set_pace(running.number(), Pace::Free);
                self.no_more_still(&mut life).await;
                failed.map_err(|error| failed_to("pause", container, error))?;
                Err(Error::FreezeTimeout(container.name()))
            }
            (Some(_), _) => Err(Error::Changed(container.name())),
            (None, _) => Err(Error::NotRunning(container.name())),
        }
    }

    /// Has the processes of a container stop; they may need a moment for that.
    pub(super) async fn begin_to_freeze(
        &self,
        container: &Container,
        life: &mut Life,
        running: &Running,
    ) -> Result<Cgroup, Error> {
        if life.pace(running.number()) != Some(Pace::Free) || life.is_stopped_by_somebody() {
            return Err(container.wrong_state("to be running, and not on the way to another state"));
        }
        // What is just being executed in it would never get there.
        let alone = timeout(FREEZE_TIMEOUT, running.in_use.write()).await;
        let alone = alone.map_err(|_| Error::FreezeTimeout(container.name()))?;
        let group = self.payload(container, running)?;
        let (ordered, group) = ordered(group, Cgroup::freeze).await?;
        ordered.map_err(|error| failed_to("pause", container, error))?;
        life.set_pace(running.number(), Pace::Freezing);
        drop(alone);
        Ok(group)
    }

    /// Lets a container go on, if it is paused.
    ///
    /// # Errors
    ///
    /// [`Error::Process`], [`Error::Changed`].
    pub async fn resume(&self, request: Authorized<Resume>) -> Result<(), Error> {
        let (Resume { container: asked }, _) = request.into_parts();
        let container = self.container(&asked.id)?;
        let running = container.lock_unchanged(&asked).await?.running().cloned();
        match running {
            Some(running) => self.let_go_on(&container, &running).await,
            None => Ok(()),
        }
    }

    /// Lets the processes of a container go on, if somebody has stopped them or is about to.
    pub(super) async fn let_go_on(
        &self,
        container: &Container,
        running: &Running,
    ) -> Result<(), Error> {
        let mut life = container.lock().await?;
        match life.pace(running.number()) {
            Some(Pace::Freezing | Pace::Frozen | Pace::Still(_)) => {
                self.thaw(container, &mut life, running).await
            }
            _ => Ok(()),
        }
    }

    /// Lets the processes of a container go on, whoever has stopped them.
    pub(super) async fn thaw(
        &self,
        container: &Container,
        life: &mut Life,
        running: &Running,
    ) -> Result<(), Error> {
        let group = self.payload(container, running)?;
        let (ordered, _) = ordered(group, Cgroup::thaw).await?;
        ordered.map_err(|error| failed_to("resume", container, error))?;
        life.set_pace(running.number(), Pace::Free);
        self.no_more_still(life).await;
        container.show(life);
        Ok(())
    }

    /// Whether a container that is taken over is paused. If it was half way there it goes on: whoever
    /// wanted it was not answered.
    pub(super) fn pace_of(&self, running: &Running) -> Pace {
        let found = |group: Cgroup| {
            if group.is_frozen()? { Ok(Pace::Frozen) } else { group.thaw().map(|()| Pace::Free) }
        };
        let group = self.host.cgroups().open(running.cgroup.payload().as_str());
        group.and_then(|group| group.map_or(Ok(Pace::Free), found)).unwrap_or_else(|error| {
            tracing::warn!("whether a container is paused cannot be known: {error}");
            Pace::Free
        })
    }

    /// The control group all processes of a container are in.
    pub(super) fn payload(
        &self,
        container: &Container,
        running: &Running,
    ) -> Result<Cgroup, Error> {
        let group = self.host.cgroups().open(running.cgroup.payload().as_str());
        let group = group.map_err(|error| failed_to("find the control group of", container, error));
        group?.ok_or_else(|| Error::NotRunning(container.name()))
    }
}

pub(super) fn failed_to(
    what: &'static str,
    container: &Container,
    error: tare_runtime::Error,
) -> Error {
    Error::Process { what, name: container.name(), source: std::io::Error::other(error) }
}

/// Gives a group an order. The kernel does that under a lock of its own, for which no other caller is to
/// wait.
async fn ordered(
    group: Cgroup,
    order: fn(&Cgroup) -> Result<(), tare_runtime::Error>,
) -> Result<(Result<(), tare_runtime::Error>, Cgroup), Error> {
    brief(move || Ok((order(&group), group))).await
}

/// Whether all processes of a group have stopped, if they do so in time.
async fn is_frozen_within(group: &Cgroup, time: Duration) -> Result<bool, tare_runtime::Error> {
    let end = Instant::now() + time;
    while !group.is_frozen()? {
        if Instant::now() >= end {
            return Ok(false);
        }
        sleep(PAUSE).await;
    }
    Ok(true)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use std::fs;
    use tare_runtime::cgroup::{Host, Kind};

    /// A group that does what its files say.
    fn group(frozen: &str) -> (tempfile::TempDir, Cgroup) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("c")).unwrap();
        fs::write(root.path().join("c/cgroup.events"), format!("populated 1\nfrozen {frozen}\n"))
            .unwrap();
        let cgroup2_mount = Some(root.path().to_path_buf());
        let host = Host { kind: Kind::Unified, cgroup2_mount, controllers: vec![] };
        let group = host.open("/c").unwrap().unwrap();
        (root, group)
    }

    #[tokio::test]
    async fn what_does_not_freeze_is_not_waited_for_without_end() {
        let (_root, stubborn) = group("0");
        let (begun, time) = (Instant::now(), Duration::from_millis(20));
        assert!(!is_frozen_within(&stubborn, time).await.unwrap());
        assert!(begun.elapsed() >= time);
        let (_root, frozen) = group("1");
        assert!(is_frozen_within(&frozen, Duration::ZERO).await.unwrap());
    }

    #[tokio::test]
    async fn what_freezes_late_is_seen() {
        let (root, late) = group("0");
        let frozen = is_frozen_within(&late, Duration::from_secs(60));
        let freeze = async {
            sleep(Duration::from_millis(20)).await;
            fs::write(root.path().join("c/cgroup.events"), "frozen 1\n").unwrap();
        };
        assert!(tokio::join!(frozen, freeze).0.unwrap());
    }
}
