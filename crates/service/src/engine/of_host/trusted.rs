//! Files by which root says what is done on the host for containers.
//!
//! What is in them runs as root: nobody else may be able to write to them, or to put another one
//! in the place of one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Dir, Mode, OFlags, openat};

/// More files in one directory are none that somebody wrote by hand.
const MAX_FILES: usize = 1024;

/// Why such files are not read.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It cannot be read.
    #[error("{0} cannot be read")]
    Read(String, #[source] io::Error),
    /// Others than root can change it.
    #[error("{0} can be written to by others than root")]
    Writable(String),
    /// There are too many, or one is too large.
    #[error("{0} is too large")]
    TooLarge(String),
}

/// Names and contents of all files of a directory that end in `.json`; in no order.
///
/// # Errors
///
/// [`Untrusted`], also if there is no such directory.
pub(super) fn json_files(dir: &Path, max: usize) -> Result<Vec<(String, Vec<u8>)>, Untrusted> {
    let shown = |name: &str| dir.join(name).display().to_string();
    let failed = |name: &str| {
        let shown = shown(name);
        move |source: io::Error| Untrusted::Read(shown, source)
    };
    let opened = File::open(dir).map_err(failed(""))?;
    check(&opened, &dir.display().to_string())?;
    let mut files = Vec::new();
    for entry in Dir::read_from(&opened).map_err(|errno| failed("")(errno.into()))? {
        let entry = entry.map_err(|errno| failed("")(errno.into()))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if Path::new(name).extension().is_none_or(|it| it != "json") {
            continue;
        }
        if files.len() >= MAX_FILES {
            return Err(Untrusted::TooLarge(shown("")));
        }
        // A FIFO is opened at once, and told by what it is.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&opened, name, flags, Mode::empty());
        let file = file.map_err(|errno| failed(name)(errno.into()))?.into();
        check(&file, &shown(name))?;
        let mut content = Vec::new();
        file.take(max as u64 + 1).read_to_end(&mut content).map_err(failed(name))?;
        if content.len() > max {
            return Err(Untrusted::TooLarge(shown(name)));
        }
        files.push((name.to_owned(), content));
    }
    Ok(files)
}

/// Whether it is a file or directory that root alone can change.
fn check(file: &File, shown: &str) -> Result<(), Untrusted> {
    let about = file.metadata().map_err(|source| Untrusted::Read(shown.to_owned(), source))?;
    if !about.is_file() && !about.is_dir() {
        let source = io::ErrorKind::InvalidInput.into();
        return Err(Untrusted::Read(shown.to_owned(), source));
    }
    if about.uid() == 0 && about.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(Untrusted::Writable(shown.to_owned()))
    }
}
