//! One job: what its work says, and what those who watch it ask.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::{JobState, JobView, LogLine, Outcome, Output};
use crate::effects;
use crate::engine::Error;
use crate::engine::clock::Usec;
use crate::engine::events::{Event, Events};
use crate::engine::object::Visible;

/// A job keeps at most this many log lines; what follows is dropped.
const LOG_LINES: usize = 1000;
/// Progress is told at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A job.
pub(in crate::engine) struct Job {
    /// Unique name on the bus of whoever started it, and is told how far it has come.
    starter: Option<String>,
    seen: Visible<JobView>,
    canceled: AtomicBool,
    cancel: Notify,
    /// Readable once somebody asked the job to stop; none when it is over, since many of those are
    /// kept for a while.
    cancel_event: Mutex<Option<Arc<OwnedFd>>>,
    log: Mutex<Vec<LogLine>>,
    told: Mutex<Option<Instant>>,
    events: Events,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl Job {
    /// A job whose work has not begun; `starter` is the unique name of whoever asked for it.
    pub(super) fn new(
        view: JobView,
        starter: Option<String>,
        events: Events,
    ) -> Result<Self, Error> {
        let cancel_event =
            effects::make_event().map_err(|source| Error::Host { what: "make a job", source })?;
        Ok(Self {
            starter,
            seen: Visible::new(view, events.clone()),
            canceled: AtomicBool::new(false),
            cancel: Notify::new(),
            cancel_event: Mutex::new(Some(Arc::new(cancel_event))),
            log: Mutex::default(),
            told: Mutex::default(),
            events,
        })
    }

    /// How it is now.
    pub(in crate::engine) fn view(&self) -> Arc<JobView> {
        self.seen.get()
    }

    /// Follows it.
    pub(in crate::engine) fn watch(&self) -> watch::Receiver<Arc<JobView>> {
        self.seen.watch()
    }

    /// Asks it to stop.
    ///
    /// # Errors
    ///
    /// [`Error::NotCancelable`] past its point of no return, or when it is over.
    pub(in crate::engine) fn cancel(&self) -> Result<(), Error> {
        let canceled = self.seen.show(|view| {
            // Decided while the value is locked: it cannot finish in between.
            if view.cancelable && view.state != JobState::Finished {
                view.state = JobState::Canceling;
                self.canceled.store(true, Ordering::Release);
            }
        });
        if !canceled.cancelable {
            return Err(Error::NotCancelable(canceled.id));
        }
        self.cancel.notify_waiters();
        if let Some(event) = self.cancel_event() {
            // Only a counter that overflows would fail.
            let _ = effects::signal_event(event);
        }
        Ok(())
    }

    /// Whether somebody asked it to stop.
    pub(in crate::engine) fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Acquire)
    }

    /// A descriptor that polls readable once somebody asked it to stop, for threads that block;
    /// none if it is over.
    pub(in crate::engine) fn cancel_event(&self) -> Option<Arc<OwnedFd>> {
        self.cancel_event.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An error if somebody asked it to stop; for the gaps between steps.
    ///
    /// # Errors
    ///
    /// [`Error::Canceled`].
    pub(in crate::engine) fn check(&self) -> Result<(), Error> {
        if self.is_canceled() { Err(Error::Canceled) } else { Ok(()) }
    }

    /// Waits for `future`, but no longer than until somebody asks the job to stop. Only for
    /// futures that can be dropped anywhere, such as waiting for a lock.
    ///
    /// # Errors
    ///
    /// [`Error::Canceled`].
    pub(in crate::engine) async fn or_canceled<T>(
        &self,
        future: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let notified = self.cancel.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        self.check()?;
        tokio::select! {
            result = future => Ok(result),
            () = notified => Err(Error::Canceled),
        }
    }

    /// It waits for its turn.
    pub(super) fn waits(&self) {
        self.seen.show(|view| {
            if view.state == JobState::Running {
                view.state = JobState::Waiting;
            }
        });
    }

    /// Its turn has come.
    pub(super) fn goes_on(&self) {
        self.seen.show(|view| {
            if view.state == JobState::Waiting {
                view.state = JobState::Running;
            }
        });
    }

    /// Says which part of the work begins.
    pub(in crate::engine) fn stage(&self, stage: &'static str) {
        self.seen.show(|view| {
            view.stage = stage;
            view.bytes_done = 0;
            view.bytes_total = 0;
        });
    }

    /// Says how far the present stage is; told at most five times a second.
    pub(in crate::engine) fn progress(&self, done: u64, total: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|t| t.elapsed() >= PROGRESS_INTERVAL) {
            *told = Some(Instant::now());
            self.seen.show(|view| (view.bytes_done, view.bytes_total) = (done, total));
        }
    }

    /// From here on it cannot be canceled.
    ///
    /// # Errors
    ///
    /// [`Error::Canceled`] if it was already.
    pub(in crate::engine) fn point_of_no_return(&self) -> Result<(), Error> {
        self.seen.show(|view| view.cancelable = view.state == JobState::Canceling);
        self.check()
    }

    /// Adds a line to its log.
    pub(in crate::engine) fn log(&self, priority: u8, message: impl Into<String>) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < LOG_LINES {
            let line = LogLine { time: Usec::now(), priority, message: message.into() };
            log.push(line.clone());
            if let Some(to) = self.starter.clone() {
                self.events.tell(Event::JobLogged { id: self.view().id, to, line });
            }
        }
    }

    /// The lines of its log from `from` on.
    pub(in crate::engine) fn log_from(&self, from: usize) -> Vec<LogLine> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.get(from..).unwrap_or_default().to_vec()
    }

    /// It is forgotten.
    pub(super) fn forget(&self) {
        self.seen.remove();
    }

    pub(super) fn finish(&self, result: Result<Output, Error>) {
        if let Err(error) = &result {
            self.log(3, error.chain());
        }
        self.cancel_event.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.seen.show(|view| {
            view.state = JobState::Finished;
            view.cancelable = false;
            (view.outcome, view.output) = match result {
                Ok(output) => (Some(Outcome::Done), output),
                Err(Error::Canceled) => (Some(Outcome::Canceled), Output::default()),
                Err(error) => (Some(failed(&error)), Output::default()),
            };
        });
    }
}

fn failed(error: &Error) -> Outcome {
    Outcome::Failed { name: error.name(), message: error.to_string() }
}
