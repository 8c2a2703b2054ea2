//! What every spawner must do, whoever forks.

mod attach;
mod containers;
mod groups;
mod users;
