//! What lives of a container, and what of that is seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{HeldRoot, Running};
use crate::engine::Health;
use crate::engine::follow::Plan;
use crate::engine::ports::Ports;
use crate::engine::records::durable::LifeRow;
use crate::engine::records::volatile::{Incarnation, NetworkRecord, RootMount};
use crate::engine::view::{self, State};

/// What lives of a container.
#[derive(Debug)]
pub(in crate::engine) struct Life {
    /// What is there of it.
    pub(in crate::engine) now: Now,
    /// How the last life began and ended.
    pub(in crate::engine) last: LifeRow,
    /// Number of the last incarnation.
    pub(in crate::engine) incarnation: u32,
    /// Number of the last exec session.
    pub(in crate::engine) session: u32,
    /// What is to follow its end, while it has ended.
    pub(in crate::engine) next: Plan,
    /// How many lives in a row were short.
    pub(in crate::engine) short: u32,
    /// How many have it end to start it again themselves: then nothing else follows.
    pub(in crate::engine) kept: u32,
    /// How many write to its root from outside: until they have ended, it does not start and is not
    /// removed.
    pub(in crate::engine) writers: u32,
    /// Where its root is mounted, by whose it is.
    pub(in crate::engine) mounted: BTreeMap<u32, RootMount>,
    /// How often it was let go on where it had been stopped.
    pub(in crate::engine) moves: u32,
    /// Its root, for as long as others should not have to flush it.
    pub(in crate::engine) root: HeldRoot,
}

/// What is there of a container.
#[derive(Debug)]
pub(in crate::engine) enum Now {
    /// Nothing.
    Idle,
    /// It is being made.
    Starting,
    /// It runs.
    Running {
        /// What it is made of.
        record: Box<Incarnation>,
        /// Its processes.
        running: Arc<Running>,
        /// How many are stopping it.
        stopping: u32,
        /// Whether its processes are let run.
        pace: Pace,
        /// The ports of the host that lead to it: nobody else gets them while this lives.
        ports: Ports,
    },
    /// It has ended, and something of it could not be taken down.
    Broken(Box<Incarnation>),
    /// Something is, and may live, but what was written down about it cannot be read.
    Unreadable,
    /// Nothing, and it is on its way out.
    Removing,
    /// Its row is gone, and not all of its files: the one thing that can be done with it is to remove
    /// it.
    Unlisted,
    /// It is gone; whoever waited for the lock comes too late.
    Removed,
}

/// Whether the processes of a container are let run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Pace {
    /// Not yet: the first of them waits to be started.
    Waiting,
    /// They are.
    Free,
    /// They are being stopped where they are.
    Freezing,
    /// They are stopped where they are.
    Frozen,
    /// The same, for as long as so many read what they wrote.
    Still(u32),
}

impl Life {
    /// Of a container that does not run.
    pub(super) fn new(last: LifeRow) -> Self {
        Self {
            now: Now::Idle,
            last,
            incarnation: 0,
            session: 0,
            next: Plan::NONE,
            short: 0,
            kept: 0,
            writers: 0,
            mounted: BTreeMap::new(),
            moves: 0,
            root: HeldRoot::default(),
        }
    }

    /// Its processes, if it runs.
    pub(in crate::engine) fn running(&self) -> Option<&Arc<Running>> {
        match &self.now {
            Now::Running { running, .. } => Some(running),
            _ => None,
        }
    }

    /// Whether all of it is there, and it has not been let run.
    pub(in crate::engine) fn waits(&self) -> bool {
        matches!(self.now, Now::Running { pace: Pace::Waiting, .. })
    }

    /// What it is made of, if it runs.
    pub(super) fn record(&self) -> Option<Arc<Incarnation>> {
        match &self.now {
            Now::Running { record, .. } => Some(Arc::new((**record).clone())),
            _ => None,
        }
    }

    /// Its network, if it runs and has one of its own.
    pub(super) fn network(&self) -> Option<&NetworkRecord> {
        match &self.now {
            Now::Running { pace: Pace::Waiting, .. } => None,
            Now::Running { record, .. } => record.network.as_ref(),
            _ => None,
        }
    }

    /// Somebody stops it, or gives that up again; nothing if it is another incarnation by now.
    pub(in crate::engine) fn count_stops(&mut self, number: u32, count: impl FnOnce(u32) -> u32) {
        if let Now::Running { running, stopping, .. } = &mut self.now
            && running.number() == number
        {
            *stopping = count(*stopping);
        }
    }

    /// Whether incarnation `number` is let run; nothing if it is another one by now, or none.
    pub(in crate::engine) fn pace(&self, number: u32) -> Option<Pace> {
        match &self.now {
            Now::Running { running, pace, .. } if running.number() == number => Some(*pace),
            _ => None,
        }
    }

    /// From now on incarnation `number` is let run, or not; nothing if it is another one by now.
    pub(in crate::engine) fn set_pace(&mut self, number: u32, to: Pace) {
        if let Now::Running { running, pace, .. } = &mut self.now
            && running.number() == number
        {
            *pace = to;
            self.moves = self.moves.wrapping_add(u32::from(to == Pace::Free));
        }
    }

    /// Whether it runs, and somebody stops it.
    pub(in crate::engine) fn is_stopped_by_somebody(&self) -> bool {
        matches!(self.now, Now::Running { stopping: 1.., .. })
    }

    /// Where it is, in the words of the contract.
    fn state(&self) -> State {
        match &self.now {
            Now::Idle if self.last.exit.is_some() => State::Exited,
            Now::Idle => State::Configured,
            Now::Starting => State::Starting,
            Now::Running { pace: Pace::Waiting, .. } => State::Created,
            Now::Running { stopping: 0, pace: Pace::Frozen | Pace::Still(_), .. } => State::Paused,
            Now::Running { stopping: 0, .. } => State::Running,
            Now::Running { .. } => State::Stopping,
            Now::Broken(_) | Now::Unreadable | Now::Unlisted => State::Broken,
            Now::Removing | Now::Removed => State::Removing,
        }
    }

    /// Writes all that is seen of it into a view; what else is there stays.
    pub(super) fn describe(&self, view: &mut view::Container) {
        let record = match &self.now {
            Now::Running { record, .. } => Some(record),
            _ => None,
        };
        view.state = self.state();
        view.process = record
            .and_then(|record| record.init.as_ref())
            .map(|init| view::Process { pid: init.pid, pidfd_id: init.pidfd_inode });
        view.health = record.map_or(Health::None, |record| record.health);
        view.exit = self.last.exit;
        view.started = self.last.started;
        view.started_monotonic = record.and_then(|record| record.started_monotonic);
        view.finished = self.last.finished;
        view.restarts = self.last.restarts;
        view.cgroup = record.map(|record| record.cgroup.to_string()).unwrap_or_default();
        let network = record.and_then(|record| record.network.as_ref());
        view.addresses = network.map(NetworkRecord::addresses).unwrap_or_default();
        if let Some(network) = network {
            view.ports = network.publications.iter().map(|p| (&p.port).into()).collect();
        }
        if record.is_none() {
            view.processes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::Usec;
    use crate::engine::view::{Exit, ExitReason};

    fn life(now: Now, exit: Option<Exit>) -> Life {
        Life { now, ..Life::new(LifeRow { exit, ..LifeRow::default() }) }
    }

    #[test]
    fn the_state_says_what_is_there() {
        let exit = Some(Exit { code: 0, signal: 0, reason: ExitReason::Exited });
        let left = || Now::Broken(Box::new(Incarnation::sample()));
        for (now, exit, state) in [
            (Now::Idle, None, State::Configured),
            (Now::Idle, exit, State::Exited),
            (Now::Starting, exit, State::Starting),
            (left(), exit, State::Broken),
            // It may run: neither configured nor exited.
            (Now::Unreadable, None, State::Broken),
            (Now::Removing, exit, State::Removing),
            (Now::Unlisted, exit, State::Broken),
        ] {
            let about = format!("{now:?}");
            assert_eq!(life(now, exit).state(), state, "{about}");
        }
    }

    #[test]
    fn of_what_has_ended_nothing_is_seen_but_how() {
        let exit = Exit { code: 3, signal: 0, reason: ExitReason::Exited };
        let (started, finished) = (Some(Usec(1)), Some(Usec(2)));
        let last = LifeRow { started, finished, exit: Some(exit), ..LifeRow::default() };
        let life = Life::new(last);
        let mut view = view::Container::clone(&super::super::Container::sample("c").view());
        view.process = Some(view::Process { pid: 1, pidfd_id: 2 });
        view.cgroup = "/tare/x".into();
        (view.started_monotonic, view.processes, view.jobs) = (started, vec![1], vec![7]);
        life.describe(&mut view);
        let ended = view::Container { state: State::Exited, jobs: vec![7], ..view.clone() };
        assert_eq!(view, ended);
        assert_eq!((view.process, view.cgroup.as_str()), (None, ""));
        assert_eq!((view.started_monotonic, view.processes), (None, Vec::new()));
        assert_eq!((view.started, view.finished, view.exit), (started, finished, Some(exit)));
    }
}
