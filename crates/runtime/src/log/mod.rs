//! Reads conmon's `k8s-file` logs, with filters, tail and follow.
//!
//! A line is `<RFC 3339 time, nanoseconds> <stdout|stderr> <F|P> <text>`; `P` marks a piece of a
//! line that goes on in the next one of the same stream. It is the format of the Kubernetes
//! container runtime interface.

mod reader;
mod record;

pub use reader::{Filter, LogReader, Next};
pub use record::{InvalidLine, Line, Record, Stream, Streams, parse_line};
