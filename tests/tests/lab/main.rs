//! The service as a distribution ships it: under systemd, on the system bus, with polkit and the
//! journal.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

mod authority;
mod boots;
mod checkpoint_files;
mod checkpoints;
mod checkpoints_meet;
mod firewalls;
mod guards;
mod journal;
mod logs;
mod main_job;
mod methods;
mod network;
mod podman;
mod scopes;
mod unit;
mod verbs;
mod workers;
