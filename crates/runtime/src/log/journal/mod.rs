//! What conmon has sent to the journal, read through libsystemd.
//!
//! Anybody can send fields with the names that conmon uses. Which process a message came from, and its
//! control group, journald adds itself: only entries of the conmon of the container count.

mod entry;
#[expect(unsafe_code, reason = "libsystemd is C")]
mod sys;

use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::pieces::{Backwards, Pieces};
use super::record::{Dropped, Record};
use super::{Filter, Next};
use crate::{ContainerId, Error};
use entry::{Entry, Fields};
use sys::Journal;

/// Where journald listens for what is asked of it.
const CONTROL: &str = "/run/systemd/journal/io.systemd.journal";
/// How long it may take to store what it was sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// `SD_MESSAGE_JOURNAL_DROPPED`.
const DROPPED: &str = "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e";

/// Whose log is read from the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSource {
    /// The container, which conmon was told of as `-u`.
    pub id: ContainerId,
    /// The unit of systemd that it is in, as in `tare-0123456789ab.scope`. Its conmon is in the control group
    /// `supervisor` of that.
    pub unit: String,
}

/// Reads the records of a container that are in the journal, across its files and as more of them come.
#[derive(Debug)]
pub struct JournalReader {
    journal: Journal,
    source: JournalSource,
    filter: Filter,
    pieces: Pieces,
}

impl JournalSource {
    /// What to ask the journal for, as journalctl(1) takes it. Others can send fields such as the first.
    pub fn matches(&self) -> [String; 2] {
        let Self { id, unit } = self;
        [format!("CONTAINER_ID_FULL={id}"), format!("_SYSTEMD_UNIT={unit}")]
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Journal { what, source }
}

impl JournalReader {
    /// Begins to read at the first record, or with a tail as late as that allows.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`]; as source one of the kind `Unsupported` if there is no libsystemd.
    pub fn new(source: JournalSource, filter: Filter) -> Result<Self, Error> {
        let journal = Journal::open().map_err(failed("open"))?;
        let mut reader = Self { journal, source, filter, pieces: Pieces::default() };
        reader.select().map_err(failed("look for a container in"))?;
        Ok(reader)
    }

    /// Polls readable when there may be more to read; read then until [`Next::Pending`].
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub fn changes(&mut self) -> Result<OwnedFd, Error> {
        self.journal.changes().map_err(failed("watch"))
    }

    /// The next record that passes the filter.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`].
    pub fn next_record(&mut self) -> Result<Next, Error> {
        self.next_wanted().map_err(failed("read"))
    }

    /// As [`LogReader::take_unfinished`](super::LogReader::take_unfinished).
    pub fn take_unfinished(&mut self) -> Vec<Record> {
        let filter = self.filter;
        self.pieces.take().filter(|it| filter.wants(it.timestamp_usec, it.stream)).collect()
    }

    /// What conmon said of the container, or journald of that conmon; whoever else says so is passed over
    /// when an entry is looked at. Then to where reading begins.
    fn select(&mut self) -> io::Result<()> {
        let JournalSource { id, unit } = &self.source;
        self.journal.add_match(&format!("CONTAINER_ID_FULL={id}"))?;
        self.journal.or()?;
        self.journal.add_match(DROPPED)?;
        self.journal.add_match(&format!("OBJECT_SYSTEMD_UNIT={unit}"))?;
        match self.filter.tail {
            Some(count) => self.seek_last(count),
            None => self.journal.seek_head(),
        }
    }

    /// To behind the last entry that is not of the last `count` records.
    fn seek_last(&mut self, count: usize) -> io::Result<()> {
        self.journal.seek_tail()?;
        let (mut found, mut backwards) = (0, Backwards::default());
        while self.journal.previous()? {
            let filter = self.filter;
            let Some(Entry::Line(line)) = self.entry()? else { continue };
            let line = line.as_line();
            if backwards.is_end(&line) && filter.wants(line.timestamp_usec, line.stream) {
                found += 1;
                if found > count {
                    return Ok(());
                }
            }
        }
        self.journal.seek_head()
    }

    fn next_wanted(&mut self) -> io::Result<Next> {
        while self.advance()? {
            match self.entry()? {
                Some(Entry::Line(line)) => {
                    if let Some(record) = self.pieces.join(&line.as_line())
                        && self.filter.wants(record.timestamp_usec, record.stream)
                    {
                        return Ok(Next::Record(record));
                    }
                }
                Some(Entry::Dropped(dropped)) if self.filter.covers(dropped.timestamp_usec) => {
                    return Ok(Next::Dropped(dropped));
                }
                Some(Entry::Dropped(Dropped { .. })) | None => {}
            }
        }
        Ok(Next::Pending)
    }

    /// To the next entry, in a file that has come since as well.
    fn advance(&mut self) -> io::Result<bool> {
        if self.journal.next()? {
            return Ok(true);
        }
        self.journal.process()?;
        self.journal.next()
    }

    /// The entry that the journal is at; nothing if somebody else made it up, or it makes no sense.
    fn entry(&mut self) -> io::Result<Option<Entry>> {
        let timestamp_usec = match self.journal.realtime_usec() {
            Ok(time) => time,
            // Its file is damaged there, as after a power cut.
            Err(error) if is_damage(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut field = |name: &CStr| match self.journal.field(name) {
            Err(error) if is_damage(&error) => Ok(None),
            value => value.map(|value| value.map(ToOwned::to_owned)),
        };
        let fields = Fields::read(&mut field)?;
        Ok(fields.into_entry(timestamp_usec, &self.source.unit))
    }
}

/// What libsystemd says of an entry that cannot be read, where others can.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADMSG | libc::EIO | libc::EADDRNOTAVAIL))
}

/// Waits until what journald was sent by now can be read, at most ten seconds: it answers when it has stored
/// that on the disk. Needs root.
///
/// # Errors
///
/// [`Error::Journal`]: it is not there, does not answer, or refuses.
pub fn synchronize_journal() -> Result<(), Error> {
    let ask = || -> io::Result<Vec<u8>> {
        let mut journald = UnixStream::connect(CONTROL)?;
        journald.set_read_timeout(Some(PATIENCE))?;
        journald.set_write_timeout(Some(PATIENCE))?;
        // Varlink: JSON that ends with a NUL.
        journald.write_all(b"{\"method\":\"io.systemd.Journal.Synchronize\"}\0")?;
        let mut answer = Vec::new();
        let mut some = [0; 512];
        while !answer.contains(&0) && answer.len() < 4096 {
            match journald.read(&mut some)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&some[..count]),
            }
        }
        Ok(answer)
    };
    let answer = ask().map_err(failed("synchronize"))?;
    let text = String::from_utf8_lossy(&answer);
    if text.contains("\"error\"") {
        let said = text.trim_end_matches('\0').escape_debug().to_string();
        return Err(failed("synchronize")(io::Error::other(said)));
    }
    Ok(())
}
