use std::fmt;

use serde::{Deserialize, Serialize};

/// Which output of a container a text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// Which streams are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// Both.
    #[default]
    Both,
    /// One.
    Only(Stream),
}

impl Streams {
    /// Whether texts of `stream` are wanted.
    pub fn contains(self, stream: Stream) -> bool {
        match self {
            Self::Both => true,
            Self::Only(one) => one == stream,
        }
    }
}

/// One line of a log, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When conmon read it, in microseconds since 1970.
    pub timestamp_usec: u64,
    /// Where it came from.
    pub stream: Stream,
    /// Whether the container's line ends here (`F`) or goes on (`P`).
    pub ends: bool,
    /// The text, without a line feed.
    pub text: &'a [u8],
}

/// One line of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When conmon read its beginning, in microseconds since 1970.
    pub timestamp_usec: u64,
    /// Where it came from.
    pub stream: Stream,
    /// The text, without a line feed; not always UTF-8.
    pub message: Vec<u8>,
}

/// Records of a container that the journal did not take: it had sent too many in too short a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// When the journal said so, in microseconds since 1970.
    pub timestamp_usec: u64,
    /// How many pieces of lines; a line has several only if it is long.
    pub count: u64,
}

impl Dropped {
    /// As one line of JSON, without a line feed: `{"t":<usec>,"dropped":<count>}`.
    pub fn to_json_line(&self) -> String {
        let Self { timestamp_usec, count } = self;
        format!(r#"{{"t":{timestamp_usec},"dropped":{count}}}"#)
    }
}

/// How a [`Record`] looks as JSON.
#[derive(Serialize)]
struct Json<'a> {
    t: u64,
    stream: Stream,
    msg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

impl Record {
    /// The record as one line of JSON, without a line feed: `{"t":<usec>,"stream":"stdout",
    /// "msg":"..."}`. A text that is not UTF-8 has U+FFFD in `msg` and its bytes, as base64, in
    /// `raw`.
    pub fn to_json_line(&self) -> String {
        let msg = String::from_utf8_lossy(&self.message);
        let raw = matches!(msg, std::borrow::Cow::Owned(_)).then(|| base64(&self.message));
        let json = Json { t: self.timestamp_usec, stream: self.stream, msg: &msg, raw };
        // Numbers, texts and no maps with odd keys: this cannot fail.
        serde_json::to_string(&json).unwrap_or_default()
    }
}

/// Base64 of RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > group.len() { '=' } else { digit.into() });
        }
    }
    text
}

/// Why a line of a log file makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLine {
    /// The time is malformed, or before 1970.
    #[error("malformed time")]
    Time,
    /// The stream is neither `stdout` nor `stderr`.
    #[error("unknown stream")]
    Stream,
    /// The tag is neither `F` nor `P`.
    #[error("unknown tag")]
    Tag,
}

/// Reads one line of a log file, given without its line feed.
///
/// # Errors
///
/// [`InvalidLine`].
pub fn parse_line(line: &[u8]) -> Result<Line<'_>, InvalidLine> {
    let (time, rest) = split_word(line).ok_or(InvalidLine::Time)?;
    let timestamp_usec = parse_time(time).ok_or(InvalidLine::Time)?;
    let (stream, rest) = split_word(rest).ok_or(InvalidLine::Stream)?;
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return Err(InvalidLine::Stream),
    };
    let (ends, text) = match rest {
        [b'F', b' ', text @ ..] => (true, text),
        [b'P', b' ', text @ ..] => (false, text),
        _ => return Err(InvalidLine::Tag),
    };
    Ok(Line { timestamp_usec, stream, ends, text })
}

fn split_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = text.iter().position(|byte| *byte == b' ')?;
    Some((&text[..blank], &text[blank + 1..]))
}

/// Reads `2026-11-23T16:57:13.302016294+00:00`, as microseconds since 1970.
fn parse_time(text: &[u8]) -> Option<u64> {
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (32, b':')];
    if text.len() != 35 || marks.iter().any(|&(at, mark)| text[at] != mark) {
        return None;
    }
    let field = |from: usize, to: usize| number(&text[from..to]);
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    // 60 is a leap second.
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
    if !in_range || minute >= 60 || second > 60 {
        return None;
    }
    let offset = (field(30, 32)? * 60 + field(33, 35)?) * 60;
    let offset = match text[29] {
        b'+' => offset,
        b'-' => -offset,
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    u64::try_from(seconds * 1_000_000 + field(20, 29)? / 1_000).ok()
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0_i64, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
    })
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Counts years from March, so that the
/// leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_as_conmon_writes_them() {
        let line = parse_line(b"2026-11-23T16:57:13.302016294+00:00 stdout F hi there").unwrap();
        let want = Line {
            timestamp_usec: 1_795_453_033_302_016, // date -d 2026-11-23T16:57:13Z +%s
            stream: Stream::Stdout,
            ends: true,
            text: b"hi there",
        };
        assert_eq!(line, want);
        let line = parse_line(b"2026-11-23T16:57:13.000000000+00:00 stderr P ").unwrap();
        assert_eq!((line.stream, line.ends, line.text), (Stream::Stderr, false, &b""[..]));
    }

    #[test]
    fn times_are_seconds_of_utc() {
        for (text, want) in [
            ("1970-01-01T00:00:00.000000000+00:00", Some(0)),
            ("1970-01-01T00:00:00.000001999+00:00", Some(1)),
            ("2000-02-29T12:00:00.000000000+00:00", Some(951_825_600_000_000)),
            ("2000-03-01T00:00:00.000000000+00:00", Some(951_868_800_000_000)),
            ("2100-03-01T00:00:00.000000000+00:00", Some(4_107_542_400_000_000)),
            ("2000-02-29T14:00:00.000000000+02:00", Some(951_825_600_000_000)),
            ("2000-02-29T06:30:00.000000000-05:30", Some(951_825_600_000_000)),
            ("1969-12-31T23:59:59.000000000+00:00", None),
            ("2000-13-01T00:00:00.000000000+00:00", None),
            ("2000-01-01T24:00:00.000000000+00:00", None),
            ("2000-01-01T00:00:00.00000000x+00:00", None),
            ("2000-01-01T00:00:00Z", None),
        ] {
            assert_eq!(parse_time(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn malformed_lines_are_refused() {
        let time = "2026-11-23T16:57:13.302016294+00:00";
        for (rest, want) in [
            ("", InvalidLine::Time),
            (" stdout", InvalidLine::Stream),
            (" stdin F x", InvalidLine::Stream),
            (" stdout X x", InvalidLine::Tag),
            (" stdout F", InvalidLine::Tag),
            (" stdout Fx y", InvalidLine::Tag),
        ] {
            assert_eq!(parse_line(format!("{time}{rest}").as_bytes()), Err(want), "{rest:?}");
        }
        assert_eq!(parse_line(b"garbage stdout F x"), Err(InvalidLine::Time));
    }

    #[test]
    fn records_become_json() {
        let record = |message: &[u8]| Record {
            timestamp_usec: 7,
            stream: Stream::Stderr,
            message: message.into(),
        };
        for (message, want) in [
            (&b"a \"b\"\n"[..], r#"{"t":7,"stream":"stderr","msg":"a \"b\"\n"}"#),
            (b"", r#"{"t":7,"stream":"stderr","msg":""}"#),
            (b"\xff", "{\"t\":7,\"stream\":\"stderr\",\"msg\":\"\u{fffd}\",\"raw\":\"/w==\"}"),
        ] {
            assert_eq!(record(message).to_json_line(), want);
        }
    }

    #[test]
    fn what_was_dropped_is_counted_in_json() {
        let dropped = Dropped { timestamp_usec: 7, count: 12 };
        assert_eq!(dropped.to_json_line(), r#"{"t":7,"dropped":12}"#);
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, want) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), want);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_line(&bytes);
        }

        #[test]
        fn a_day_later_is_a_day_later(year in 1970_i64..3000, month in 1_i64..=12, day in 1_i64..28) {
            prop_assert_eq!(days(year, month, day + 1) - days(year, month, day), 1);
        }
    }
}
