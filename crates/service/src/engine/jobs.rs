//! Long operations as things of their own: watched, canceled, and kept for a while when finished.

mod job;
mod table;
mod view;

pub use job::Job;
pub use table::Jobs;
pub use view::{JobKind, JobState, JobView, LogLine, Outcome, Output, Produced};
