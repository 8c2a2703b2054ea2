//! The rows of the daemons' databases.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;

use super::names_in;
use super::things::Things;

/// What tells the names of the daemon of that `state.db` from those of others.
pub(super) fn tag(state: &Path) -> Option<String> {
    let connection = open(state).ok()?;
    connection.query_row("SELECT value FROM meta WHERE key = 'tag'", [], |row| row.get(0)).ok()
}

/// All rows of all databases in these directories and in those directly below.
pub(super) fn below(directories: &[PathBuf]) -> Things {
    let mut found = Vec::new();
    for file in directories.iter().flat_map(|dir| databases(dir)) {
        if let Err(error) = add(&file, &mut found) {
            found.push((file.display().to_string(), format!("cannot be read: {error}")));
        }
    }
    found.into_iter().collect()
}

/// How far below a directory databases are looked for: `/run/tare/db/run.db`.
const DEPTH: usize = 2;

fn databases(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    add_databases(dir, DEPTH, &mut found);
    found
}

fn add_databases(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for path in names_in(dir).iter().map(|name| dir.join(name)) {
        if path.extension().is_some_and(|it| it == "db") {
            found.push(path);
        } else if depth > 0 && path.is_dir() && !path.is_symlink() {
            add_databases(&path, depth - 1, found);
        }
    }
}

/// Opens a database so that nothing about it changes: where a daemon has it open, or was killed,
/// there is a log beside it that is read along; else the file is all there is.
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let log = format!("{}-wal", file.display());
    let how = if Path::new(&log).exists() { "mode=ro" } else { "mode=ro&immutable=1" };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{}?{how}", file.display()), flags)
}

fn add(file: &Path, found: &mut Vec<(String, String)>) -> rusqlite::Result<()> {
    let connection = open(file)?;
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let tables: Vec<String> =
        connection.prepare(tables)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        let columns = Columns::of(&connection, &table)?;
        let mut query = connection.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (name, how) = columns.describe(row)?;
            if !is_history(&table, row) {
                found.push((format!("{} {table} {name}", file.display()), how));
            }
        }
    }
    Ok(())
}

/// What stays of what is over: addresses that nobody has, so that they rest before they are used
/// again, the number of the last job, so that it is not given again, and for a minute how a session
/// ended.
fn is_history(table: &str, row: &Row<'_>) -> bool {
    let is = |column, value| row.get_ref(column).is_ok_and(|it| it == value);
    match table {
        "leases" => is("container", ValueRef::Null),
        "meta" => is("key", ValueRef::Text(b"last-job")),
        "records" => is("kind", ValueRef::Text(b"session")) && has_ended(row),
        _ => false,
    }
}

fn has_ended(row: &Row<'_>) -> bool {
    let document = row.get_ref("document").ok().and_then(|it| it.as_str().ok()).unwrap_or_default();
    let document = serde_json::from_str::<Value>(document).unwrap_or_default();
    document["stage"]["at"] == "ended"
}

/// The names of a table's columns, and whether they are of its primary key: of one that has none, all
/// are, since its rows differ by all they have.
struct Columns(Vec<(String, bool)>);

impl Columns {
    fn of(connection: &Connection, table: &str) -> rusqlite::Result<Self> {
        let mut query = connection.prepare("SELECT name, pk > 0 FROM pragma_table_info(?1)")?;
        let columns = query.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut columns: Vec<(String, bool)> = columns.collect::<Result<_, _>>()?;
        if columns.iter().all(|(_, is_key)| !is_key) {
            for (_, is_key) in &mut columns {
                *is_key = true;
            }
        }
        Ok(Self(columns))
    }

    /// The name of a row is its key, the rest is how it is.
    fn describe(&self, row: &Row<'_>) -> rusqlite::Result<(String, String)> {
        let (mut name, mut how) = (Vec::new(), Vec::new());
        for (at, (column, is_key)) in self.0.iter().enumerate() {
            let value = text(column, row.get_ref(at)?);
            if *is_key { name.push(value) } else { how.push(format!("{column}={value}")) }
        }
        Ok((name.join(" "), how.join(" ")))
    }
}

fn text(column: &str, value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "-".into(),
        // When something happened is as good as that it happened.
        _ if column.ends_with("_usec") => "then".into(),
        // How often something was changed is no part of what it is.
        _ if column == "revision" => "some".into(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => document(String::from_utf8_lossy(text).trim()),
        ValueRef::Blob(bytes) => format!("{bytes:02x?}"),
    }
}

/// The same in a document.
fn document(text: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else { return text.into() };
    for key in ["started", "started_monotonic"] {
        if let Some(time) = fields.get_mut(key).filter(|time| time.is_number()) {
            *time = "then".into();
        }
    }
    Value::Object(fields).to_string()
}
