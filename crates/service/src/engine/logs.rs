//! What a container has written, as a stream: from its file, or from the journal.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use tare_runtime::log::{
    Filter, JournalReader, JournalSource, LogReader, Next, Record, synchronize_journal,
};
use tare_spawn::{JournalLog, Log};
use tare_specgen::{LogDriver, Request};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::container::Container;
use super::view::{self, State};
use super::{Engine, Error, Inner, sys};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::config::LogSetting;
use crate::effects;

/// Lines are gathered up to this many bytes before they are written.
const CHUNK: usize = 32 << 10;
/// Where programs send what is to be in the journal.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// A log to be read.
#[derive(Debug)]
pub struct OpenLogs {
    /// Of which container.
    pub container: Arc<view::Container>,
    /// Which lines.
    pub filter: Filter,
    /// Whether to wait for more.
    pub which: Which,
}

/// How far a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// What is there now.
    Present,
    /// Also what comes, until the container ends.
    Coming,
}

impl Ask for OpenLogs {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ReadLogs, &self.container, by).with("verb", "read the logs of")
    }
}

/// Where what a container has written is.
#[derive(Debug)]
pub(super) enum Place {
    File(PathBuf),
    Journal(JournalSource),
}

/// Where what a container writes is kept. Nothing was said of it before there was a choice.
pub(super) fn log_driver(request: &Request) -> LogDriver {
    request.log_driver.unwrap_or_default()
}

impl Inner {
    /// Says in a request where what the container writes is kept, if its caller does not: it stays there when
    /// the settings change.
    ///
    /// # Errors
    ///
    /// [`Error::NoJournal`].
    pub(super) fn choose_log(&self, request: &mut Request) -> Result<(), Error> {
        let there = self.has_journal();
        let driver = match (request.log_driver, self.config().containers.log_driver) {
            (Some(driver), _) => driver,
            (None, LogSetting::Auto) if there => LogDriver::Journald,
            (None, LogSetting::Journald) => LogDriver::Journald,
            (None, LogSetting::Auto | LogSetting::K8sFile) => LogDriver::K8sFile,
        };
        if driver == LogDriver::Journald && !there {
            return Err(Error::NoJournal);
        }
        // A request says no more than it has to.
        request.log_driver = (driver != LogDriver::default()).then_some(driver);
        Ok(())
    }

    /// Whether there is one in which it can be told what came from which container.
    fn has_journal(&self) -> bool {
        self.groups.manager().is_some()
            && self.host.can_log_to_journal()
            && Path::new(JOURNAL_SOCKET).exists()
    }

    /// What conmon is told of that.
    pub(super) fn log_for_conmon(&self, container: &Container) -> Result<Log, Error> {
        match self.log_place(container) {
            Place::File(path) => Ok(Log::File(path)),
            Place::Journal(_) if !self.has_journal() => Err(Error::NoJournal),
            Place::Journal(_) => {
                Ok(Log::Journal(JournalLog { name: container.name().to_string() }))
            }
        }
    }

    pub(super) fn log_place(&self, container: &Container) -> Place {
        match log_driver(&container.definition().row.request) {
            LogDriver::Journald => Place::Journal(JournalSource {
                id: container.id.clone(),
                unit: self.groups.unit(&container.id),
            }),
            _ => Place::File(self.log_path(&container.id)),
        }
    }
}

impl Engine {
    /// Opens a log: JSON lines, until the end or until the reader goes away.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no pipe or no thread.
    pub fn open_logs(&self, request: Authorized<OpenLogs>) -> Result<OwnedFd, Error> {
        let (OpenLogs { container, filter, which }, _) = request.into_parts();
        let container = self.container(&container.id)?;
        let failed = |source| Error::Host { what: "open a stream", source };
        let (reader, writer) = effects::pipe().map_err(failed)?;
        let place = self.log_place(&container);
        // One is enough to have all read that there is.
        let (wake, woken) = mpsc::sync_channel(1);
        let (tell, told) = oneshot::channel();
        if which == Which::Coming {
            let gone = sys::readable(Arc::new(writer.try_clone().map_err(failed)?.into()));
            let growth = match &place {
                Place::File(path) => Growth::OfFile(path.clone()),
                Place::Journal(_) => Growth::OfJournal(told),
            };
            tokio::spawn(follow(container, growth, gone.map_err(failed)?, wake));
        }
        // A thread of its own: a log may be large, and its reader slow, for as long as they like.
        thread::Builder::new()
            .name("log".into())
            .spawn(move || {
                let to = BufWriter::with_capacity(CHUNK, File::from(OwnedFd::from(writer)));
                let poured = match &place {
                    Place::File(path) => pour_file(path, filter, to, &woken),
                    Place::Journal(source) => pour_journal(source, filter, to, &woken, tell, which),
                };
                if let Err(error) = poured
                    && error.kind() != io::ErrorKind::BrokenPipe
                {
                    let what = "read the log of a container";
                    tracing::warn!("{}", Error::Host { what, source: error }.chain());
                }
            })
            .map_err(failed)?;
        Ok(reader.into())
    }
}

fn pour_file(
    path: &Path,
    filter: Filter,
    to: BufWriter<File>,
    woken: &mpsc::Receiver<()>,
) -> io::Result<()> {
    let Some(file) = open_when_there(path, woken)? else { return Ok(()) };
    let log = LogReader::new(file, filter).map_err(io::Error::other)?;
    pour(Reading::File(log), to, woken)
}

fn pour_journal(
    source: &JournalSource,
    filter: Filter,
    to: BufWriter<File>,
    woken: &mpsc::Receiver<()>,
    tell: oneshot::Sender<OwnedFd>,
    which: Which,
) -> io::Result<()> {
    // All that it has written by now, even if the journal is behind.
    synchronize();
    let mut log = JournalReader::new(source.clone(), filter).map_err(io::Error::other)?;
    if which == Which::Coming {
        // Nobody wants to hear it who has gone already.
        let _ = tell.send(log.changes().map_err(io::Error::other)?);
    }
    pour(Reading::Journal { log, which }, to, woken)
}

/// Without it the end of a log may be missing, and that is all.
fn synchronize() {
    if let Err(error) = synchronize_journal() {
        let source = io::Error::other(error);
        tracing::warn!("{}", Error::Host { what: "wait for the journal", source }.chain());
    }
}

/// A log that is being read.
enum Reading {
    File(LogReader),
    Journal { log: JournalReader, which: Which },
}

impl Reading {
    fn next_record(&mut self) -> Result<Next, tare_runtime::Error> {
        match self {
            Self::File(log) => log.next_record(),
            Self::Journal { log, .. } => log.next_record(),
        }
    }

    /// What its container has written is there from now on, now that it has ended.
    fn at_the_end(&self) {
        match self {
            Self::Journal { which: Which::Coming, .. } => synchronize(),
            Self::Journal { which: Which::Present, .. } | Self::File(_) => {}
        }
    }

    fn take_unfinished(&mut self) -> Vec<Record> {
        match self {
            Self::File(log) => log.take_unfinished(),
            Self::Journal { log, .. } => log.take_unfinished(),
        }
    }
}

/// Writes what is in the log, and again whenever it is woken; ends when nobody will wake it.
fn pour(mut log: Reading, mut to: BufWriter<File>, woken: &mpsc::Receiver<()>) -> io::Result<()> {
    loop {
        // What is written before the last wake-up is seen after it.
        let more = woken.try_recv();
        if more == Err(mpsc::TryRecvError::Disconnected) {
            log.at_the_end();
        }
        loop {
            match log.next_record().map_err(io::Error::other)? {
                Next::Record(record) => writeln!(to, "{}", record.to_json_line().trim_end())?,
                Next::Dropped(dropped) => writeln!(to, "{}", dropped.to_json_line())?,
                Next::Pending => break,
            }
        }
        to.flush()?;
        let more = match more {
            Err(mpsc::TryRecvError::Empty) => woken.recv().is_ok(),
            Err(mpsc::TryRecvError::Disconnected) => false,
            Ok(()) => true,
        };
        if !more {
            break;
        }
    }
    for record in log.take_unfinished() {
        writeln!(to, "{}", record.to_json_line().trim_end())?;
    }
    to.flush()
}

/// The log; nothing if the container never ran, and does not start while anybody follows it.
fn open_when_there(path: &Path, woken: &mpsc::Receiver<()>) -> io::Result<Option<File>> {
    loop {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map(Some),
        }
        if woken.recv().is_err() {
            return Ok(None);
        }
    }
}

/// What tells that a log grows.
enum Growth {
    /// The file, which is made when the container starts.
    OfFile(PathBuf),
    /// What the journal says of itself, once it is open.
    OfJournal(oneshot::Receiver<OwnedFd>),
}

impl Growth {
    /// Nothing if it cannot be told yet.
    async fn changes(&mut self) -> Option<Changes> {
        match self {
            Self::OfFile(path) => Changes::of_file(path).ok(),
            Self::OfJournal(told) if told.is_terminated() => None,
            Self::OfJournal(told) => Changes::of_journal(told.await.ok()?).ok(),
        }
    }
}

/// Wakes the thread that reads a log when there may be more, until the container has ended or the
/// reader of the stream is gone.
async fn follow(
    container: Arc<Container>,
    mut growth: Growth,
    gone: AsyncFd<Arc<OwnedFd>>,
    wake: mpsc::SyncSender<()>,
) {
    let mut state = container.seen.watch();
    let mut changes = growth.changes().await;
    loop {
        let alive = is_alive(&state.borrow_and_update());
        // If it is full, the thread has not seen the last one yet.
        let woken = wake.try_send(());
        if matches!(woken, Err(mpsc::TrySendError::Disconnected(()))) || !alive {
            return;
        }
        tokio::select! {
            () = next(changes.as_ref()) => {}
            news = state.changed() => if news.is_err() { return },
            _ = gone.readable() => return,
        }
        if changes.is_none() {
            changes = growth.changes().await;
        }
    }
}

fn is_alive(view: &view::Container) -> bool {
    use State::{Created, Paused, Running, Starting, Stopping};
    matches!(view.state, Created | Starting | Running | Paused | Stopping)
}

async fn next(changes: Option<&Changes>) {
    match changes {
        Some(changes) if changes.next().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

/// Tells when a log may have grown.
enum Changes {
    /// By events that are read here.
    OfFile(AsyncFd<Arc<OwnedFd>>),
    /// By events that the thread reads that has the journal.
    OfJournal(AsyncFd<Arc<OwnedFd>>),
}

impl Changes {
    fn of_file(path: &Path) -> io::Result<Self> {
        Ok(Self::OfFile(sys::readable(Arc::new(effects::watch_file(path)?))?))
    }

    fn of_journal(events: OwnedFd) -> io::Result<Self> {
        Ok(Self::OfJournal(sys::readable(Arc::new(events))?))
    }

    /// Returns after it has grown, any number of times.
    async fn next(&self) -> io::Result<()> {
        let (Self::OfFile(events) | Self::OfJournal(events)) = self;
        let mut ready = events.readable().await?;
        if let Self::OfFile(events) = self {
            drain(events.get_ref())?;
        }
        ready.clear_ready();
        Ok(())
    }
}

fn drain(events: &OwnedFd) -> io::Result<()> {
    let mut some = [std::mem::MaybeUninit::uninit(); 1024];
    loop {
        match rustix::io::read(events, &mut some) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
