//! What callers say, parsed into what the engine takes: one file for each kind of request, the same
//! for every way to call.
//!
//! Nothing here looks anything up: a text becomes a type that cannot be wrong, or an error that
//! says which option is, and what it may be.

pub(crate) mod attach;
pub(crate) mod change;
pub(crate) mod checkpoint;
pub(crate) mod create;
mod error;
pub(crate) mod exec;
pub(crate) mod files;
mod glob;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod look;
pub(crate) mod network;
mod options;
mod request_id;
mod resources;
pub(crate) mod secret;
mod storage;
mod text;
pub(crate) mod update;
mod value;
pub(crate) mod volume;

pub(crate) use error::{ApiError, full_name};
pub(crate) use options::{Values, flags, no_options};
pub(crate) use request_id::{RequestId, request_id};
pub(crate) use value::Value;
