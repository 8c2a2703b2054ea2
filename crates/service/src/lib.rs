//! The service: keeps OCI containers and is called over D-Bus.
//!
//! # The parts
//!
//! [`engine`] holds the use cases and knows nothing of D-Bus; [`dbus`] is its face on the bus;
//! [`authority`] decides who may do what, and makes what the engine wants to see before it changes
//! anything; [`db`] is one SQLite file and its thread. The leaves (`tare-netns`, `tare-storage`,
//! `tare-specgen`, `tare-runtime`, `tare-spawn`) block and know nothing of each other: [`engine`]
//! orders them and does the waiting.
//!
//! This library is the daemon's own; its interface to the world is the bus.

mod api;
pub mod authority;
pub mod bus;
pub mod config;
pub mod daemon;
pub mod db;
pub mod dbus;
mod effects;
pub mod engine;
pub mod fault;
pub mod firewalld;
pub mod instance;
pub mod journal;
pub mod names;
pub mod pull;
pub mod spawner;
pub mod systemd;
pub mod workers;
