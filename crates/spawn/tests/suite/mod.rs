//! What every spawner must do, whoever forks.

mod containers;
mod groups;
