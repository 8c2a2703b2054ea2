//! What others may do with a job: whoever started it what they like, anybody else with permission.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{JobView, log};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::{Engine, Error};

/// A job to be canceled.
#[derive(Debug)]
pub struct CancelJob(pub Arc<JobView>);

/// A finished job to be forgotten.
#[derive(Debug)]
pub struct ForgetJob(pub Arc<JobView>);

/// A job whose log is to be read.
#[derive(Debug)]
pub struct OpenJobLog(pub Arc<JobView>);

impl Ask for CancelJob {
    fn question(&self, by: &Caller) -> Question {
        about(&self.0, by).with("verb", "cancel a job")
    }
}

impl Ask for ForgetJob {
    fn question(&self, by: &Caller) -> Question {
        about(&self.0, by).with("verb", "forget a job")
    }
}

impl Ask for OpenJobLog {
    fn question(&self, by: &Caller) -> Question {
        about(&self.0, by).with("verb", "read the log of a job")
    }
}

fn about(job: &JobView, by: &Caller) -> Question {
    if job.started_by_uid == by.uid { Question::free() } else { Question::new(Action::CancelJob) }
}

impl Engine {
    /// Asks a job to stop.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchJob`], [`Error::NotCancelable`].
    pub fn cancel_job(&self, request: Authorized<CancelJob>) -> Result<(), Error> {
        let (CancelJob(job), _) = request.into_parts();
        self.jobs.get(job.id)?.cancel()
    }

    /// Drops a job if it is finished.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchJob`].
    pub fn forget_job(&self, request: Authorized<ForgetJob>) -> Result<(), Error> {
        let (ForgetJob(job), _) = request.into_parts();
        self.jobs.get(job.id)?;
        self.jobs.forget(job.id);
        Ok(())
    }

    /// Opens the log of a job: JSON lines, from its start to the end of the job.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchJob`], [`Error::Host`] if there can be no pipe.
    pub fn open_job_log(&self, request: Authorized<OpenJobLog>) -> Result<OwnedFd, Error> {
        let (OpenJobLog(job), _) = request.into_parts();
        let job = self.jobs.get(job.id)?;
        log::open(job).map_err(|source| Error::Host { what: "open a stream", source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Interactive;

    #[test]
    fn a_job_is_whose_who_started_it() {
        let job = Arc::new(JobView::sample());
        let caller = |uid| Caller { uid, bus_name: ":1.7".into(), interactive: Interactive::No };
        let needs = |uid| CancelJob(job.clone()).question(&caller(uid)).needs;
        assert_eq!(needs(job.started_by_uid), []);
        assert_eq!(needs(job.started_by_uid + 1), [Action::CancelJob.into()]);
    }
}
