//! What CRIU has written of its work. How much that is depends on the container. All of this blocks.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use tare_checkpoint::{Complaint, DumpStats, criu_version};

/// How much of the beginning of a log is read, in bytes: its version is in one of its first lines.
const BEGINNING: usize = 4096;

/// The version of the CRIU that has written a log, if it was read.
pub(super) fn version(log: &Path) -> Option<String> {
    criu_version(&beginning(log, BEGINNING).ok()?)
}

/// What CRIU complains of in a log, if it was read.
pub(super) fn complaint(log: &Path) -> Option<Complaint> {
    Complaint::find(&end(log, Complaint::MAX_LOG).ok()?)
}

/// What CRIU says in its log, or else what the runtime does.
pub(super) fn said(
    complaint: Option<Complaint>,
    source: tare_spawn::Error,
) -> Box<dyn std::error::Error + Send + Sync> {
    match complaint {
        Some(complaint) => format!("CRIU said: {}", complaint.text).into(),
        None => source.into(),
    }
}

/// CRIU's figures as it has written them.
pub(super) fn stats(file: &Path) -> io::Result<Vec<u8>> {
    beginning(file, DumpStats::MAX_LEN)
}

fn beginning(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    first(File::open(path)?, most)
}

/// The last lines of a file that are no longer than `most`; of one that is begun before that, nothing:
/// what it goes on with may be a container's.
fn end(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let before = file.metadata()?.len().saturating_sub(most as u64);
    file.seek(SeekFrom::Start(before))?;
    let mut bytes = first(file, most)?;
    if before > 0 {
        let whole = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..whole);
    }
    Ok(bytes)
}

fn first(file: File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_long_only_as_much_is_read_as_is_of_use() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("dump.log");
        let line = "(00.1) Error (criu/tty.c:1): first\n";
        let text = format!("(00.0) Version: 4.1.1 (gitid 0)\n{line}{}", "padding\n".repeat(3));
        std::fs::write(&log, &text).unwrap();
        assert_eq!(version(&log).as_deref(), Some("4.1.1"));
        assert_eq!(complaint(&log).unwrap().text, "first");
        assert_eq!(beginning(&log, 7).unwrap(), text.as_bytes()[..7]);
        for (about, most, want) in [
            ("all", text.len(), &text[..]),
            ("more", text.len() + 1, &text),
            ("a line and a part", line.len() + 24, "padding\npadding\npadding\n"),
            ("parts alone", 7, ""),
        ] {
            assert_eq!(end(&log, most).unwrap(), want.as_bytes(), "{about}");
        }
    }
}
