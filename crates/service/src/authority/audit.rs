//! The record that every call leaves that changes something, or tries to.

use super::{AnyOf, Question};

/// Who asked for what; written down once, with what came of it.
#[derive(Debug)]
#[must_use = "it is to be written down"]
pub struct Audit {
    pub(super) uid: u32,
    pub(super) question: Question,
}

impl Audit {
    /// Writes it to the journal. `result` is `done`, `begun` or the name of an error; `job` the
    /// number of the job that goes on with it.
    pub fn write(self, result: &str, job: Option<u32>) {
        let actions = self.question.needs.iter().map(id).collect::<Vec<_>>().join(" ");
        let detail = |key| self.question.details.get(key).map(String::as_str).unwrap_or_default();
        tracing::info!(
            caller_uid = self.uid,
            polkit_action = actions,
            container = detail("container"),
            image = detail("image"),
            result,
            job,
            "{}",
            detail("verb"),
        );
    }
}

fn id(need: &AnyOf) -> &'static str {
    need.action.id()
}
