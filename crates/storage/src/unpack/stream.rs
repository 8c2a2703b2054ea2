//! From the bytes a caller hands in to the bytes of a tar archive.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::limits::{Limits, Watch};
use crate::digest::Digest;
use crate::error::{Error, Limit, Malformed};

/// Bytes read at a time.
pub(crate) const CHUNK: usize = 128 << 10;

/// Largest window of a zstd frame, as a power of two: 128 MiB, what `zstd` itself takes without
/// `--long`, and what a frame can make this process allocate.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What the readers of one import share: counters, limits, and why they stopped.
pub(crate) struct Gauge<'a> {
    limits: &'a Limits,
    watch: &'a dyn Watch,
    compressed: Cell<u64>,
    uncompressed: Cell<u64>,
    /// Why a reader failed, if it is not the archive's fault; an `io::Error` cannot carry it
    /// through the decoders.
    stop: Cell<Option<Error>>,
}

impl<'a> Gauge<'a> {
    pub(crate) fn new(limits: &'a Limits, watch: &'a dyn Watch) -> Self {
        let (compressed, uncompressed) = (Cell::new(0), Cell::new(0));
        Self { limits, watch, compressed, uncompressed, stop: Cell::new(None) }
    }

    pub(crate) fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// What a failed read means.
    pub(crate) fn explain(&self, error: io::Error) -> Error {
        self.stop.take().unwrap_or_else(|| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.malformed(Malformed::Truncated),
            _ => self.malformed(Malformed::Compressed(error)),
        })
    }

    pub(crate) fn malformed(&self, source: Malformed) -> Error {
        Error::Malformed { at: self.uncompressed.get(), source }
    }

    fn stop(&self, error: Error) -> io::Error {
        self.stop.set(Some(error));
        io::Error::other("stopped")
    }

    fn count_compressed(&self, bytes: usize) -> io::Result<()> {
        let total = self.compressed.get() + bytes as u64;
        self.compressed.set(total);
        match self.watch.progress(total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(self.stop(Error::Cancelled)),
        }
    }

    fn count_uncompressed(&self, bytes: usize) -> io::Result<()> {
        let total = self.uncompressed.get() + bytes as u64;
        self.uncompressed.set(total);
        let exceeded = |limit, allowed| Err(self.stop(Error::Limit { limit, allowed }));
        let (bytes, ratio) = (self.limits.bytes(), self.limits.ratio());
        if total > bytes {
            return exceeded(Limit::Bytes, bytes);
        }
        let inflated = total / self.compressed.get().max(1) > ratio;
        if total > Limits::RATIO_FREE_BYTES && inflated {
            return exceeded(Limit::Ratio, ratio);
        }
        Ok(())
    }
}

/// The caller's reader, counted.
struct Tap<'a> {
    input: &'a mut dyn Read,
    gauge: &'a Gauge<'a>,
}

impl Read for Tap<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer) {
            Ok(read) => {
                self.gauge.count_compressed(read)?;
                Ok(read)
            }
            Err(source) if source.kind() == io::ErrorKind::Interrupted => Err(source),
            Err(source) => Err(self.gauge.stop(Error::ReadArchive { source })),
        }
    }
}

/// The uncompressed archive, counted and digested as it is read.
pub(crate) struct Plain<'a> {
    decoder: Box<dyn Read + 'a>,
    hasher: Sha256,
    gauge: &'a Gauge<'a>,
    /// What was looked at and is still to be read, and how much of it was read.
    peeked: (Vec<u8>, usize),
}

impl<'a> Plain<'a> {
    pub(crate) fn open(input: &'a mut dyn Read, gauge: &'a Gauge<'a>) -> Result<Self, Error> {
        let mut input = BufReader::with_capacity(CHUNK, Tap { input, gauge });
        // Two reads, for a pipe may hand over its first byte alone.
        let start = read_start(&mut input).map_err(|error| gauge.explain(error))?;
        let format = sniff(&start).map_err(|problem| gauge.malformed(problem))?;
        let input = io::Cursor::new(start).chain(input);
        let decoder = decoder(format, input).map_err(|error| gauge.explain(error))?;
        Ok(Self { decoder, hasher: Sha256::new(), gauge, peeked: (Vec::new(), 0) })
    }

    /// Looks at the first `len` bytes, or as many as there are; before anything is read.
    pub(crate) fn peek(&mut self, len: usize) -> Result<&[u8], Error> {
        let mut start = Vec::new();
        let read = self.take(len as u64).read_to_end(&mut start);
        read.map_err(|error| self.gauge.explain(error))?;
        self.peeked = (start, 0);
        Ok(&self.peeked.0)
    }

    pub(crate) fn digest(self) -> Digest {
        Digest::finish(self.hasher)
    }
}

impl Read for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (peeked, given) = &mut self.peeked;
        if *given < peeked.len() {
            let len = (peeked.len() - *given).min(buffer.len());
            buffer[..len].copy_from_slice(&peeked[*given..*given + len]);
            *given += len;
            return Ok(len);
        }
        let read = self.decoder.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.gauge.count_uncompressed(read)?;
        Ok(read)
    }
}

fn read_start(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(MAGIC_LEN);
    input.take(MAGIC_LEN as u64).read_to_end(&mut start)?;
    Ok(start)
}

fn decoder<'a>(format: Compression, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match format {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip, which everything reads.
    Gzip,
    /// With zstd, which is faster and packs more.
    Zstd,
}

impl Compression {
    /// What a layer that is compressed so is called in a manifest.
    pub(crate) fn layer_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// Bytes at the start of an archive that tell its format.
const MAGIC_LEN: usize = 6;

/// Tells the compression by the first [`MAGIC_LEN`] bytes; what has no known one is taken for a
/// plain archive, which is then recognised by its checksum.
pub(crate) fn sniff(start: &[u8]) -> Result<Compression, Malformed> {
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        // A frame, or a skippable frame before it (RFC 8878, 3.1).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(Malformed::Compression("xz")),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41] => Err(Malformed::Compression("bzip2")),
        _ => Ok(Compression::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn formats_are_told_by_their_magic() {
        let zstd = zstd::encode_all(&b"x"[..], 0).unwrap();
        for (about, start, want) in [
            ("gzip", &[0x1f, 0x8b, 8, 0, 0, 0][..], Some(Compression::Gzip)),
            ("zstd", &zstd[..6], Some(Compression::Zstd)),
            ("zstd, skippable frame", &[0x5a, 0x2a, 0x4d, 0x18, 0, 0], Some(Compression::Zstd)),
            ("a name", b"etc/pa", Some(Compression::None)),
            ("a name like bzip2's magic", b"BZh1/x", Some(Compression::None)),
            ("nothing", b"", Some(Compression::None)),
            ("xz", b"\xfd7zXZ\0", None),
            ("bzip2", b"BZh91AY", None),
        ] {
            let start = &start[..start.len().min(MAGIC_LEN)];
            assert_eq!(sniff(start).ok(), want, "{about}");
        }
    }

    fn read_all(mut input: &[u8], limits: &Limits) -> Result<(Vec<u8>, Digest), Error> {
        let watch = |_| ControlFlow::Continue(());
        let gauge = Gauge::new(limits, &watch);
        let mut plain = Plain::open(&mut input, &gauge)?;
        let mut bytes = Vec::new();
        plain.read_to_end(&mut bytes).map_err(|error| gauge.explain(error))?;
        Ok((bytes, plain.digest()))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn the_digest_is_of_the_uncompressed_bytes_in_every_format() {
        let bytes = b"some bytes".repeat(100_000);
        let half = bytes.len() / 2;
        let members = [gzip(&bytes[..half]), gzip(&bytes[half..])].concat();
        for (about, input) in [
            ("plain", bytes.clone()),
            ("gzip", gzip(&bytes)),
            ("gzip, two members", members),
            ("zstd", zstd::encode_all(&*bytes, 0).unwrap()),
        ] {
            let (read, digest) = read_all(&input, &Limits::default()).unwrap();
            assert!(read == bytes, "{about}");
            assert_eq!(digest, Digest::of(&bytes), "{about}");
        }
    }

    #[test]
    fn truncation_is_told_from_damage() {
        let bytes = b"some bytes".repeat(1000);
        let gzip = gzip(&bytes);
        let zstd = zstd::encode_all(&*bytes, 0).unwrap();
        for cut in [&gzip[..gzip.len() - 4], &gzip[..20], &zstd[..zstd.len() - 1]] {
            let error = read_all(cut, &Limits::default()).unwrap_err();
            let Error::Malformed { source: Malformed::Truncated, .. } = error else {
                panic!("{error:?}")
            };
        }
        let mut damaged = gzip;
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        let error = read_all(&damaged, &Limits::default()).unwrap_err();
        let Error::Malformed { source: Malformed::Compressed(_), .. } = error else {
            panic!("{error:?}")
        };
    }

    #[test]
    fn a_bomb_stops_at_the_ratio() {
        let zeros = io::repeat(0).take(Limits::RATIO_FREE_BYTES + (1 << 20));
        let bomb = zstd::encode_all(zeros, 1).unwrap();
        let error = read_all(&bomb, &Limits::default()).unwrap_err();
        let Error::Limit { limit: Limit::Ratio, allowed: 200 } = error else { panic!("{error:?}") };
        let error = read_all(&bomb, &Limits::default().with_bytes(1000)).unwrap_err();
        let Error::Limit { limit: Limit::Bytes, allowed: 1000 } = error else {
            panic!("{error:?}")
        };
    }
}
