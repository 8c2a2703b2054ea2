//! Variables of a container out of a file, which the caller has open: so they are in no message.
//!
//! A line each, as podman reads them: empty lines and those that begin with `#` are passed over, and so
//! is white space in front. There is nothing to quote or to escape.

use std::fs::File;
use std::os::fd::OwnedFd;

use tare_specgen::EnvVar;

use super::blocking::unbounded;
use super::{Error, given};

/// Largest such file, in bytes: the kernel hands a program no more than some of that.
const MAX: usize = 1 << 20;

/// Reads what is in the file, from its beginning. A filesystem may never answer.
///
/// # Errors
///
/// [`Error::ReadEnvFile`], [`Error::EnvFile`].
pub(super) async fn read(file: OwnedFd) -> Result<Vec<EnvVar>, Error> {
    unbounded("read-env", move || parse(&content(&file.into())?)).await
}

fn content(file: &File) -> Result<Vec<u8>, Error> {
    let about = file.metadata().map_err(Error::ReadEnvFile)?;
    if !about.is_file() {
        // What is at the other end of a pipe may let us wait for ever.
        return Err(Error::EnvFile("must be a regular file".into()));
    }
    let bytes = given::up_to(file, MAX).map_err(Error::ReadEnvFile)?;
    bytes.ok_or_else(|| Error::EnvFile(format!("has more than {MAX} bytes")))
}

/// An error says which line, and nothing of what is in it.
fn parse(content: &[u8]) -> Result<Vec<EnvVar>, Error> {
    let text = std::str::from_utf8(content).map_err(|_| Error::EnvFile("is not UTF-8".into()))?;
    let said = text.lines().map(str::trim_start).enumerate();
    said.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| {
            line.parse()
                .map_err(|_| Error::EnvFile(format!("must have NAME=VALUE in line {}", at + 1)))
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use std::io::Write;

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        let entries = parse(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(entries.iter().map(|entry| entry.as_str().to_owned()).collect())
    }

    #[test]
    fn lines_are_read_as_podman_does() {
        for (text, want) in [
            ("", vec![]),
            ("A=b", vec!["A=b"]),
            ("A=b\r\n\n  # C=d\n\t B=\"x\" # y \n", vec!["A=b", "B=\"x\" # y "]),
            ("A==\nB=", vec!["A==", "B="]),
        ] {
            assert_eq!(parsed(text).unwrap(), want, "{text:?}");
        }
        for (text, line) in [("A=b\nSECRET", 2), ("=b", 1), ("\n\nA b=c", 3), ("A=b\0", 1)] {
            let error = parsed(text).unwrap_err();
            assert_eq!(error, format!("option 'EnvFile' must have NAME=VALUE in line {line}"));
        }
        assert!(parse(b"A=\xff").is_err());
    }

    #[test]
    fn only_regular_files_up_to_a_size_are_read_and_from_their_beginning() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"A=b\n").unwrap();
        assert_eq!(content(&file).unwrap(), b"A=b\n");
        file.set_len(MAX as u64).unwrap();
        assert_eq!(content(&file).unwrap().len(), MAX);
        file.set_len(MAX as u64 + 1).unwrap();
        assert!(matches!(content(&file), Err(Error::EnvFile(_))));
        let (pipe, _writer) = std::io::pipe().unwrap();
        for other in [OwnedFd::from(pipe).into(), File::open("/").unwrap()] {
            assert!(matches!(content(&other), Err(Error::EnvFile(_))));
        }
        let unreadable = tempfile::NamedTempFile::new().unwrap();
        let unreadable = File::options().write(true).open(unreadable.path()).unwrap();
        assert!(matches!(content(&unreadable), Err(Error::ReadEnvFile(_))));
    }
}
