//! Files that rows have taken in: made up, the same bytes each time, and in sizes as a distribution has them.

use std::io::{self, Read, Write};

use system_tests::image;
use tar::{Archive, Builder, EntryType, Header};

/// What is in them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// Any bytes: no program makes them fewer.
    Bytes,
    /// Digits of 16: compressed they take a little more than half the room.
    Digits,
}

/// Files that are in one directory.
const IN_A_DIRECTORY: u64 = 50;
/// The same of files that are many.
const OF_MANY: u64 = 100;

/// Appends files of so many bytes together below the directory `top`, whose name is all they depend on.
pub(crate) fn append_files<W: Write>(
    tar: &mut Builder<W>,
    top: &str,
    bytes: u64,
    content: Content,
) -> io::Result<()> {
    let mut noise = Noise::new(top, content);
    let (mut number, mut left) = (0, bytes);
    while left > 0 {
        let dir = format!("{top}/{}", number / IN_A_DIRECTORY);
        if number.is_multiple_of(IN_A_DIRECTORY) {
            append(tar, EntryType::Directory, &dir, 0, io::empty())?;
        }
        let size = size_of(number, &mut noise).min(left);
        let name = format!("{dir}/{}", number % IN_A_DIRECTORY);
        append(tar, EntryType::Regular, &name, size, noise.by_ref().take(size))?;
        (number, left) = (number + 1, left - size);
    }
    Ok(())
}

/// Writes a root file system that runs, with `files/0/0` and so on besides: as many as are said, and empty.
pub(crate) fn write_many(to: impl Write, files: u64) -> io::Result<()> {
    let mut tar = Builder::new(to);
    for entry in Archive::new(image::busybox_tar()).entries()? {
        let entry = entry?;
        tar.append(&entry.header().clone(), entry)?;
    }
    for number in 0..files {
        let dir = format!("files/{}", number / OF_MANY);
        if number.is_multiple_of(OF_MANY) {
            append(&mut tar, EntryType::Directory, &dir, 0, io::empty())?;
        }
        let name = format!("{dir}/{}", number % OF_MANY);
        append(&mut tar, EntryType::Regular, &name, 0, io::empty())?;
    }
    tar.into_inner()?.flush()
}

/// Bytes of a file: of most some KB, of one in ten 64 KB, of one in a hundred 1 MB; 23 KB on average, as in a
/// Debian.
fn size_of(number: u64, noise: &mut Noise) -> u64 {
    match number {
        _ if number.is_multiple_of(100) => 1 << 20,
        _ if number.is_multiple_of(10) => 64 << 10,
        _ => 512 + noise.next() % (14 << 10),
    }
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    kind: EntryType,
    name: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, name, content)
}

/// Numbers that look like chance and are not: `SplitMix64`.
#[derive(Debug)]
struct Noise {
    state: u64,
    content: Content,
}

impl Noise {
    /// Begins anew for each name.
    fn new(name: &str, content: Content) -> Self {
        let add = |sum: u64, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
        Self { state: name.bytes().fold(0, add), content }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for piece in buffer.chunks_mut(8) {
            let mut bytes = self.next().to_le_bytes();
            if let Content::Digits = self.content {
                bytes = bytes.map(|byte| b"0123456789abcdef"[usize::from(byte & 15)]);
            }
            piece.copy_from_slice(&bytes[..piece.len()]);
        }
        Ok(buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use system_tests::archive::gzip;

    fn files(bytes: u64, content: Content) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        append_files(&mut tar, "usr", bytes, content).unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn files_are_as_large_as_is_said_and_the_same_each_time() {
        let tar = files(5_000_000, Content::Bytes);
        assert!(tar == files(5_000_000, Content::Bytes));
        let mut archive = Archive::new(&*tar);
        let sizes = archive.entries().unwrap().map(|it| it.unwrap().size());
        let sizes: Vec<u64> = sizes.filter(|size| *size > 0).collect();
        assert_eq!(sizes.iter().sum::<u64>(), 5_000_000);
        assert!((100..400).contains(&sizes.len()), "{}", sizes.len());
    }

    #[test]
    fn they_cannot_be_compressed_but_by_half_where_they_are_digits() {
        for (content, least, most) in [(Content::Bytes, 95, 101), (Content::Digits, 50, 60)] {
            let tar = files(2_000_000, content);
            let hundredths = gzip(&tar).len() * 100 / tar.len();
            assert!((least..=most).contains(&hundredths), "{content:?}: {hundredths} %");
        }
    }

    #[test]
    fn many_files_are_as_many_beside_what_runs() {
        let mut tar = Vec::new();
        write_many(&mut tar, 250).unwrap();
        let names: Vec<_> = Archive::new(&*tar)
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        let files = names.iter().filter(|name| name.matches('/').count() == 2).count();
        assert_eq!(files, 250);
        assert!(names.iter().any(|name| name == "bin/sh") && names.contains(&"files/2/49".into()));
    }
}
