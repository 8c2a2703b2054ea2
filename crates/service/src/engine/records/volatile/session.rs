//! Exec sessions, from before they are begun until they are forgotten.

use std::fmt;
use std::str::FromStr;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tare_runtime::ContainerId;
use tare_runtime::identity::Identity;

use super::record::{self, Record};
use crate::db::Error;
use crate::engine::clock::Usec;
use crate::engine::records::document::Version;
use crate::engine::view::Exit;

/// What tells one session from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SessionKey {
    pub(crate) container: ContainerId,
    /// Counts up within the container.
    pub(crate) number: u32,
}

/// A process that was run in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    pub(crate) v: Version<1>,
    pub(crate) key: SessionKey,
    /// The incarnation of the container it was run in.
    pub(crate) incarnation: u32,
    pub(crate) started: Usec,
    pub(crate) started_by_uid: u32,
    /// Whether it is nobody's business but ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unseen: bool,
    /// Whether it was given a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) terminal: bool,
    pub(crate) stage: SessionStage,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(tag = "at")]
pub(crate) enum SessionStage {
    /// Being begun: whoever asked for it has had no answer.
    Beginning,
    /// It runs, or ran.
    Begun {
        /// Its conmon, if that was seen.
        supervisor: Option<Identity>,
        /// The process, if that was seen.
        process: Option<Identity>,
    },
    /// It has ended, and that is about to be told, or was.
    Ended {
        /// How.
        exit: Exit,
    },
}

/// The container, a slash, the number.
impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.number)
    }
}

impl FromStr for SessionKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/');
        parts
            .and_then(|(container, number)| {
                Some(Self { container: container.parse().ok()?, number: number.parse().ok()? })
            })
            .ok_or("not the key of a session")
    }
}

impl TryFrom<String> for SessionKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SessionKey> for String {
    fn from(key: SessionKey) -> Self {
        key.to_string()
    }
}

impl Record for Session {
    const KIND: &'static str = "session";
    type Key = SessionKey;

    fn key(&self) -> &SessionKey {
        &self.key
    }
}

/// Whether anything may be executed in a container of that incarnation: what cannot be read may live.
pub(crate) fn may_have_sessions(
    c: &Connection,
    container: &ContainerId,
    incarnation: u32,
) -> Result<bool, Error> {
    let may_live = |found: &record::Found<Session>| match found {
        Ok(Session { key, incarnation: its, stage, .. }) => {
            key.container == *container
                && *its == incarnation
                && !matches!(stage, SessionStage::Ended { .. })
        }
        Err((key, _)) => key.container == *container,
    };
    Ok(record::all::<Session>(c)?.iter().any(may_live))
}

/// Forgets a session.
pub(crate) fn forget_session(c: &Connection, key: &SessionKey) -> Result<(), Error> {
    record::delete::<Session>(c, key)
}

/// Forgets all sessions of a container, also those that cannot be read.
pub(crate) fn forget_sessions(c: &Connection, container: &ContainerId) -> Result<(), Error> {
    let theirs = |key: &SessionKey| key.container == *container;
    let keys = record::keys::<Session>(c)?;
    keys.iter().filter(|key| theirs(key)).try_for_each(|key| forget_session(c, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::volatile::scratch;
    use crate::engine::view::ExitReason;

    const GOLDEN: &str = include_str!("session.json");

    fn sample() -> Session {
        serde_json::from_str(GOLDEN).unwrap()
    }

    /// A daemon that was upgraded reads what its predecessor wrote.
    #[test]
    fn the_stored_form_is_a_format() {
        let stored: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
        assert_eq!(serde_json::to_value(sample()).unwrap(), stored);
        let exit = Exit { code: 5, signal: 0, reason: ExitReason::Exited };
        for (stage, form) in [
            (SessionStage::Beginning, r#"{"at":"beginning"}"#),
            (
                SessionStage::Ended { exit },
                r#"{"at":"ended","exit":{"code":5,"signal":0,"reason":"exited"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&stage).unwrap(), form);
            assert_eq!(serde_json::from_str::<SessionStage>(form).unwrap(), stage);
        }
    }

    #[test]
    fn what_cannot_be_read_may_live() {
        let c = scratch();
        let (of, other) = (sample(), ContainerId::random().unwrap());
        let (ours, number) = (of.key.container.clone(), of.incarnation);
        let may_live = |container, number| may_have_sessions(&c, container, number).unwrap();
        assert!(!may_live(&ours, number));
        record::put(&c, &of).unwrap();
        assert!(may_live(&ours, number));
        assert!(!may_live(&ours, number + 1));
        assert!(!may_live(&other, number));
        let exit = Exit { code: 5, signal: 0, reason: ExitReason::Exited };
        record::put(&c, &Session { stage: SessionStage::Ended { exit }, ..of }).unwrap();
        assert!(!may_live(&ours, number));
        c.execute("UPDATE records SET document = '{'", []).unwrap();
        assert!(may_live(&ours, number));
        assert!(!may_live(&other, number));
    }

    #[test]
    fn sessions_go_with_their_container_and_no_others() {
        let c = scratch();
        let (ours, other) = (sample().key.container, ContainerId::random().unwrap());
        for (container, number) in [(&ours, 1), (&ours, 2), (&other, 1)] {
            let key = SessionKey { container: container.clone(), number };
            record::put(&c, &Session { key, ..sample() }).unwrap();
        }
        c.execute("UPDATE records SET document = '{' WHERE key LIKE '%/2'", []).unwrap();
        forget_sessions(&c, &ours).unwrap();
        let left = record::keys::<Session>(&c).unwrap();
        assert_eq!(left, [SessionKey { container: other, number: 1 }]);
        forget_session(&c, &left[0]).unwrap();
        assert!(record::keys::<Session>(&c).unwrap().is_empty());
        for bad in ["", "/", "x/1", &ours.to_string(), &format!("{ours}/x")] {
            assert!(bad.parse::<SessionKey>().is_err(), "{bad}");
        }
    }
}
