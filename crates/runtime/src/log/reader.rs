use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::pieces::{Backwards, MAX_PIECE, Pieces};
use super::record::{Dropped, Record, Stream, Streams, parse_line};
use crate::Error;

/// Longest line of a log file that is read, in bytes; conmon reads 8 to 32 KiB at a time.
const MAX_LINE: usize = MAX_PIECE;
/// How much is read at a time, in bytes.
const BLOCK: usize = 64 << 10;
/// What a line has before its text, in bytes, and some more.
const HEADER: usize = 64;

/// Which records are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not before this time, in microseconds since 1970.
    pub since_usec: Option<u64>,
    /// Not after this time, in microseconds since 1970.
    pub until_usec: Option<u64>,
    /// Of these streams.
    pub streams: Streams,
    /// Of what was there when reading began, at most this many, the newest.
    pub tail: Option<usize>,
}

impl Filter {
    pub(super) fn wants(&self, timestamp_usec: u64, stream: Stream) -> bool {
        self.streams.contains(stream) && self.covers(timestamp_usec)
    }

    /// Whether what was then is wanted, of whatever stream.
    pub(super) fn covers(&self, timestamp_usec: u64) -> bool {
        self.since_usec.is_none_or(|since| timestamp_usec >= since)
            && self.until_usec.is_none_or(|until| timestamp_usec <= until)
    }
}

/// What [`LogReader::next_record`] or [`JournalReader::next_record`](super::JournalReader::next_record)
/// found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record.
    Record(Record),
    /// There were records here that the journal did not take. A file lacks none.
    Dropped(Dropped),
    /// Nothing more for now. Later there may be, if the container still runs.
    Pending,
}

/// Reads the records of a log file that may still be growing.
///
/// Lines that make no sense (after a crash, a full disk) are passed over and counted.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    filter: Filter,
    /// Where in the file `buffer` ends.
    offset: u64,
    /// What was read and not yet used, beginning with a line.
    buffer: VecDeque<u8>,
    /// How much of `buffer` is known to hold no line feed.
    searched: usize,
    /// Inside a line that is too long: skip to the next.
    skipping: bool,
    pieces: Pieces,
    malformed: u64,
}

impl LogReader {
    /// Begins to read `file`, at its beginning or, with a tail, as late as that allows.
    ///
    /// # Errors
    ///
    /// [`Error::Log`].
    pub fn new(file: File, filter: Filter) -> Result<Self, Error> {
        let offset = match filter.tail {
            Some(count) => tail_offset(&file, count, &filter)
                .map_err(|source| Error::Log { offset: 0, source })?,
            None => 0,
        };
        Ok(Self {
            file,
            filter,
            offset,
            buffer: VecDeque::new(),
            searched: 0,
            skipping: false,
            pieces: Pieces::default(),
            malformed: 0,
        })
    }

    /// The next record that passes the filter.
    ///
    /// # Errors
    ///
    /// [`Error::Log`].
    pub fn next_record(&mut self) -> Result<Next, Error> {
        while let Some(line) = self.next_line()? {
            let Ok(line) = parse_line(&line) else {
                self.malformed += 1;
                continue;
            };
            if let Some(record) = self.pieces.join(&line)
                && self.filter.wants(record.timestamp_usec, record.stream)
            {
                return Ok(Next::Record(record));
            }
        }
        Ok(Next::Pending)
    }

    /// Gives up waiting for the rest of lines that have not ended: to be called once the container
    /// has, when [`next_record`](Self::next_record) says [`Next::Pending`].
    pub fn take_unfinished(&mut self) -> Vec<Record> {
        let filter = self.filter;
        self.pieces.take().filter(|it| filter.wants(it.timestamp_usec, it.stream)).collect()
    }

    /// How many lines made no sense so far.
    pub fn malformed_lines(&self) -> u64 {
        self.malformed
    }

    /// The next line without its line feed; `None` if the file ends first.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let found = self.buffer.range(self.searched..).position(|byte| *byte == b'\n');
            if let Some(at) = found {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + at).collect();
                self.searched = 0;
                if !std::mem::take(&mut self.skipping) {
                    return Ok(Some(line[..line.len() - 1].into()));
                }
            } else {
                self.searched = self.buffer.len();
                self.skip_overlong();
                if !self.fill()? {
                    return Ok(None);
                }
            }
        }
    }

    fn skip_overlong(&mut self) {
        if self.buffer.len() > MAX_LINE {
            self.malformed += u64::from(!self.skipping);
            self.skipping = true;
            self.buffer.clear();
            self.searched = 0;
        }
    }

    /// Reads more of the file; false if there is no more.
    fn fill(&mut self) -> Result<bool, Error> {
        let mut block = vec![0; BLOCK];
        let count = read_at(&self.file, &mut block, self.offset)
            .map_err(|source| Error::Log { offset: self.offset, source })?;
        self.buffer.extend(&block[..count]);
        self.offset += count as u64;
        Ok(count > 0)
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Where to begin so that the last `count` records that pass the filter follow, found by reading
/// backwards. Pieces are counted by their last one; where streams mix in mid-line, the first
/// record may lack its beginning.
fn tail_offset(file: &File, count: usize, filter: &Filter) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let (mut end, mut found, mut begin) = (len, 0, None);
    let mut block = vec![0; BLOCK + HEADER];
    let mut backwards = Backwards::default();
    let mut counts = |header: &[u8]| {
        parse_line(header)
            .is_ok_and(|it| backwards.is_end(&it) && filter.wants(it.timestamp_usec, it.stream))
    };
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let size = usize::try_from((end + HEADER as u64).min(len) - start).unwrap_or(0);
        file.read_exact_at(&mut block[..size], start)?;
        // Relative to `start`: everything before this has yet to be looked at.
        let fresh = usize::try_from(end - start).unwrap_or(0);
        let feeds = (0..fresh).rev().filter(|at| block[*at] == b'\n').map(|at| at + 1);
        let starts = feeds.chain((start == 0).then_some(0));
        for at in starts {
            let line = &block[at..size.min(at + HEADER)];
            let line = &line[..line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len())];
            // What follows the last line feed is not a whole line yet.
            if let Some(next) = begin
                && counts(line)
            {
                found += 1;
                if found > count {
                    return Ok(next);
                }
            }
            begin = Some(start + at as u64);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::pieces::MAX_MESSAGE;
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn log(lines: &[(u64, Stream, char, &str)]) -> String {
        let line = |&(second, stream, tag, text): &(u64, Stream, char, &str)| {
            format!("2026-01-01T00:00:{second:02}.000000000+00:00 {stream} {tag} {text}\n")
        };
        lines.iter().map(line).collect()
    }

    fn file_with(content: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn messages(reader: &mut LogReader) -> Vec<String> {
        let mut all = Vec::new();
        while let Next::Record(record) = reader.next_record().unwrap() {
            all.push(String::from_utf8(record.message).unwrap());
        }
        all
    }

    fn read(content: &str, filter: Filter) -> Vec<String> {
        messages(&mut LogReader::new(file_with(content), filter).unwrap())
    }

    use Stream::{Stderr, Stdout};

    #[test]
    fn filters_are_applied() {
        let content = log(&[(1, Stdout, 'F', "a"), (2, Stderr, 'F', "b"), (3, Stdout, 'F', "c")]);
        let at = |second: u64| Some(1_767_225_600_000_000 + second * 1_000_000); // 2026-01-01
        let all = Filter::default();
        for (about, filter, want) in [
            ("all", all, &["a", "b", "c"][..]),
            ("stderr", Filter { streams: Streams::Only(Stderr), ..all }, &["b"]),
            ("since", Filter { since_usec: at(2), ..all }, &["b", "c"]),
            ("until", Filter { until_usec: at(2), ..all }, &["a", "b"]),
            ("tail", Filter { tail: Some(2), ..all }, &["b", "c"]),
            ("tail 0", Filter { tail: Some(0), ..all }, &[]),
            ("long tail", Filter { tail: Some(9), ..all }, &["a", "b", "c"]),
            (
                "tail of one stream",
                Filter { tail: Some(1), streams: Streams::Only(Stderr), ..all },
                &["b"],
            ),
            ("tail, until", Filter { tail: Some(1), until_usec: at(1), ..all }, &["a"]),
        ] {
            assert_eq!(read(&content, filter), want, "{about}");
        }
    }

    #[test]
    fn pieces_are_joined_by_stream() {
        let content = log(&[
            (1, Stdout, 'P', "one "),
            (2, Stderr, 'F', "other"),
            (3, Stdout, 'P', "two "),
            (4, Stdout, 'F', "three"),
            (5, Stdout, 'P', "open"),
        ]);
        let mut reader = LogReader::new(file_with(&content), Filter::default()).unwrap();
        assert_eq!(messages(&mut reader), ["other", "one two three"]);
        let rest = reader.take_unfinished();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].message, b"open");
        assert!(reader.take_unfinished().is_empty());
    }

    #[test]
    fn endless_pieces_are_given_in_bounded_records() {
        let piece = "x".repeat(8 << 10);
        let content = log(&vec![(1, Stdout, 'P', piece.as_str()); 100]);
        let mut reader = LogReader::new(file_with(&content), Filter::default()).unwrap();
        let mut total = 0;
        while let Next::Record(record) = reader.next_record().unwrap() {
            assert!(record.message.len() <= MAX_MESSAGE);
            total += record.message.len();
        }
        total += reader.take_unfinished().iter().map(|r| r.message.len()).sum::<usize>();
        assert_eq!(total, 100 * piece.len());
    }

    #[test]
    fn a_growing_file_is_followed() {
        let whole = log(&[(1, Stdout, 'F', "a"), (2, Stdout, 'F', "b")]);
        let (first, second) = whole.split_at(70);
        let mut file = file_with(first);
        let mut reader = LogReader::new(file.try_clone().unwrap(), Filter::default()).unwrap();
        assert_eq!(messages(&mut reader), ["a"]);
        assert_eq!(reader.next_record().unwrap(), Next::Pending);
        file.write_all(second.as_bytes()).unwrap();
        assert_eq!(messages(&mut reader), ["b"]);
    }

    #[test]
    fn nonsense_is_passed_over_and_counted() {
        let good = log(&[(1, Stdout, 'F', "a")]);
        let overlong = "x".repeat(3 * MAX_LINE);
        let content = format!("garbage\n{good}{overlong}\n\n{good}");
        let mut reader = LogReader::new(file_with(&content), Filter::default()).unwrap();
        assert_eq!(messages(&mut reader), ["a", "a"]);
        assert_eq!(reader.malformed_lines(), 3);
    }

    #[test]
    fn a_tail_counts_a_record_that_never_ended() {
        let content = log(&[
            (1, Stdout, 'F', "a"),
            (2, Stdout, 'F', "b"),
            (3, Stderr, 'F', "e"),
            (4, Stdout, 'P', "c"),
            (5, Stdout, 'P', "d"),
        ]);
        for (tail, want) in [(0, ""), (1, "cd"), (2, "e cd"), (3, "b e cd"), (9, "a b e cd")] {
            let filter = Filter { tail: Some(tail), ..Filter::default() };
            let mut reader = LogReader::new(file_with(&content), filter).unwrap();
            let mut read = messages(&mut reader);
            let rest = reader.take_unfinished();
            read.extend(rest.iter().map(|it| String::from_utf8(it.message.clone()).unwrap()));
            assert_eq!(read.join(" "), want, "the last {tail}");
        }
    }

    #[test]
    fn a_tail_does_not_count_a_line_that_is_still_being_written() {
        let mut content = log(&[(1, Stdout, 'F', "a"), (2, Stdout, 'F', "b")]);
        content.push_str("2026-01-01T00:00:03.000000000+00:00 stdout F hal");
        assert_eq!(read(&content, Filter { tail: Some(1), ..Filter::default() }), ["b"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_tail_is_the_end_of_the_whole(
            lengths in proptest::collection::vec(0_usize..9000, 0..60), count in 0_usize..70,
        ) {
            let texts: Vec<String> =
                lengths.iter().enumerate().map(|(at, len)| format!("{at}{}", "x".repeat(*len))).collect();
            let lines: Vec<_> = texts.iter().map(|text| (1, Stdout, 'F', text.as_str())).collect();
            let content = log(&lines);
            let got = read(&content, Filter { tail: Some(count), ..Filter::default() });
            let want = &texts[texts.len().saturating_sub(count)..];
            prop_assert_eq!(got, want);
        }
    }
}
