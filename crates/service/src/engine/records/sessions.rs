//! `run.db`: exec sessions, from before they are begun until they are forgotten.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tare_runtime::ContainerId;
use tare_runtime::identity::Identity;

use crate::db::{Error, from_document, to_document};
use crate::engine::clock::Usec;
use crate::engine::view::Exit;

/// A process that was run in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Version of this shape.
    pub(crate) v: u32,
    pub(crate) container: ContainerId,
    pub(crate) number: u32,
    /// The incarnation of the container it was run in.
    pub(crate) incarnation: u32,
    pub(crate) started: Usec,
    pub(crate) started_by_uid: u32,
    pub(crate) stage: Stage,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(tag = "at")]
pub(crate) enum Stage {
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

/// Writes down how far a session has come.
pub(crate) fn put(c: &Connection, session: &Session) -> Result<(), Error> {
    let document = to_document("session", session)?;
    c.prepare_cached("INSERT OR REPLACE INTO sessions VALUES (?1, ?2, ?3)")?.execute(params![
        session.container.as_str(),
        session.number,
        document
    ])?;
    Ok(())
}

/// Forgets a session.
pub(crate) fn forget(c: &Connection, container: &ContainerId, number: u32) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM sessions WHERE container = ?1 AND number = ?2")?
        .execute(params![container.as_str(), number])?;
    Ok(())
}

/// All sessions that are not forgotten; those that cannot be read are.
pub(crate) fn take_readable(c: &Connection) -> Result<Vec<Session>, Error> {
    let mut query = c.prepare("SELECT document FROM sessions ORDER BY container, number")?;
    let documents = query.query_map([], |row| row.get::<_, String>(0))?;
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    let read = |document: &String| from_document("session", document).ok();
    let sessions: Vec<Session> = documents.iter().filter_map(read).collect();
    if sessions.len() < documents.len() {
        // Of use to nobody: what they are about has a record of its own.
        c.execute("DELETE FROM sessions", [])?;
        sessions.iter().try_for_each(|session| put(c, session))?;
    }
    Ok(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::volatile::MIGRATIONS;
    use crate::engine::view::ExitReason;

    #[test]
    fn a_session_is_kept_until_it_is_forgotten() {
        let c = Connection::open_in_memory().unwrap();
        for sql in MIGRATIONS {
            c.execute_batch(sql).unwrap();
        }
        let container = ContainerId::random().unwrap();
        let session = |number, stage| Session {
            v: 1,
            container: container.clone(),
            number,
            incarnation: 3,
            started: Usec(7),
            started_by_uid: 1000,
            stage,
        };
        let exit = Exit { code: 5, signal: 0, reason: ExitReason::Exited };
        let process = Some(Identity { pid: 7, start_time: 8, pidfd_inode: 9 });
        let first = session(1, Stage::Ended { exit });
        let second = session(2, Stage::Begun { supervisor: None, process });
        put(&c, &session(1, Stage::Beginning)).unwrap();
        put(&c, &second).unwrap();
        put(&c, &first).unwrap();
        assert_eq!(take_readable(&c).unwrap(), [first.clone(), second.clone()]);
        c.execute("INSERT INTO sessions VALUES ('x', 1, '{}')", []).unwrap();
        assert_eq!(take_readable(&c).unwrap(), [first, second.clone()]);
        forget(&c, &container, 1).unwrap();
        assert_eq!(take_readable(&c).unwrap(), [second]);
        let count = "SELECT count(*) FROM sessions";
        assert_eq!(c.query_row(count, [], |row| row.get::<_, u32>(0)).unwrap(), 1);
    }
}
