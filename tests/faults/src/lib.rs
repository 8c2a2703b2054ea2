//! What the tests of faults share: an operation is done once for each of its effects, and that effect
//! fails, hangs, or is where a program is killed. Afterwards the worlds are compared.
//!
//! # What it does
//!
//! [`Matrix`](matrix::Matrix) drives an [`Operation`](operations::Operation) in a [`Lab`](lab::Lab): a
//! daemon, wherever it runs, whose every effect asks first ([`ask`]) and is answered by the test. It
//! knows no effects: it does the operation once to learn them.
//!
//! # What it does not do
//!
//! It looks at the outside alone: what the host has, and what the bus says.
#![expect(clippy::unwrap_used, reason = "where a fixture fails, the test has failed")]

mod ask;
pub mod begin;
mod daemon;
pub mod helper;
mod installed;
pub mod lab;
pub mod left_out;
pub mod matrix;
pub mod methods;
pub mod operations;

pub use ask::{NEW_STEP_VARIABLE, ask_whoever_listens};
