//! The entries of a tar archive, one after the other.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::header::{Extensions, Extent, Head, check_sum, extents, has_content};
use super::sparse::{Map, MapReader, Sparse};
use super::stream::Gauge;
use crate::error::{Error, Limit, Malformed};

const BLOCK: usize = 512;

/// Bytes one extended header may have: Linux allows names of 4 KiB and extended attributes of
/// 64 KiB each, so real ones are far smaller.
const MAX_EXTENSION: u64 = 1 << 20;

/// A tar archive read from front to end.
///
/// The `tar` crate reads the fields of a header; going from header to header is done here, because
/// a hostile one must not choose how much is read into memory, and because a record of an extended
/// header must not pose as another.
pub(crate) struct Archive<'a, R> {
    input: R,
    gauge: &'a Gauge<'a>,
    /// Content bytes of the current entry not read yet.
    left: u64,
    /// Bytes that fill up its last block.
    padding: u64,
}

/// What an archive is read from.
pub(crate) trait Input: Read {
    /// Passes over so many bytes; whether there were as many.
    fn skip(&mut self, bytes: u64) -> io::Result<bool> {
        Ok(io::copy(&mut self.take(bytes), &mut io::sink())? == bytes)
    }
}

impl Input for &[u8] {}
impl<R: Read> Input for io::BufReader<R> {}

impl<'a, R: Input> Archive<'a, R> {
    pub(crate) fn new(input: R, gauge: &'a Gauge<'a>) -> Self {
        Self { input, gauge, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end marker.
    pub(crate) fn next(&mut self) -> Result<Option<Head>, Error> {
        self.skip(self.left)?;
        self.skip(self.padding)?;
        (self.left, self.padding) = (0, 0);
        let mut extensions = Extensions::default();
        loop {
            let block = self.block()?;
            if block == [0; BLOCK] {
                return extensions.end().map_err(|problem| self.gauge.malformed(problem));
            }
            let header = Header::from_byte_slice(&block);
            check_sum(header).map_err(|problem| self.gauge.malformed(problem))?;
            let slot = match header.entry_type() {
                EntryType::GNULongName => &mut extensions.path,
                EntryType::GNULongLink => &mut extensions.link,
                EntryType::XHeader => &mut extensions.pax,
                // Defaults for all entries that follow; `git archive` notes the commit there.
                EntryType::XGlobalHeader => &mut None,
                _ => return self.head(header, extensions).map(Some),
            };
            let text = self.extension(header)?;
            if slot.replace(text).is_some() {
                return Err(self.gauge.malformed(Malformed::Extension));
            }
        }
    }

    /// Reads content of the current entry; 0 at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        match retry(|| self.input.read(&mut buffer[..wanted])) {
            Ok(0) => Err(self.gauge.malformed(Malformed::Truncated)),
            Ok(read) => {
                self.left -= read as u64;
                Ok(read)
            }
            Err(error) => Err(self.gauge.explain(error)),
        }
    }

    /// Reads what follows the end marker, which is part of the digest.
    pub(super) fn drain(mut self) -> Result<R, Error> {
        io::copy(&mut self.input, &mut io::sink()).map_err(|error| self.gauge.explain(error))?;
        Ok(self.input)
    }

    fn head(&mut self, header: &Header, extensions: Extensions) -> Result<Head, Error> {
        let mut head = extensions.head(header).map_err(|problem| self.gauge.malformed(problem))?;
        if header.entry_type().is_gnu_sparse() {
            head.extents = self.sparse_map(header)?;
        }
        let stored = if has_content(head.kind) { head.size } else { 0 };
        self.left = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
        let sparse = Sparse::of(&head.pax).map_err(|problem| self.gauge.malformed(problem))?;
        if let (EntryType::GNUSparse, Some(gnu)) = (head.kind, header.as_gnu()) {
            head.size =
                gnu.real_size().map_err(|_| self.gauge.malformed(Malformed::Field("size")))?;
        } else if let Some(Sparse { size, name, map }) = sparse.filter(|_| head.kind.is_file()) {
            head.size = size;
            head.path = name.unwrap_or(head.path);
            head.extents = match map {
                Map::Here(extents) => extents,
                Map::InContent => self.map_in_content()?,
            };
        } else {
            head.size = stored;
            head.extents = vec![Extent { offset: 0, length: stored }];
        }
        Ok(head)
    }

    fn map_in_content(&mut self) -> Result<Vec<Extent>, Error> {
        let mut reader = MapReader::default();
        for _ in 0..MAX_EXTENSION / BLOCK as u64 {
            let mut block = [0; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match self.read(&mut block[filled..])? {
                    0 => return Err(self.gauge.malformed(Malformed::Field("map of holes"))),
                    read => filled += read,
                }
            }
            let map = reader.feed(&block).map_err(|problem| self.gauge.malformed(problem))?;
            if let Some(map) = map {
                return Ok(map);
            }
        }
        Err(too_long())
    }

    fn sparse_map(&mut self, header: &Header) -> Result<Vec<Extent>, Error> {
        let gauge = self.gauge;
        let damaged = || gauge.malformed(Malformed::Field("map of holes"));
        let gnu = header.as_gnu().ok_or_else(damaged)?;
        let mut map = extents(&gnu.sparse).ok_or_else(damaged)?;
        let mut more = gnu.is_extended();
        let mut read = 0;
        while more {
            read += BLOCK as u64;
            if read > MAX_EXTENSION {
                return Err(too_long());
            }
            let mut block = GnuExtSparseHeader::new();
            *block.as_mut_bytes() = self.block()?;
            map.extend(extents(block.sparse()).ok_or_else(damaged)?);
            more = block.is_extended();
        }
        Ok(map)
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let size = header.entry_size();
        let size = size.map_err(|_| self.gauge.malformed(Malformed::Field("size")))?;
        if size > MAX_EXTENSION {
            return Err(too_long());
        }
        let mut text = Vec::new();
        self.left = size;
        let mut block = [0; BLOCK];
        loop {
            match self.read(&mut block)? {
                0 => break,
                read => text.extend_from_slice(&block[..read]),
            }
        }
        self.skip(size.wrapping_neg() % BLOCK as u64)?;
        Ok(text)
    }

    fn block(&mut self) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        match self.input.read_exact(&mut block) {
            Ok(()) => Ok(block),
            Err(error) => Err(self.gauge.explain(error)),
        }
    }

    /// The input, at the content of the current entry.
    pub(crate) fn input(&self) -> &R {
        &self.input
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Error> {
        match self.input.skip(bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.gauge.malformed(Malformed::Truncated)),
            Err(error) => Err(self.gauge.explain(error)),
        }
    }
}

fn too_long() -> Error {
    Error::Limit { limit: Limit::HeaderBytes, allowed: MAX_EXTENSION }
}

fn retry<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::Limits;
    use super::*;
    use proptest::prelude::*;
    use std::ops::ControlFlow;

    fn heads(bytes: &[u8]) -> Result<Vec<Head>, Error> {
        let limits = Limits::default();
        let watch = |_| ControlFlow::Continue(());
        let gauge = Gauge::new(&limits, &watch);
        let mut archive = Archive::new(bytes, &gauge);
        std::iter::from_fn(|| archive.next().transpose()).collect()
    }

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_path("name").unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(3_000_000_000);
        header.set_gid(5);
        header.set_mtime(7);
        header.set_size(size);
        header.set_cksum();
        header
    }

    fn archive(parts: &[(EntryType, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, content) in parts {
            bytes.extend_from_slice(header(*kind, content.len() as u64).as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    #[test]
    fn overrides_go_before_the_header() {
        let pax = b"12 path=pax\n13 size=0004\n14 mtime=-1.5\n8 uid=9\n";
        let long = b"a long name\0junk";
        let bytes = archive(&[
            (EntryType::XGlobalHeader, b"12 path=glo\n"),
            (EntryType::XHeader, pax),
            (EntryType::Regular, b"four"),
            (EntryType::GNULongName, long),
            (EntryType::XHeader, pax),
            (EntryType::Regular, b"four"),
            (EntryType::Regular, b""),
        ]);
        let heads = heads(&bytes).unwrap();
        let names: Vec<_> = heads.iter().map(|head| &*head.path).collect();
        assert_eq!(names, [&b"pax"[..], b"a long name", b"name"]);
        assert_eq!(heads[0].mtime, (-2, 500_000_000));
        assert_eq!((heads[0].uid, heads[0].gid), (9, 5));
        assert_eq!((heads[2].uid, heads[2].mtime), (3_000_000_000, (7, 0)), "beyond 16 bits");
    }

    #[test]
    fn what_is_no_file_has_no_content_whatever_it_states() {
        let mut bytes = header(EntryType::Link, 512).as_bytes().to_vec();
        bytes.extend(archive(&[(EntryType::Regular, b"x")]));
        assert_eq!(heads(&bytes).unwrap().len(), 2);
    }

    #[test]
    fn an_old_name_with_a_slash_is_a_directory() {
        let mut old = Header::new_old();
        old.as_mut_bytes()[..4].copy_from_slice(b"dir/");
        old.set_mode(0o755);
        old.set_uid(0);
        old.set_gid(0);
        old.set_mtime(0);
        old.set_size(0);
        old.as_old_mut().linkflag = [0];
        old.set_cksum();
        let bytes = [old.as_bytes(), &[0; BLOCK][..]].concat();
        assert!(heads(&bytes).unwrap()[0].kind.is_dir());
    }

    #[test]
    fn damage_is_named() {
        let good = archive(&[(EntryType::Regular, b"content")]);
        let mut flipped = good.clone();
        flipped[0] ^= 1;
        let lonely = archive(&[(EntryType::XHeader, b"")]);
        let twice = archive(&[
            (EntryType::GNULongName, b"a"),
            (EntryType::GNULongName, b"b"),
            (EntryType::Regular, b""),
        ]);
        let damaged = archive(&[(EntryType::XHeader, b"99 a=b\n"), (EntryType::Regular, b"")]);
        for (about, bytes, want) in [
            ("nothing at all", &b""[..], "it is truncated"),
            ("cut in a header", &good[..100], "it is truncated"),
            ("cut in the content", &good[..BLOCK + 3], "it is truncated"),
            ("no end marker", &good[..2 * BLOCK], "it is truncated"),
            ("one bit of a header", &flipped, "a header has the wrong checksum"),
            ("garbage", &[b'x'; 4096], "a header has the wrong checksum"),
            ("an extension of nothing", &lonely, "a header that extends another"),
            ("two long names", &twice, "a header that extends another"),
            ("a damaged record", &damaged, "the extended header of a header"),
        ] {
            let Err(Error::Malformed { source, .. }) = heads(bytes) else { panic!("{about}") };
            assert!(source.to_string().starts_with(want), "{about}: {source}");
        }
    }

    #[test]
    fn a_huge_extension_is_not_read_into_memory() {
        for kind in [EntryType::GNULongName, EntryType::XHeader, EntryType::XGlobalHeader] {
            let error = heads(header(kind, 1 << 40).as_bytes()).unwrap_err();
            let Error::Limit { limit: Limit::HeaderBytes, .. } = error else { panic!("{error}") };
        }
    }

    #[test]
    fn a_size_beyond_all_numbers_is_only_too_much() {
        let mut header = header(EntryType::GNUSparse, u64::MAX);
        header.as_gnu_mut().unwrap().set_real_size(0);
        header.set_cksum();
        let Err(Error::Malformed { source: Malformed::Truncated, .. }) = heads(header.as_bytes())
        else {
            panic!()
        };
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(
            field in 100_usize..512, bytes in proptest::collection::vec(any::<u8>(), 1..40),
        ) {
            let mut header = header(EntryType::GNUSparse, 10);
            let end = (field + bytes.len()).min(BLOCK);
            header.as_mut_bytes()[field..end].copy_from_slice(&bytes[..end - field]);
            header.set_cksum();
            let _ = heads(&[header.as_bytes(), &[0; 4 * BLOCK][..]].concat());
        }
    }
}
