//! What is shown: lines, and the cells of lists they are made of.

use std::io::Write;

use zbus::Variant;

use crate::Failure;
use crate::client::Row;

/// A line on standard output.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(Failure::io("cannot write"))
}

/// A cell that is a text; nothing if there is none.
pub(crate) fn text(row: &Row, key: &str) -> String {
    row.get(key)
        .and_then(|value| value.try_clone().ok())
        .and_then(|value| String::try_from(value).ok())
        .unwrap_or_default()
}

/// A cell that is a number; 0 if there is none.
pub(crate) fn number(row: &Row, key: &str) -> u64 {
    let value = row.get(key).map(|value| &**value);
    match value {
        Some(Variant::U32(number)) => (*number).into(),
        Some(Variant::U64(number)) => *number,
        _ => 0,
    }
}
