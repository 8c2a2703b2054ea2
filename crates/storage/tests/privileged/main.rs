//! What needs root and a real filesystem: `cargo test -p tare-storage --test privileged`, with
//! `--features fault` for the tests that make steps fail too.

#![expect(
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::unwrap_used,
    reason = "all of this is a test"
)]

mod binds;
mod changes;
#[cfg(feature = "fault")]
mod faults;
mod fixture;
mod full;
mod garbage;
mod hostile;
mod images;
mod import;
mod layers;
mod mounts;
mod options;
mod pictures;
mod store;
mod trees;
mod volumes;
