//! What one start of a container is made of.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tare_netns::NetworkName;
use tare_runtime::ContainerId;
use tare_runtime::identity::Identity;
use tare_spawn::{CgroupPath, OciRuntime};
use tare_specgen::Resources;

use super::leases::free_leases;
use super::place::NetworkRecord;
use super::record::{self, Record};
use crate::db::Error;
use crate::engine::Health;
use crate::engine::checkpoint::CheckpointId;
use crate::engine::clock::Usec;
use crate::engine::records::document::Version;
use crate::engine::view::Exit;

/// How far one start of a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(tag = "at")]
pub(crate) enum Stage {
    /// Being made; nothing of it may stay if the daemon ends here.
    Preparing,
    /// Its first process is there, and is kept until it ends.
    Running,
    /// It has ended; what is left of it has to be taken down, and the end told.
    Ended {
        /// How.
        exit: Exit,
        /// When that was seen.
        finished: Usec,
    },
}

/// A change of a container that runs, written down before it is begun: a daemon that finds it
/// finishes it or takes it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Doing {
    /// Its first process, which waits, is told to go on. That is carried through.
    Start,
    /// Its interface on the network of that name is made. That is taken back: nobody was promised
    /// it yet.
    Connect(NetworkName),
    /// Its interface on the network of that name is taken away. That is carried through.
    Disconnect(NetworkName),
    /// It ends, if there is that checkpoint.
    Checkpoint(CheckpointId),
    /// It is limited to this. That is taken back, unless it is what it is to have by now.
    Limit(Box<Resources>),
}

impl Doing {
    /// The network that a container is put on, or taken off.
    pub(crate) fn network(&self) -> Option<&NetworkName> {
        match self {
            Self::Connect(network) | Self::Disconnect(network) => Some(network),
            Self::Start | Self::Checkpoint(_) | Self::Limit(_) => None,
        }
    }
}

/// One start of a container, from before the first effect until all is taken down again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Incarnation {
    pub(crate) v: Version<1>,
    pub(crate) container: ContainerId,
    pub(crate) number: u32,
    pub(crate) stage: Stage,
    /// What is being changed about it. Everything else here is what there is then at most.
    pub(crate) doing: Option<Doing>,
    pub(crate) runtime: OciRuntime,
    /// Below the cgroup2 root; `supervisor` and `payload` are in it.
    pub(crate) cgroup: CgroupPath,
    /// What is made of the network, if it has one of its own. That nothing is said of it is an
    /// error: what is there would be left behind.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(crate) network: Option<NetworkRecord>,
    pub(crate) supervisor: Option<Identity>,
    pub(crate) init: Option<Identity>,
    pub(crate) started: Option<Usec>,
    pub(crate) started_monotonic: Option<Usec>,
    /// Whether it is well.
    #[serde(default, skip_serializing_if = "Health::is_none")]
    pub(crate) health: Health,
    /// Somebody wants it to end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) to_end: bool,
    /// Its processes stand still for somebody who ends with the daemon: the next one lets them go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) still: bool,
}

impl Incarnation {
    /// As it is written down before `doing` is begun: with all that may be there from then on.
    pub(crate) fn intend(&mut self, doing: Doing) {
        if doing == Doing::Start {
            self.stage = Stage::Running;
        }
        self.doing = Some(doing);
    }

    /// Whether its first process was, or may have been, told to go on.
    pub(crate) fn was_let_run(&self) -> bool {
        self.started.is_some() || self.doing == Some(Doing::Start)
    }

    /// As it is written down after that.
    pub(crate) fn fulfil(&mut self, now: Usec, now_monotonic: Usec) {
        match self.doing.take() {
            Some(Doing::Start) => {
                self.started = Some(now);
                self.started_monotonic = Some(now_monotonic);
            }
            Some(Doing::Disconnect(network)) => {
                if let Some(record) = &mut self.network {
                    record.places.retain(|place| place.network != network);
                }
            }
            Some(Doing::Connect(_) | Doing::Checkpoint(_) | Doing::Limit(_)) | None => {}
        }
    }
}

impl Record for Incarnation {
    const KIND: &'static str = "incarnation";
    type Key = ContainerId;

    fn key(&self) -> &ContainerId {
        &self.container
    }
}

/// Forgets a start, after all of it is taken down, and frees its addresses.
pub(crate) fn end_incarnation(c: &Connection, id: &ContainerId) -> Result<(), Error> {
    record::delete::<Incarnation>(c, id)?;
    free_leases(c, id)
}

#[cfg(test)]
impl Incarnation {
    pub(crate) fn sample() -> Self {
        serde_json::from_str(include_str!("incarnation.json")).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::volatile::scratch;
    use crate::engine::view::ExitReason;

    const GOLDEN: &str = include_str!("incarnation.json");

    fn insert(c: &Connection, key: &str, document: &str) {
        c.execute("INSERT INTO records VALUES ('incarnation', ?1, ?2)", [key, document]).unwrap();
    }

    /// A daemon that was upgraded reads what its predecessor wrote.
    #[test]
    fn the_stored_form_is_a_format() {
        let stored: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
        assert_eq!(serde_json::to_value(Incarnation::sample()).unwrap(), stored);
        let still = Incarnation { still: true, ..Incarnation::sample() };
        assert_eq!(serde_json::to_value(&still).unwrap()["still"], true);
        let exit = Exit { code: 137, signal: 9, reason: ExitReason::Signaled };
        let ended = Stage::Ended { exit, finished: Usec(5) };
        for (stage, form) in [
            (Stage::Preparing, r#"{"at":"preparing"}"#),
            (Stage::Running, r#"{"at":"running"}"#),
            (
                ended,
                r#"{"at":"ended","exit":{"code":137,"signal":9,"reason":"signaled"},"finished":5}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&stage).unwrap(), form);
            assert_eq!(serde_json::from_str::<Stage>(form).unwrap(), stage);
        }
    }

    #[test]
    fn a_change_is_written_down_before_it_is_begun_and_after_it_is_done() {
        let mut record = Incarnation { stage: Stage::Preparing, ..Incarnation::sample() };
        (record.started, record.started_monotonic) = (None, None);
        assert!(!record.was_let_run(), "it waits");
        record.intend(Doing::Start);
        assert!(record.was_let_run(), "nobody knows");
        assert_eq!((record.stage, record.started), (Stage::Running, None));
        let form = serde_json::to_value(&record).unwrap();
        assert_eq!(form["doing"], "start");
        record.fulfil(Usec(5), Usec(6));
        let times = (record.started, record.started_monotonic);
        assert_eq!((record.doing, times), (None, (Some(Usec(5)), Some(Usec(6)))));
    }

    #[test]
    fn what_cannot_be_read_is_still_known_by_its_key() {
        let c = scratch();
        let whole: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
        let (mut lacks, mut newer, mut more) = (whole.clone(), whole.clone(), whole);
        lacks.as_object_mut().unwrap().remove("network");
        newer["v"] = 2.into();
        more["unheard-of"] = true.into();
        let broken = [lacks.to_string(), newer.to_string(), more.to_string(), "{".into()];
        for (n, document) in broken.iter().enumerate() {
            insert(&c, &format!("{n:064x}"), document);
        }
        record::put(&c, &Incarnation::sample()).unwrap();
        let found = record::all::<Incarnation>(&c).unwrap();
        let unread: Vec<String> =
            found.iter().filter_map(|it| Some(it.as_ref().err()?.0.to_string())).collect();
        assert_eq!(unread, (0..4).map(|n| format!("{n:064x}")).collect::<Vec<_>>());
        assert_eq!(record::keys::<Incarnation>(&c).unwrap().len(), 5);
        let first = format!("{:064x}", 0).parse().unwrap();
        end_incarnation(&c, &first).unwrap();
        assert_eq!(record::keys::<Incarnation>(&c).unwrap().len(), 4);
    }
}
