//! One SQLite file and the one thread that talks to it.
//!
//! Callers hand in closures; whatever has queued up is run in one transaction, each closure in a
//! savepoint of its own, so that many small changes share one flush. An answer is sent only after
//! the commit: what is acknowledged is as durable as the file's [`Durability`] says.
//!
//! Each piece of work, and each commit, can be made to fail in a test.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::fault;

/// How much of an acknowledged change survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: flushed to the disk before it is acknowledged.
    PowerCut,
    /// A crash of the daemon, but not of the host. For what dies with the boot anyway.
    ProcessCrash,
}

/// Why a database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or brought to this schema.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// The file was written by a newer version that this one cannot read.
    #[error("the database {} has schema {found}, this version reads up to {known}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The newest we know.
        known: u32,
    },
    /// A change or a query failed; nothing of it happened.
    #[error("a database operation failed")]
    Operation(#[source] rusqlite::Error),
    /// A stored document does not have the shape it was written with.
    #[error("a stored {what} cannot be read")]
    Document {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The writer thread is gone; the daemon is ending.
    #[error("the database is closed")]
    Closed,
}

impl Error {
    /// Whether the cause is that the disk, or a quota, is full.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Operation(rusqlite::Error::SqliteFailure(e, _))
                if e.code == rusqlite::ErrorCode::DiskFull
        )
    }

    /// Whether the cause is that something else refers to what was to be deleted.
    pub fn is_in_use(&self) -> bool {
        matches!(
            self,
            Self::Operation(rusqlite::Error::SqliteFailure(e, _))
                if e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY
        )
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        Self::Operation(source)
    }
}

/// One piece of work.
struct Work {
    /// The code that does it.
    name: &'static str,
    act: Act,
}

/// Gets the open transaction, or why there is none.
type Act = Box<dyn FnOnce(Result<&Connection, &rusqlite::Error>) -> Answer + Send>;

/// Sends the answer of one piece of work; called with whether the commit succeeded.
type Answer = Box<dyn FnOnce(Result<(), &rusqlite::Error>) + Send>;

/// A handle on one database; cheap to clone.
#[derive(Clone)]
pub struct Db {
    queue: mpsc::UnboundedSender<Work>,
    path: PathBuf,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Db").field(&self.path).finish()
    }
}

impl Db {
    /// Opens the file, creating it, and brings it to the newest of `migrations`: each is the SQL
    /// that leads from the schema of its index to the next.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], [`Error::TooNew`].
    #[expect(clippy::disallowed_methods, reason = "the one place where databases are opened")]
    pub fn open(path: &Path, durability: Durability, migrations: &[&str]) -> Result<Self, Error> {
        let open = |source| Error::Open { path: path.into(), source };
        point(format_args!("open {}", path.display())).map_err(open)?;
        let mut connection = Connection::open(path).map_err(open)?;
        set_up(&connection, durability).map_err(open)?;
        migrate(&mut connection, path, migrations)?;
        let (queue, mut work) = mpsc::unbounded_channel();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        thread::Builder::new()
            .name("database".into())
            .spawn(move || while run_batch(&mut connection, &name, &mut work) {})
            .map_err(|e| open(rusqlite::Error::ToSqlConversionFailure(Box::new(e))))?;
        Ok(Self { queue, path: path.into() })
    }

    /// Queues `work`, for what nobody waits for; a failure is logged.
    pub fn post<F>(&self, work: F)
    where
        F: FnOnce(&Connection) -> Result<(), Error> + Send + 'static,
    {
        let done = self.run(work);
        tokio::spawn(async move {
            if let Err(error) = done.await {
                tracing::error!("a change was not written down: {error}");
            }
        });
    }

    /// Runs `work` in a transaction; what is returned waits for its commit.
    ///
    /// The work is queued at once, in the order of the calls, whether or not anybody waits. It may
    /// fail in its caller's own words: to refuse is an error, so that a refusal changes nothing.
    ///
    /// # Errors
    ///
    /// What `work` returns (then nothing of it happened), [`Error::Operation`] if the commit fails.
    pub fn run<T, E, F>(&self, work: F) -> impl Future<Output = Result<T, E>> + Send + use<T, E, F>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let name = std::any::type_name::<F>();
        let act: Act = Box::new(move |connection| {
            let result = match connection {
                Ok(connection) => in_savepoint(connection, work),
                Err(error) => Err(Error::Operation(copy(error)).into()),
            };
            Box::new(move |commit: Result<(), &rusqlite::Error>| {
                let result = match (result, commit) {
                    (Ok(_), Err(error)) => Err(Error::Operation(copy(error)).into()),
                    (result, _) => result,
                };
                // A caller that stopped waiting does not undo what is committed.
                let _ = sender.send(result);
            })
        });
        // A queue without a thread drops the work, and with it the sender of the answer.
        let _ = self.queue.send(Work { name, act });
        async { answer.await.unwrap_or_else(|_| Err(Error::Closed.into())) }
    }
}

/// Where a test makes a database fail: as `SQLite` does when the disk is full or broken.
fn point(effect: fmt::Arguments<'_>) -> rusqlite::Result<()> {
    fault::point(&effect).map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull => rusqlite::ffi::SQLITE_FULL,
            _ => rusqlite::ffi::SQLITE_IOERR,
        };
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(error.to_string()))
    })
}

/// `SQLite`'s errors cannot be cloned; a failed commit has one and many who wait for it.
fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => {
            rusqlite::Error::SqliteFailure(*code, text.clone())
        }
        other => rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
            Some(other.to_string()),
        ),
    }
}

fn set_up(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::PowerCut => "FULL",
        Durability::ProcessCrash => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.busy_timeout(std::time::Duration::from_secs(5))
}

fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), Error> {
    let open = |source| Error::Open { path: path.into(), source };
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    let found: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(open)?;
    if found > known {
        return Err(Error::TooNew { path: path.into(), found, known });
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(open)?;
    for sql in &migrations[found as usize..] {
        transaction.execute_batch(sql).map_err(open)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(open)?;
    transaction.commit().map_err(open)
}

/// Work that is waiting at most this deep shares one commit; more would make the first wait long.
const BATCH: usize = 64;

/// Runs what has queued up; false when all handles are gone.
fn run_batch(
    connection: &mut Connection,
    file: &str,
    queue: &mut mpsc::UnboundedReceiver<Work>,
) -> bool {
    let Some(first) = queue.blocking_recv() else { return false };
    let mut batch = VecDeque::from([first]);
    while let Some(next) = (batch.len() < BATCH).then(|| queue.try_recv().ok()).flatten() {
        batch.push_back(next);
    }
    while !batch.is_empty() {
        run_transaction(connection, file, &mut batch);
    }
    true
}

/// Runs one piece of work after the other in one transaction, and answers them all after its
/// commit. When the disk is full, or cannot be read, `SQLite` takes the whole transaction back at
/// once: then it ends there, and what is left of the batch has one of its own.
fn run_transaction(connection: &mut Connection, file: &str, batch: &mut VecDeque<Work>) {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            return batch.drain(..).for_each(|work| (work.act)(Err(&error))(Err(&error)));
        }
    };
    let (mut answers, mut last) = (Vec::with_capacity(batch.len()), "");
    while let Some(Work { name, act }) = batch.pop_front() {
        let begun = point(format_args!("use {file} in {name}"));
        answers.push(act(begun.as_ref().map(|()| &*transaction)));
        last = name;
        if transaction.is_autocommit() {
            break;
        }
    }
    let outcome = if transaction.is_autocommit() {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let why = "the transaction was taken back because one of its changes failed";
        Err(rusqlite::Error::SqliteFailure(code, Some(why.into())))
    } else {
        point(format_args!("commit to {file} in {last}")).and_then(|()| transaction.commit())
    };
    for answer in answers {
        answer(outcome.as_ref().copied());
    }
}

fn in_savepoint<T, E: From<Error>>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let execute = |sql| connection.execute_batch(sql).map_err(Error::from);
    execute("SAVEPOINT work")?;
    let result = work(connection);
    if connection.is_autocommit() {
        // The transaction went, and the savepoint with it.
        return result;
    }
    let end = if result.is_ok() { "RELEASE work" } else { "ROLLBACK TO work; RELEASE work" };
    execute(end)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &[&str] = &["CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT NOT NULL) STRICT"];

    fn scratch(durability: Durability) -> (tempfile::TempDir, Db) {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("t.db"), durability, SCHEMA).unwrap();
        (dir, db)
    }

    fn insert(db: &Db, key: i64) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        db.run(move |c| Ok(c.execute("INSERT INTO t VALUES (?1, 'x')", [key]).map(drop)?))
    }

    async fn count(db: &Db) -> i64 {
        let counted: Result<i64, Error> =
            db.run(|c| Ok(c.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?)).await;
        counted.unwrap()
    }

    #[tokio::test]
    async fn a_failure_takes_back_its_own_work_only() {
        let (_dir, db) = scratch(Durability::ProcessCrash);
        insert(&db, 1).await.unwrap();
        let both = db.run(|c| {
            c.execute("INSERT INTO t VALUES (2, 'y')", [])?;
            Ok(c.execute("INSERT INTO t VALUES (1, 'z')", []).map(drop)?)
        });
        let (both, other) = tokio::join!(both, insert(&db, 3));
        assert!(matches!(both, Err(Error::Operation(_))), "{both:?}");
        other.unwrap();
        assert_eq!(count(&db).await, 2);
    }

    #[tokio::test]
    async fn a_refusal_in_the_callers_words_takes_back_what_came_before_it() {
        #[derive(Debug)]
        enum Refused {
            Enough,
            Database(#[expect(dead_code, reason = "shown when the test fails")] Error),
        }
        impl From<Error> for Refused {
            fn from(error: Error) -> Self {
                Self::Database(error)
            }
        }
        let (_dir, db) = scratch(Durability::ProcessCrash);
        let refused: Result<(), Refused> = db
            .run(|c| {
                c.execute("INSERT INTO t VALUES (1, 'x')", []).map_err(Error::from)?;
                Err(Refused::Enough)
            })
            .await;
        assert!(matches!(refused, Err(Refused::Enough)), "{refused:?}");
        assert_eq!(count(&db).await, 0);
    }

    #[tokio::test]
    async fn a_full_disk_in_the_middle_takes_nothing_else_along_and_leaves_nothing_half_done() {
        let (_dir, db) = scratch(Durability::ProcessCrash);
        let full = |c: &Connection| -> Result<(), Error> {
            c.pragma_update(None, "max_page_count", 3)?;
            let big = "x".repeat(1 << 20);
            let full = c.execute("INSERT INTO t VALUES (2, ?1)", [big]);
            c.pragma_update(None, "max_page_count", 1_000_000)?;
            Ok(full.map(drop)?)
        };
        // Held up until all have queued, so that they are one batch.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let held = db.run(move |_| {
            wait.recv().unwrap();
            Ok::<_, Error>(())
        });
        let (before, failing, after) = (insert(&db, 1), db.run(full), insert(&db, 3));
        go.send(()).unwrap();
        held.await.ok();
        let (before, failing, after) = tokio::join!(before, failing, after);
        assert!(failing.unwrap_err().is_full());
        after.unwrap();
        // Told that it failed, or there: never both.
        assert_eq!(count(&db).await, 1 + i64::from(before.is_ok()));
    }

    #[tokio::test]
    async fn many_writers_share_the_thread_and_all_are_answered() {
        let (_dir, db) = scratch(Durability::PowerCut);
        let all: Vec<_> = (0..300)
            .map(|key| {
                let db = db.clone();
                tokio::spawn(async move { insert(&db, key).await })
            })
            .collect();
        for one in all {
            one.await.unwrap().unwrap();
        }
        assert_eq!(count(&db).await, 300);
    }

    #[tokio::test]
    async fn opens_again_what_it_wrote_and_refuses_what_is_newer() {
        let (dir, db) = scratch(Durability::PowerCut);
        insert(&db, 7).await.unwrap();
        drop(db);
        let path = dir.path().join("t.db");
        let db = Db::open(&path, Durability::PowerCut, SCHEMA).unwrap();
        assert_eq!(count(&db).await, 1);
        drop(db);
        let newer = &[SCHEMA[0], "CREATE TABLE u (k INTEGER) STRICT"];
        drop(Db::open(&path, Durability::PowerCut, newer).unwrap());
        let error = Db::open(&path, Durability::PowerCut, SCHEMA).unwrap_err();
        assert!(matches!(error, Error::TooNew { found: 2, known: 1, .. }), "{error:?}");
    }
}
