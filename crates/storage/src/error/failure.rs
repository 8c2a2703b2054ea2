use std::{error, fmt, io};

use rustix::io::Errno;

use super::ErrorKind;

/// One step that failed, and the kernel's answer to it as source.
#[derive(Debug)]
pub struct Failure {
    step: String,
    source: io::Error,
}

impl Failure {
    pub(crate) fn new(step: &dyn fmt::Display, source: io::Error) -> Self {
        Self { step: step.to_string(), source }
    }

    /// For a read: what was tried, and the error number of it.
    pub(crate) fn read(step: impl fmt::Display) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::new(&step, errno.into())
    }

    /// What was tried, such as `create directory "upper"`.
    pub fn step(&self) -> &str {
        &self.step
    }

    pub(crate) fn is(&self, errno: Errno) -> bool {
        Errno::from_io_error(&self.source) == Some(errno)
    }

    pub(super) fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::DirectoryNotEmpty => ErrorKind::InUse,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.step)
    }
}

impl error::Error for Failure {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A thing that is still there because taking it back failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Leftover {
    /// The undo step that failed.
    pub undo: String,
    /// The kernel's answer to it.
    pub source: io::Error,
}

impl From<Failure> for Leftover {
    fn from(failure: Failure) -> Self {
        Self { undo: failure.step, source: failure.source }
    }
}
