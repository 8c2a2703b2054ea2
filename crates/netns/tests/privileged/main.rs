//! Tests that need root, against the running kernel, on hosts of their own.

#![allow(clippy::disallowed_methods, reason = "a test makes its own surroundings")]
#![expect(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` misses helpers")]

mod common;
mod containers;
#[cfg(feature = "fault")]
mod faults;
mod firewall;
mod kept;
mod lab;
mod live;
mod networks;
mod others;
mod ports;
mod reserve;
mod runtime;
mod sctp;
