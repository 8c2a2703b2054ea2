//! The service as a whole: a real daemon, real programs, over a real bus.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

mod accounts;
mod bad_input;
mod binds;
mod bus;
mod changes;
mod contract;
mod crash;
mod failures;
mod files;
mod guards;
mod health;
mod images;
mod leftovers;
mod life;
mod lifecycle;
mod limits;
mod lists;
mod live_files;
mod looking;
mod main_job;
mod names;
mod netfilter;
mod network;
mod network_refusals;
mod network_update;
mod networks;
mod other_firewalls;
mod pausing;
mod ports;
mod programs;
mod pull;
mod push;
mod resolvers;
mod running;
mod seed_network;
mod sessions;
mod sharing;
mod spawner;
mod spec;
mod storage;
mod terminals;
mod traffic;
mod volumes;
mod world;

use system_tests::{ERROR, failure, started};
