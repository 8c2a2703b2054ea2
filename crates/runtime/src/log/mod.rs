//! Reads what conmon has logged, with filters, tail and follow: [`LogReader`] from a `k8s-file`,
//! [`JournalReader`] from the journal of systemd.
//!
//! A line of a file is `<RFC 3339 time, nanoseconds> <stdout|stderr> <F|P> <text>`; `P` marks a piece
//! of a line that goes on in the next one of the same stream. It is the format of the Kubernetes
//! container runtime interface.

mod journal;
mod pieces;
mod reader;
mod record;

pub use journal::{JournalReader, JournalSource, synchronize_journal};
pub use reader::{Filter, LogReader, Next};
pub use record::{Dropped, InvalidLine, Line, Record, Stream, Streams, parse_line};
