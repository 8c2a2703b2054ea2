//! Long operations as things of their own: watched, canceled, and kept for a while when finished.

mod job;
mod log;
mod origin;
mod requests;
mod slots;
mod table;
mod view;

pub(super) use job::Job;
pub(super) use origin::Origin;
pub use requests::{CancelJob, ForgetJob, OpenJobLog};
pub(super) use table::Jobs;
pub use view::{JobKind, JobState, JobView, LogLine, Outcome, Output, Produced};
