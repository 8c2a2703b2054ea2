//! All jobs of the daemon.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::slots::{Slots, UNFINISHED};
use super::{Job, JobKind, JobState, JobView, Origin, Output};
use crate::db::Db;
use crate::engine::clock::Usec;
use crate::engine::events::{Event, Events};
use crate::engine::object::ObjectId;
use crate::engine::{Error, records};

/// A finished job stays readable for this long.
const LINGER: Duration = Duration::from_secs(60);
/// Of one user, at most this many finished jobs stay; the oldest go first.
const LINGERING_PER_UID: usize = 64;
/// Key of the note of the last number given to a job.
const LAST_JOB: &str = "last-job";
/// More numbers than can have been given while a note of one waited to be written.
const UNWRITTEN: u32 = 64;

/// All jobs of the daemon.
#[derive(Debug)]
pub(in crate::engine) struct Jobs {
    last_id: AtomicU32,
    table: Mutex<BTreeMap<u32, Arc<Job>>>,
    slots: Slots,
    events: Events,
    run: Db,
}

impl Jobs {
    /// None yet. Their numbers go on where those of an earlier daemon of this boot ended, which is
    /// noted in `run`: a client that holds an old number must not meet a new job.
    ///
    /// # Errors
    ///
    /// [`Error::Database`].
    pub(in crate::engine) async fn open(events: Events, run: Db) -> Result<Arc<Self>, Error> {
        let noted = run.run(|c| records::meta(c, LAST_JOB)).await?;
        let first = match noted.and_then(|last| last.parse::<u32>().ok()) {
            // The last notes may not have been written when the daemon was killed.
            Some(last) => last.saturating_add(UNWRITTEN),
            None => 0,
        };
        Ok(Arc::new(Self {
            last_id: AtomicU32::new(first),
            table: Mutex::default(),
            slots: Slots::default(),
            events,
            run,
        }))
    }

    /// Makes a job; nothing is done yet.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyJobs`]; [`Error::Host`] if the process has no descriptor left.
    pub(in crate::engine) fn create(
        &self,
        kind: JobKind,
        object: Option<ObjectId>,
        by: Origin<'_>,
    ) -> Result<Arc<Job>, Error> {
        let uid = by.uid();
        let mut table = self.lock();
        let theirs = |job: &&Arc<Job>| {
            let view = job.view();
            view.started_by_uid == uid && view.state != JobState::Finished
        };
        if uid != 0 && table.values().filter(theirs).count() >= UNFINISHED {
            return Err(Error::TooManyJobs(UNFINISHED));
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        self.run.post(move |c| records::set_meta(c, LAST_JOB, &id.to_string()));
        let view = JobView {
            id,
            kind,
            object,
            started_by_uid: uid,
            created: Usec::now(),
            state: JobState::Running,
            stage: "",
            bytes_done: 0,
            bytes_total: 0,
            cancelable: true,
            outcome: None,
            output: Output::default(),
        };
        let job = Arc::new(Job::new(view, by.listener(), self.events.clone())?);
        table.insert(id, job.clone());
        Ok(job)
    }

    /// Does the work of a job to its end, whoever listens.
    pub(in crate::engine) fn run<F>(self: &Arc<Self>, job: Arc<Job>, work: F)
    where
        F: Future<Output = Result<Output, Error>> + Send + 'static,
    {
        let jobs = self.clone();
        let (slots, waiting) = (self.clone(), job.clone());
        let in_turn = async move {
            let _slot = slots.slots.turn(&waiting).await?;
            work.await
        };
        tokio::spawn(async move {
            // A task of its own, so that a panic ends the job instead of losing it.
            let result = match tokio::spawn(in_turn).await {
                Ok(result) => result,
                Err(panic) => Err(Error::Bug(panic.to_string())),
            };
            if let Err(error) = &result
                && !matches!(error, Error::Canceled)
            {
                tracing::warn!(job = job.view().id, "{}", error.chain());
            }
            job.finish(result);
            jobs.events.tell(Event::JobFinished(job.view()));
            jobs.thin_out(job.view().started_by_uid);
            tokio::time::sleep(LINGER).await;
            jobs.forget(job.view().id);
        });
    }

    /// The job of that number, also if it is finished and lingers.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchJob`].
    pub(in crate::engine) fn get(&self, id: u32) -> Result<Arc<Job>, Error> {
        self.lock().get(&id).cloned().ok_or(Error::NoSuchJob(id))
    }

    /// All of them, oldest first.
    pub(in crate::engine) fn list(&self) -> Vec<Arc<Job>> {
        self.lock().values().cloned().collect()
    }

    /// Drops a job if it is finished.
    pub(in crate::engine) fn forget(&self, id: u32) {
        let mut table = self.lock();
        if let Some(job) = table.get(&id).cloned()
            && job.view().state == JobState::Finished
        {
            table.remove(&id);
            job.forget();
        }
    }

    fn thin_out(&self, uid: u32) {
        let lingering: Vec<u32> = self
            .lock()
            .values()
            .map(|job| job.view())
            .filter(|view| view.started_by_uid == uid && view.state == JobState::Finished)
            .map(|view| view.id)
            .collect();
        let surplus = lingering.len().saturating_sub(LINGERING_PER_UID);
        lingering.into_iter().take(surplus).for_each(|id| self.forget(id));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Arc<Job>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Caller;
    use crate::db::Durability;
    use crate::engine::jobs::Outcome;
    use crate::engine::jobs::slots::AT_WORK;
    use crate::engine::object::Change;

    fn run_db(dir: &std::path::Path) -> Db {
        let migrations = records::volatile::MIGRATIONS;
        Db::open(&dir.join("run.db"), Durability::ProcessCrash, migrations).unwrap()
    }

    async fn jobs() -> (Arc<Jobs>, tokio::sync::mpsc::UnboundedReceiver<Event>) {
        let (events, receiver) = Events::channel();
        let dir = tempfile::tempdir().unwrap();
        (Jobs::open(events, run_db(dir.path())).await.unwrap(), receiver)
    }

    #[tokio::test]
    async fn a_number_is_not_given_again_by_the_next_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = 0;
        for _ in 0..3 {
            let run = run_db(dir.path());
            let (events, _told) = Events::channel();
            let jobs = Jobs::open(events, run.clone()).await.unwrap();
            let job = jobs.create(JobKind::ImportImage, None, Origin::Caller(&somebody())).unwrap();
            assert!(job.view().id > last, "{} after {last}", job.view().id);
            last = job.view().id;
            run.run(|_| Ok::<_, Error>(())).await.unwrap();
        }
    }

    fn somebody() -> Caller {
        let interactive = crate::authority::Interactive::No;
        Caller { uid: 7, bus_name: ":1.7".into(), interactive }
    }

    async fn finished(job: &Job) -> Arc<JobView> {
        let mut watch = job.watch();
        let view = watch.wait_for(|view| view.state == JobState::Finished).await.unwrap();
        view.clone()
    }

    #[tokio::test]
    async fn a_job_is_told_from_beginning_to_end() {
        let (jobs, mut events) = jobs().await;
        let job = jobs.create(JobKind::ImportImage, None, Origin::Caller(&somebody())).unwrap();
        let at_work = job.clone();
        jobs.run(job.clone(), async move {
            at_work.stage("unpacking");
            Ok(Output::default())
        });
        assert_eq!(finished(&job).await.outcome, Some(Outcome::Done));
        let mut told = Vec::new();
        while told.last() != Some(&"finished") {
            told.push(match events.recv().await.unwrap() {
                Event::Job(Change::Added(_)) => "added",
                Event::Job(Change::Changed { .. }) => "changed",
                Event::JobFinished(_) => "finished",
                Event::JobLogged { .. } => "logged",
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(told, ["added", "changed", "changed", "finished"]);
    }

    #[tokio::test]
    async fn cancel_ends_a_wait_and_is_no_failure() {
        let (jobs, _events) = jobs().await;
        let job = jobs.create(JobKind::StopContainer, None, Origin::Caller(&somebody())).unwrap();
        let waiting = job.clone();
        jobs.run(job.clone(), async move {
            waiting.or_canceled(std::future::pending::<()>()).await?;
            Ok(Output::default())
        });
        tokio::task::yield_now().await;
        job.cancel().unwrap();
        assert_eq!(finished(&job).await.outcome, Some(Outcome::Canceled));
        assert!(matches!(job.cancel(), Err(Error::NotCancelable(1))));
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_job() {
        let (jobs, _events) = jobs().await;
        let job = jobs.create(JobKind::StartContainer, None, Origin::Caller(&somebody())).unwrap();
        jobs.run(job.clone(), async { panic!("on purpose") });
        let outcome = finished(&job).await.outcome.clone();
        assert!(matches!(outcome, Some(Outcome::Failed { name: "Internal", .. })), "{outcome:?}");
    }

    #[tokio::test]
    async fn nobody_but_root_has_more_jobs_at_work_than_fit() {
        let (jobs, _events) = jobs().await;
        let root = Caller { uid: 0, ..somebody() };
        let kind = JobKind::StopContainer;
        let (go, _) = tokio::sync::broadcast::channel::<()>(1);
        let begin = |by: &Caller| {
            let job = jobs.create(kind, None, Origin::Caller(by))?;
            let mut wait = go.subscribe();
            jobs.run(job.clone(), async move {
                wait.recv().await.ok();
                Ok(Output::default())
            });
            Ok::<_, Error>(job)
        };
        let theirs: Vec<_> = (0..UNFINISHED).map(|_| begin(&somebody()).unwrap()).collect();
        assert!(matches!(begin(&somebody()), Err(Error::TooManyJobs(_))));
        let roots: Vec<_> = (0..=UNFINISHED).map(|_| begin(&root).unwrap()).collect();
        let in_state =
            |jobs: &[Arc<Job>], state| jobs.iter().filter(|job| job.view().state == state).count();
        while in_state(&theirs, JobState::Waiting) < UNFINISHED - AT_WORK {
            tokio::task::yield_now().await;
        }
        assert_eq!(in_state(&theirs, JobState::Running), AT_WORK);
        assert_eq!(in_state(&roots, JobState::Running), roots.len());
        // One that waits can be canceled, and makes room for another.
        let waiting = theirs.iter().find(|job| job.view().state == JobState::Waiting).unwrap();
        waiting.cancel().unwrap();
        assert_eq!(finished(waiting).await.outcome, Some(Outcome::Canceled));
        begin(&somebody()).unwrap();
        drop(go);
        for job in theirs.iter().chain(&roots) {
            finished(job).await;
        }
    }

    #[tokio::test]
    async fn finished_jobs_of_one_user_do_not_pile_up() {
        let (jobs, _events) = jobs().await;
        for _ in 0..LINGERING_PER_UID + 5 {
            let job =
                jobs.create(JobKind::StopContainer, None, Origin::Caller(&somebody())).unwrap();
            jobs.run(job.clone(), async { Ok(Output::default()) });
            finished(&job).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let ids: Vec<u32> = jobs.list().iter().map(|job| job.view().id).collect();
        assert_eq!(ids.len(), LINGERING_PER_UID);
        assert_eq!(ids[0], 6);
    }
}
