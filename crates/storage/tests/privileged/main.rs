//! What needs root and a real filesystem: `cargo test -p tare-storage --test privileged`, with
//! `--features fault` for the tests that make steps fail too.

#![expect(
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::unwrap_used,
    reason = "all of this is a test"
)]

#[cfg(feature = "fault")]
mod faults;
mod fixture;
mod hostile;
mod import;
mod mounts;
mod store;
