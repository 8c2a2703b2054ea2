//! What is measured. A new row is a file here and a line in the list.

mod first_answer;
mod layers;
mod life;
mod list;
mod memory;
mod network;
mod rate;
mod spec;
mod start;

use crate::row::Row;

/// All rows, in the order of the table.
pub(crate) const ALL: &[Row] = &[
    life::BRIDGE,
    life::BRIDGE_FOR_USER,
    life::NONE,
    life::NONE_FOR_USER,
    start::BRIDGE,
    rate::ONE,
    rate::FOUR,
    rate::SIXTEEN,
    list::THOUSAND,
    memory::IDLE,
    memory::PER_CONTAINER,
    first_answer::STOPPED,
    network::BRIDGE,
    network::AT_ONCE,
    network::PORT,
    layers::HUNDRED,
    layers::HUNDRED_BESIDE_MOUNTS,
    spec::HUNDRED_MOUNTS,
];

/// What is promised of something that is not there yet.
pub(crate) struct Missing {
    /// What the row would be called.
    pub(crate) name: &'static str,
    /// What is not there.
    pub(crate) why: &'static str,
    /// The method of a container that would have to be.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test looks for it in the contract"))]
    method: &'static str,
}

/// Those that nobody can measure today; told with every table, so that nobody takes them for kept.
pub(crate) const MISSING: &[Missing] = &[Missing {
    name: "checkpoint, restore",
    why: "over CRIU itself at most 25 % + 100 ms: tared cannot checkpoint yet",
    method: "Checkpoint",
}];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_missing() {
        let contract = include_str!("../../packaging/dbus/org.tare.Containers1.Container.xml");
        let has = |method| contract.contains(&format!("<method name=\"{method}\">"));
        assert!(has("Start"), "this is how methods are written");
        for missing in MISSING {
            assert!(!has(missing.method), "{} can be measured: make it a row", missing.name);
        }
    }
}
