//! Extended headers of the `pax` format.
//!
//! Read by their stated lengths, as [POSIX] wants: a value may hold line feeds, so splitting at
//! those would let the value of one record pose as another record.
//!
//! [POSIX]: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_03

use crate::error::Malformed;

/// The records of one extended header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax(Vec<(Vec<u8>, Vec<u8>)>);

const HEADER: Malformed = Malformed::Field("extended header");

impl Pax {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (record, rest) = split_record(bytes).ok_or(HEADER)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or(HEADER)?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            bytes = rest;
        }
        Ok(Self(records))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of `key`: the last one counts, and an empty one means none.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.records().filter(|(name, _)| *name == key.as_bytes()).last();
        found.map(|(_, value)| value).filter(|value| !value.is_empty())
    }

    /// The value of `key` as a whole number.
    pub(super) fn number(&self, key: &'static str) -> Result<Option<u64>, Malformed> {
        let parse = |value: &[u8]| digits(value).ok_or(Malformed::Field(key));
        self.get(key).map(parse).transpose()
    }

    /// The value of `key` as a point in time: seconds since 1970, and nanoseconds after that.
    pub(super) fn time(&self, key: &'static str) -> Result<Option<(i64, u32)>, Malformed> {
        let parse = |value: &[u8]| decimal_seconds(value).ok_or(Malformed::Field(key));
        self.get(key).map(parse).transpose()
    }
}

/// Splits `length SP key=value LF` off the front, and drops all but `key=value` of it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(digits(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((record, rest))
}

/// A number of decimal digits alone, at least one.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads `[-]seconds[.fraction]`; digits below a nanosecond are dropped.
fn decimal_seconds(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|&byte| byte == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(digits(&text[..dot])?).ok()?;
    let fraction = text.get(dot + 1..).unwrap_or_default();
    let mut nine = *b"000000000";
    let kept = fraction.len().min(nine.len());
    nine[..kept].copy_from_slice(&fraction[..kept]);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = u32::try_from(digits(&nine)?).ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        // -1.25 is three quarters of a second after -2.
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let length =
            (1..9).map(|digits| rest + digits).find(|all| all.to_string().len() + rest == *all);
        [length.unwrap().to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
    }

    #[test]
    fn a_value_with_line_feeds_hides_no_record() {
        let bytes = [record(b"SCHILY.xattr.user.x", b"a\n12 path=evil\n"), record(b"uid", b"7")];
        let pax = Pax::parse(&bytes.concat()).unwrap();
        assert_eq!(pax.get("SCHILY.xattr.user.x"), Some(&b"a\n12 path=evil\n"[..]));
        assert_eq!(pax.get("path"), None);
        assert_eq!(pax.number("uid").unwrap(), Some(7));
    }

    #[test]
    fn the_last_record_counts_and_an_empty_one_is_none() {
        let bytes = [record(b"path", b"a"), record(b"path", b"b"), record(b"gid", b"")].concat();
        let pax = Pax::parse(&bytes).unwrap();
        assert_eq!((pax.get("path"), pax.get("gid")), (Some(&b"b"[..]), None));
    }

    #[test]
    fn damaged_records_are_refused() {
        for (about, bytes) in [
            ("no length", &b"path=x\n"[..]),
            ("length too long", b"99 path=x\n"),
            ("length too short", b"6 path=x\n"),
            ("length zero", b"0 path=x\n"),
            ("length beyond any number", b"99999999999999999999999 path=x\n"),
            ("signed length", b"+10 path=x\n"),
            ("no equals", b"8 pathx\n"),
            ("no line feed", b"10 path=xy"),
        ] {
            assert!(Pax::parse(bytes).is_err(), "{about}");
        }
    }

    #[test]
    fn times_have_parts_of_seconds() {
        for (text, want) in [
            ("0", Some((0, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.000000001999", Some((12, 1))),
            ("12.", Some((12, 0))),
            ("-1", Some((-1, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("1e5", None),
            ("", None),
            ("-", None),
            ("1.x", None),
            ("1.0000000001x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(decimal_seconds(text.as_bytes()), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(
            key in "[a-zA-Z.]{1,20}", value in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let pax = Pax::parse(&record(key.as_bytes(), &value)).unwrap();
            prop_assert_eq!(pax.records().collect::<Vec<_>>(), [(key.as_bytes(), &*value)]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Pax::parse(&bytes);
        }
    }
}
