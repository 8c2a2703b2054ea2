//! The lab itself: what systems and machines leave when they go, however that comes; and what is
//! measured in one. By who can run it, which `make` goes by: `of_lab` needs what lab systems do, `of_vm`
//! what machines do.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

mod of_lab;
mod of_vm;
mod place;
mod traces;
