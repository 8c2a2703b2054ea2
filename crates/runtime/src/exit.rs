//! Exit codes, from conmon's exit file and from the kernel.
//!
//! conmon writes a container's exit code as decimal text into `<exit dir>/<container id>`, some
//! time after the process has ended: who sees the pidfd fire must wait for the file while conmon
//! lives. If conmon was killed there is none, and only the kernel can tell.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{ContainerId, Error, Signal, sys};

/// Longest exit file that makes sense, in bytes: conmon writes at most four.
const MAX_EXIT_FILE: u64 = 16;

/// An exit code as conmon and shells give it: 128 + n stands for an end by signal n, or for a
/// process that itself exited with that code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExitCode(pub u8);

impl ExitCode {
    /// The signal this code stands for, if it stands for one.
    pub fn possible_signal(self) -> Option<Signal> {
        Signal::from_number(i32::from(self.0) - 128).ok()
    }
}

/// What an exit file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitFile {
    /// The process ended with this code.
    Code(ExitCode),
    /// conmon does not know how the process ended, or stopped waiting for it (`-1`).
    Unknown,
}

/// How a process ended, told by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exited {
    /// It exited by itself.
    Code(u8),
    /// A signal killed it.
    Signal(Signal),
}

impl Exited {
    /// The code conmon gives for this.
    pub fn code(self) -> ExitCode {
        match self {
            Self::Code(code) => ExitCode(code),
            // Signals go to 64, so this cannot overflow.
            Self::Signal(signal) => ExitCode(128 + signal.number()),
        }
    }
}

/// Reads conmon's exit file of the container `id` in `exit_dir`. `None` if it is not there, or not
/// wholly yet.
///
/// # Errors
///
/// [`Error::ExitFile`], also if the content makes no sense.
pub fn read_exit_file(exit_dir: &Path, id: &ContainerId) -> Result<Option<ExitFile>, Error> {
    let path = exit_dir.join(id.as_str());
    let read = || -> io::Result<Option<ExitFile>> {
        let mut text = String::new();
        File::open(&path)?.take(MAX_EXIT_FILE).read_to_string(&mut text)?;
        parse(&text)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map_err(|source| Error::ExitFile { path, source }),
    }
}

fn parse(text: &str) -> io::Result<Option<ExitFile>> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an exit code");
    match text.trim_ascii() {
        // Nothing yet, or the beginning of "-1".
        "" | "-" => Ok(None),
        "-1" => Ok(Some(ExitFile::Unknown)),
        digits if digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let code = digits.parse().map_err(|_| malformed())?;
            Ok(Some(ExitFile::Code(ExitCode(code))))
        }
        _ => Err(malformed()),
    }
}

/// Whether conmon saw the container run out of memory: it leaves an empty file `oom` where it
/// works, which is the exit directory.
pub fn oom_killed(exit_dir: &Path) -> bool {
    exit_dir.join("oom").exists()
}

/// How the process behind `pidfd` ended. `None` while it lives or nobody has reaped it, and on
/// kernels before 6.15, which do not tell. The pidfd must have been opened while it lived.
///
/// # Errors
///
/// [`Error::ExitInfo`].
pub fn exit_info(pidfd: BorrowedFd<'_>) -> Result<Option<Exited>, Error> {
    let status = sys::pidfd_wait_status(pidfd).map_err(|source| Error::ExitInfo { source })?;
    Ok(status.and_then(decode_wait_status))
}

/// Reads a wait status as wait(2) gives it. `None` if it does not stand for an end.
pub fn decode_wait_status(status: i32) -> Option<Exited> {
    match status & 0x7f {
        0 => u8::try_from((status >> 8) & 0xff).ok().map(Exited::Code),
        0x7f => None,
        signal => Signal::from_number(signal).ok().map(Exited::Signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::os::fd::AsFd;
    use std::process::Command;

    #[test]
    fn exit_files_are_read_as_conmon_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        assert_eq!(read_exit_file(dir.path(), &id).unwrap(), None, "not there yet");
        for (text, want) in [
            ("7", Some(ExitFile::Code(ExitCode(7)))),
            ("0", Some(ExitFile::Code(ExitCode(0)))),
            ("137\n", Some(ExitFile::Code(ExitCode(137)))),
            ("-1", Some(ExitFile::Unknown)),
            ("", None),
            ("-", None),
        ] {
            std::fs::write(dir.path().join(id.as_str()), text).unwrap();
            assert_eq!(read_exit_file(dir.path(), &id).unwrap(), want, "{text:?}");
        }
        for text in ["256", "-2", "x", "+7", "7 7", "00000000000000000000007"] {
            std::fs::write(dir.path().join(id.as_str()), text).unwrap();
            assert!(read_exit_file(dir.path(), &id).is_err(), "{text:?}");
        }
    }

    #[test]
    fn oom_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!oom_killed(dir.path()));
        std::fs::write(dir.path().join("oom"), "").unwrap();
        assert!(oom_killed(dir.path()));
    }

    #[test]
    fn wait_statuses_and_codes_agree() {
        let signal = |number| Signal::from_number(number).unwrap();
        for (status, want) in [
            (0, Some(Exited::Code(0))),
            (7 << 8, Some(Exited::Code(7))),
            (255 << 8, Some(Exited::Code(255))),
            (9, Some(Exited::Signal(signal(9)))),
            (6 | 0x80, Some(Exited::Signal(signal(6)))), // dumped core
            (64, Some(Exited::Signal(signal(64)))),
            (0x137f, None), // stopped
        ] {
            assert_eq!(decode_wait_status(status), want, "{status:#x}");
        }
        assert_eq!(Exited::Signal(Signal::KILL).code(), ExitCode(137));
        assert_eq!(ExitCode(137).possible_signal(), Some(Signal::KILL));
        assert_eq!(ExitCode(128).possible_signal(), None);
        assert_eq!(ExitCode(7).possible_signal(), None);
        assert_eq!(ExitCode(255).possible_signal(), None);
    }

    #[test]
    fn the_kernel_tells_of_the_dead_only() {
        let mut command = Command::new("sh");
        command.args(["-c", "read x; exit 42"]).stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert_eq!(exit_info(pidfd.as_fd()).unwrap(), None, "it lives");
        drop(child.stdin.take());
        child.wait().unwrap();
        let told = exit_info(pidfd.as_fd()).unwrap();
        assert!(matches!(told, None | Some(Exited::Code(42))), "{told:?}");
        if kernel_tells() {
            assert_eq!(told, Some(Exited::Code(42)));
        }
    }

    fn kernel_tells() -> bool {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut parts = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        (parts.next(), parts.next()) >= (Some(6), Some(15))
    }
}
