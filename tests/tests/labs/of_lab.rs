//! Of lab systems.

mod bench;
mod side_by_side;
mod systems;
mod terminal;
