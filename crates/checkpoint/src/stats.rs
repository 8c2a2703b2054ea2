//! `stats-dump`, where CRIU counts what it did.

/// What CRIU counted while it wrote down a container.
///
/// The file has two numbers that say what it is, the length of what follows, and that, in the form of
/// Protocol Buffers. What is not known in it is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpStats {
    /// How long it took until all processes stood still, in microseconds.
    pub freezing_usec: u64,
    /// How long they stood still, in microseconds; up to when all was written.
    pub frozen_usec: u64,
    /// Of that, to find the pages of their memory, in microseconds.
    pub memory_dump_usec: u64,
    /// Of that, to write them, in microseconds.
    pub memory_write_usec: u64,
    /// Pages that were looked at.
    pub pages_scanned: u64,
    /// Pages that an earlier checkpoint has.
    pub pages_skipped: u64,
    /// Pages that were written.
    pub pages_written: u64,
}

/// What the file begins with, as little-endian numbers of four bytes.
const MAGIC: [u32; 2] = [0x5510_5940, 0x5709_3306];
/// The field of the file that is about a dump.
const DUMP: u64 = 1;

impl DumpStats {
    /// Longest file, in bytes; real ones have about a hundred.
    pub const MAX_LEN: usize = 4096;

    /// Reads the file; nothing if it is not one of a dump.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk::<4>()?;
        let (second, rest) = rest.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let magic = [first, second].map(|word| u32::from_le_bytes(*word));
        let message = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        if magic != MAGIC || bytes.len() > Self::MAX_LEN {
            return None;
        }
        let mut dump = None;
        each_field(message, |number, field| match field {
            Field::Bytes(bytes) if number == DUMP => dump = Some(bytes),
            _ => {}
        })?;
        Self::of_dump(dump?)
    }

    fn of_dump(message: &[u8]) -> Option<Self> {
        let mut stats = Self::default();
        each_field(message, |number, field| {
            let Field::Number(value) = field else { return };
            let place = match number {
                1 => &mut stats.freezing_usec,
                2 => &mut stats.frozen_usec,
                3 => &mut stats.memory_dump_usec,
                4 => &mut stats.memory_write_usec,
                5 => &mut stats.pages_scanned,
                6 => &mut stats.pages_skipped,
                7 => &mut stats.pages_written,
                _ => return,
            };
            *place = value;
        })?;
        Some(stats)
    }
}

/// A field of a message.
enum Field<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

/// Hands out each field of a message with its number; nothing if it is none.
fn each_field<'m>(mut message: &'m [u8], mut take: impl FnMut(u64, Field<'m>)) -> Option<()> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let len = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(len)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        take(key >> 3, field);
    }
    Some(())
}

/// A number of up to ten bytes, seven bits each, the lowest first.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(message: &[u8]) -> Vec<u8> {
        let len = u32::try_from(message.len()).unwrap();
        let words = [MAGIC[0], MAGIC[1], len].map(u32::to_le_bytes).concat();
        [&words, message].concat()
    }

    #[test]
    fn figures_are_read_and_what_is_not_known_is_passed_over() {
        let dump = [8, 1, 16, 0x90, 0x4e, 24, 2, 32, 3, 40, 200, 1, 48, 0, 56, 9, 72, 0, 80, 5];
        let message = [&[10, 20][..], &dump, &[18, 2, 8, 1]].concat();
        let want = DumpStats {
            freezing_usec: 1,
            frozen_usec: 10_000,
            memory_dump_usec: 2,
            memory_write_usec: 3,
            pages_scanned: 200,
            pages_skipped: 0,
            pages_written: 9,
        };
        assert_eq!(DumpStats::parse(&file(&message)), Some(want));
        assert_eq!(DumpStats::parse(&file(&[18, 2, 8, 1])), None, "of a restore");
        assert_eq!(DumpStats::parse(&file(&message)[1..]), None);
        for short in 0..file(&message).len() {
            assert_eq!(DumpStats::parse(&file(&message)[..short]), None, "{short} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_file_is_too_much(message in any::<Vec<u8>>(), file_ in any::<Vec<u8>>()) {
            DumpStats::parse(&file(&message));
            DumpStats::parse(&file_);
            DumpStats::parse(&file(&[&[10, u8::try_from(message.len() % 128).unwrap()][..], &message].concat()));
        }
    }
}
