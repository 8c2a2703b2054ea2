//! Maps of holes as GNU tar writes them into extended headers (`--format=posix --sparse`).
//!
//! See [Sparse Formats] of its manual: 0.0 and 0.1 have the map in the records, 1.0 has it in front
//! of the content.
//!
//! [Sparse Formats]: https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html

use super::header::Extent;
use super::pax::{Pax, digits};
use crate::error::Malformed;

const DAMAGED: Malformed = Malformed::Field("map of holes");

/// What the extended header of a sparse file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Bytes of the file, holes counted.
    pub(super) size: u64,
    /// Its name; the header's own is made up.
    pub(super) name: Option<Vec<u8>>,
    pub(super) map: Map,
}

/// Where the map of a sparse file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Map {
    Here(Vec<Extent>),
    /// In front of the content, up to the next block.
    InContent,
}

impl Sparse {
    /// Reads it from the records; `None` if the file is not sparse.
    pub(super) fn of(pax: &Pax) -> Result<Option<Self>, Malformed> {
        let name = pax.get("GNU.sparse.name").map(<[u8]>::to_vec);
        match (pax.number("GNU.sparse.major")?, pax.number("GNU.sparse.minor")?) {
            (Some(1), Some(0)) => {
                let size = pax.number("GNU.sparse.realsize")?.ok_or(DAMAGED)?;
                Ok(Some(Self { size, name, map: Map::InContent }))
            }
            (None | Some(0), None | Some(0 | 1)) => {
                let Some(size) = pax.number("GNU.sparse.size")? else { return Ok(None) };
                Ok(Some(Self { size, name, map: Map::Here(from_records(pax)?) }))
            }
            _ => Err(DAMAGED),
        }
    }
}

/// The map of 0.1, one record with all numbers, or else of 0.0, two records for each piece.
fn from_records(pax: &Pax) -> Result<Vec<Extent>, Malformed> {
    let mut numbers = Vec::new();
    match pax.get("GNU.sparse.map") {
        Some(map) => {
            for number in map.split(|&byte| byte == b',') {
                numbers.push(digits(number).ok_or(DAMAGED)?);
            }
        }
        None => {
            for (key, value) in pax.records() {
                if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                    numbers.push(digits(value).ok_or(DAMAGED)?);
                }
            }
        }
    }
    pair_up(&numbers)
}

fn pair_up(numbers: &[u64]) -> Result<Vec<Extent>, Malformed> {
    let (pairs, []) = numbers.as_chunks::<2>() else { return Err(DAMAGED) };
    Ok(pairs.iter().map(|&[offset, length]| Extent { offset, length }).collect())
}

/// Reads the map of 1.0, block by block: the number of pieces, then two numbers for each, every one
/// a line.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    numbers: Vec<u64>,
    /// Digits of the number being read.
    digits: Vec<u8>,
}

impl MapReader {
    /// Takes the next block; the map, once it is complete.
    pub(super) fn feed(&mut self, block: &[u8]) -> Result<Option<Vec<Extent>>, Malformed> {
        for &byte in block {
            if byte == b'\n' {
                self.numbers.push(digits(&std::mem::take(&mut self.digits)).ok_or(DAMAGED)?);
                if self.is_complete() {
                    return pair_up(&self.numbers[1..]).map(Some);
                }
            } else {
                self.digits.push(byte);
            }
        }
        // Longer than any number, so this is something else.
        if self.digits.len() > 20 { Err(DAMAGED) } else { Ok(None) }
    }

    fn is_complete(&self) -> bool {
        let pieces = self.numbers.first().and_then(|&pieces| usize::try_from(pieces).ok());
        pieces
            .and_then(|pieces| pieces.checked_mul(2))
            .is_some_and(|wanted| self.numbers.len() > wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pax(records: &[(&str, &str)]) -> Pax {
        let record = |(key, value): &(&str, &str)| {
            let rest = key.len() + value.len() + 3;
            let length = (1..9).map(|n| rest + n).find(|all| all.to_string().len() + rest == *all);
            format!("{} {key}={value}\n", length.unwrap())
        };
        Pax::parse(records.iter().map(record).collect::<String>().as_bytes()).unwrap()
    }

    fn extents(list: &[(u64, u64)]) -> Vec<Extent> {
        list.iter().map(|&(offset, length)| Extent { offset, length }).collect()
    }

    #[test]
    fn every_format_is_read() {
        let want =
            |map, name: Option<&str>| Some(Sparse { size: 99, name: name.map(Into::into), map });
        let here = || Map::Here(extents(&[(0, 5), (20, 7)]));
        let old = pax(&[
            ("GNU.sparse.size", "99"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "5"),
            ("GNU.sparse.offset", "20"),
            ("GNU.sparse.numbytes", "7"),
        ]);
        assert_eq!(Sparse::of(&old).unwrap(), want(here(), None));
        let middle = pax(&[
            ("GNU.sparse.size", "99"),
            ("GNU.sparse.name", "n"),
            ("GNU.sparse.map", "0,5,20,7"),
        ]);
        assert_eq!(Sparse::of(&middle).unwrap(), want(here(), Some("n")));
        let new = pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "n"),
            ("GNU.sparse.realsize", "99"),
        ]);
        assert_eq!(Sparse::of(&new).unwrap(), want(Map::InContent, Some("n")));
        assert_eq!(Sparse::of(&pax(&[("path", "x")])).unwrap(), None);
    }

    #[test]
    fn damaged_maps_are_refused() {
        for records in [
            &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")][..],
            &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "1,2,3")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "1,-2")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.offset", "1")],
        ] {
            assert!(Sparse::of(&pax(records)).is_err(), "{records:?}");
        }
    }

    #[test]
    fn a_map_in_the_content_may_span_blocks() {
        let mut reader = MapReader::default();
        assert_eq!(reader.feed(b"2\n0\n5\n2").unwrap(), None);
        assert_eq!(reader.feed(b"0\n7\n\0\0\0").unwrap(), Some(extents(&[(0, 5), (20, 7)])));
        assert_eq!(MapReader::default().feed(b"0\n\0").unwrap(), Some(vec![]));
        for bad in [&b"x\n"[..], b"\n", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", b"1\n-1\n"]
        {
            assert!(MapReader::default().feed(bad).is_err(), "{bad:?}");
        }
        // As many pieces as there are numbers: it is read on, not allocated.
        assert_eq!(MapReader::default().feed(b"18446744073709551615\n1\n").unwrap(), None);
    }
}
