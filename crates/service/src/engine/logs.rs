//! What a container has written, as a stream.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use tare_runtime::log::{Filter, LogReader, Next};
use tokio::io::unix::AsyncFd;

use super::container::Container;
use super::view::{self, State};
use super::{Engine, Error, sys};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::effects;

/// Lines are gathered up to this many bytes before they are written.
const CHUNK: usize = 32 << 10;

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

impl Engine {
    /// Opens a log: JSON lines, until the end or until the reader goes away.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no pipe or no thread.
    pub fn open_logs(&self, request: Authorized<OpenLogs>) -> Result<OwnedFd, Error> {
        let (request, _) = request.into_parts();
        let container = self.container(&request.container.id)?;
        let failed = |source| Error::Host { what: "open a stream", source };
        let (reader, writer) = effects::pipe().map_err(failed)?;
        let path = self.log_path(&request.container.id);
        let (wake, woken) = mpsc::channel();
        if request.which == Which::Coming {
            let gone = sys::readable(Arc::new(writer.try_clone().map_err(failed)?.into()));
            tokio::spawn(follow(container, path.clone(), gone.map_err(failed)?, wake));
        }
        // A thread of its own: a log may be large, and its reader slow, for as long as they like.
        thread::Builder::new()
            .name("log".into())
            .spawn(move || {
                let poured = pour(&path, request.filter, File::from(OwnedFd::from(writer)), &woken);
                if let Err(error) = poured
                    && error.kind() != io::ErrorKind::BrokenPipe
                {
                    tracing::warn!("reading {}: {error}", path.display());
                }
            })
            .map_err(failed)?;
        Ok(reader.into())
    }
}

/// Writes what is in the log, and again whenever it is woken; ends when nobody will wake it.
fn pour(path: &Path, filter: Filter, to: File, woken: &mpsc::Receiver<()>) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(CHUNK, to);
    let Some(file) = open_when_there(path, woken)? else { return Ok(()) };
    let mut log = LogReader::new(file, filter).map_err(io::Error::other)?;
    loop {
        // What is written before the last wake-up is seen after it.
        let more = woken.try_recv();
        while let Next::Record(record) = log.next_record().map_err(io::Error::other)? {
            writeln!(to, "{}", record.to_json_line().trim_end())?;
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

/// Wakes the thread that reads a log when there may be more, until the container has ended or the
/// reader of the stream is gone.
async fn follow(
    container: Arc<Container>,
    path: PathBuf,
    gone: AsyncFd<Arc<OwnedFd>>,
    wake: mpsc::Sender<()>,
) {
    let mut state = container.seen.watch();
    let mut changes = Changes::of(&path).ok();
    loop {
        let alive = is_alive(&state.borrow_and_update());
        if wake.send(()).is_err() || !alive {
            return;
        }
        tokio::select! {
            () = next(changes.as_ref()) => {}
            news = state.changed() => if news.is_err() { return },
            _ = gone.readable() => return,
        }
        // It is made when the container starts.
        changes = changes.or_else(|| Changes::of(&path).ok());
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

/// Tells when a file grows.
struct Changes(AsyncFd<Arc<OwnedFd>>);

impl Changes {
    fn of(path: &std::path::Path) -> std::io::Result<Self> {
        Ok(Self(sys::readable(Arc::new(effects::watch_file(path)?))?))
    }

    /// Returns after it has grown, any number of times.
    async fn next(&self) -> std::io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut events = [std::mem::MaybeUninit::uninit(); 1024];
        loop {
            match rustix::io::read(self.0.get_ref(), &mut events) {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        ready.clear_ready();
        Ok(())
    }
}
