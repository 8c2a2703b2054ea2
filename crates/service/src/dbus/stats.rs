//! Figures, as they go over D-Bus.

use std::collections::HashMap;

use tare_runtime::ContainerId;
use zbus::{ObjectPath, Variant};

use super::paths;
use crate::engine::object::ObjectId;
use crate::engine::{Cell, Figure, Stats};

/// `a{sv}`.
type Dict = HashMap<&'static str, Variant<'static>>;

/// Figures of one container.
pub(crate) fn dict(stats: Stats) -> Dict {
    stats.0.into_iter().map(|(key, figure)| (key, variant(figure))).collect()
}

/// The same, with whose they are.
pub(crate) fn row(id: ContainerId, stats: Stats) -> Dict {
    let mut row = dict(stats);
    let path = ObjectPath::from(paths::of(&ObjectId::Container(id)));
    row.insert("Container", Variant::from(path));
    row
}

fn variant(figure: Figure) -> Variant<'static> {
    match figure {
        Figure::Number(number) => number.into(),
        Figure::Percent(percent) => percent.into(),
        Figure::Table(rows) => {
            let rows: Vec<HashMap<String, Variant<'static>>> = rows
                .into_iter()
                .map(|row| row.into_iter().map(|(key, it)| (key.to_string(), cell(it))).collect())
                .collect();
            rows.into()
        }
    }
}

fn cell(cell: Cell) -> Variant<'static> {
    match cell {
        Cell::Number(number) => number.into(),
        Cell::Text(text) => text.into(),
    }
}
