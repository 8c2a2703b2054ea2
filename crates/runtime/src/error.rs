use std::io;
use std::path::PathBuf;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel gave no random bytes.
    #[error("cannot draw a random container id")]
    Random {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A process could not be identified by its pidfd.
    #[error("cannot tell which process a pidfd stands for")]
    Identify {
        /// The kernel's answer; `ESRCH` if the process has ended.
        source: io::Error,
    },
    /// A process could not be looked up again.
    #[error("cannot look up process {pid}")]
    Reopen {
        /// Its pid.
        pid: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An exit file could not be read.
    #[error("cannot read exit file {}", path.display())]
    ExitFile {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel could not be asked how a process ended.
    #[error("cannot ask how a process ended")]
    ExitInfo {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A log could not be read.
    #[error("cannot read a log at byte {offset}")]
    Log {
        /// Where, in bytes from its start.
        offset: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// The journal could not be read.
    #[error("cannot {what} the journal")]
    Journal {
        /// What was done, to be read after "cannot".
        what: &'static str,
        /// The answer of libsystemd, of its loader or of journald.
        source: io::Error,
    },
    /// The control groups of the host could not be made out.
    #[error("cannot make out the control groups of this host")]
    CgroupHost {
        /// The system's answer.
        source: io::Error,
    },
    /// A control group could not be opened.
    #[error("cannot open control group {}", path.display())]
    CgroupOpen {
        /// The group, below the root of its hierarchy.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file of a control group could not be read.
    #[error("cannot read {file} of control group {}", path.display())]
    CgroupRead {
        /// The group, below the root of its hierarchy.
        path: PathBuf,
        /// The file.
        file: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The descriptors of a process could not be looked at.
    #[error("cannot look for the terminal of a process")]
    Terminal {
        /// The kernel's answer.
        source: io::Error,
    },
    /// An effect failed; it changed nothing.
    #[error("cannot {step}")]
    Step {
        /// The effect, to be read after "cannot".
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What a caller can act on, without matching every [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The process or control group is not there any more.
    Gone,
    /// The caller lacks a privilege.
    PermissionDenied,
    /// Anything else; only worth logging.
    Other,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        let (Self::Random { source }
        | Self::Identify { source }
        | Self::Reopen { source, .. }
        | Self::ExitFile { source, .. }
        | Self::ExitInfo { source }
        | Self::Log { source, .. }
        | Self::Journal { source, .. }
        | Self::CgroupHost { source }
        | Self::CgroupOpen { source, .. }
        | Self::CgroupRead { source, .. }
        | Self::Terminal { source }
        | Self::Step { source, .. }) = self;
        match source.raw_os_error() {
            Some(libc::ESRCH | libc::ENODEV | libc::ENOENT) => ErrorKind::Gone,
            Some(libc::EPERM | libc::EACCES) => ErrorKind::PermissionDenied,
            _ => ErrorKind::Other,
        }
    }
}
