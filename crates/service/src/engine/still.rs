//! Containers that stand still while somebody reads what they wrote.
//!
//! They are stopped where they are, as by a pause, and the last who reads lets them go on. A stop, or somebody who
//! resumes one, does not wait for that: then it has moved, and who reads is told so at the end. That they
//! stand still for somebody is written down: when the daemon is killed, the next one lets them go on.

use std::time::Duration;

use tokio::time::sleep;

use super::container::{Container, Life, Now, Pace, Running};
use super::records::volatile::Incarnation;
use super::{Engine, Error, view};

/// How often it is looked whether somebody else has paused it.
const PAUSE: Duration = Duration::from_millis(2);

/// How a container stands still; as long as it is this, it has not moved.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Still {
    incarnation: u32,
    pace: Option<Pace>,
    /// How often it was let go on.
    moves: u32,
}

impl Still {
    pub(super) fn of(life: &Life) -> Self {
        let pace = life.running().and_then(|running| life.pace(running.number()));
        // However many there are.
        let pace = pace.map(|pace| if let Pace::Still(_) = pace { Pace::Still(0) } else { pace });
        Self { incarnation: life.incarnation, pace, moves: life.moves }
    }
}

impl Engine {
    /// Has a container stand still, if it runs and is not paused anyway, until
    /// [`may_move`](Self::may_move).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidState`], [`Error::FreezeTimeout`], after which it runs on, and [`Error::Changed`].
    pub(super) async fn stand_still(
        &self,
        container: &Container,
        asked: &view::Container,
    ) -> Result<Still, Error> {
        loop {
            let mut life = container.lock_unchanged(asked).await?;
            let Some(running) = life.running().cloned() else {
                // It is about to run.
                if matches!(life.now, Now::Starting) {
                    return Err(container.wrong_state("not to be on the way to another state"));
                }
                return Ok(Still::of(&life));
            };
            match life.pace(running.number()) {
                // That ends, one way or the other.
                Some(Pace::Freezing) => {}
                Some(Pace::Still(readers)) => {
                    life.set_pace(running.number(), Pace::Still(readers + 1));
                    return Ok(Still::of(&life));
                }
                Some(Pace::Frozen | Pace::Waiting) => return Ok(Still::of(&life)),
                Some(Pace::Free) | None => {
                    self.note_still(&mut life, true).await?;
                    let group = self.begin_to_freeze(container, &mut life, &running).await;
                    let group = match group {
                        Ok(group) => group,
                        Err(error) => {
                            self.no_more_still(&mut life).await;
                            return Err(error);
                        }
                    };
                    drop(life);
                    return self.end_freezing(container, &running, group, Pace::Still(1)).await;
                }
            }
            drop(life);
            sleep(PAUSE).await;
        }
    }

    /// One who had a container stand still does not need that any more; whoever is the last lets it go on.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] if it has moved meanwhile; [`Error::Process`], after which it stands still.
    pub(super) async fn may_move(&self, container: &Container, still: &Still) -> Result<(), Error> {
        let mut life = container.lock().await?;
        if Still::of(&life) != *still {
            return Err(Error::Changed(container.name()));
        }
        let Some(running) = life.running().cloned() else { return Ok(()) };
        match life.pace(running.number()) {
            Some(Pace::Still(readers @ 2..)) => {
                life.set_pace(running.number(), Pace::Still(readers - 1));
                Ok(())
            }
            Some(Pace::Still(_)) => self.thaw(container, &mut life, &running).await,
            _ => Ok(()),
        }
    }

    /// Lets a container go on that stood still for somebody who ended with an earlier daemon.
    pub(super) async fn move_again(&self, record: &mut Incarnation, running: &Running) -> Pace {
        let group = self.host.cgroups().open(running.cgroup.payload().as_str());
        let thawed = group.and_then(|group| group.map_or(Ok(()), |group| group.thaw()));
        if let Err(error) = thawed {
            tracing::warn!(container_id = %record.container, "it stands still: {error}");
            return Pace::Frozen;
        }
        record.still = false;
        if let Err(error) = self.write_record(record).await {
            tracing::warn!(container_id = %record.container, "{}", error.chain());
        }
        Pace::Free
    }

    /// Writes down that it stands still for somebody, or does not.
    async fn note_still(&self, life: &mut Life, still: bool) -> Result<(), Error> {
        let Now::Running { record, .. } = &mut life.now else { return Ok(()) };
        if record.still == still {
            return Ok(());
        }
        let before = std::mem::replace(&mut record.still, still);
        let written = self.write_record(record).await;
        if written.is_err() {
            record.still = before;
        }
        written
    }

    /// It stands still for nobody. If that cannot be written down, a new daemon lets it go on once more.
    pub(super) async fn no_more_still(&self, life: &mut Life) {
        if let Err(error) = self.note_still(life, false).await {
            tracing::warn!("{}", error.chain());
        }
    }
}
