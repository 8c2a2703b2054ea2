//! What is measured. A new row is a file here and a line in the list.

mod first_answer;
mod layers;
mod life;
mod list;
mod memory;
mod network;
mod rate;
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
    layers::HUNDRED,
    layers::HUNDRED_BESIDE_MOUNTS,
];
