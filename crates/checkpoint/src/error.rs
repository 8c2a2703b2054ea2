//! What can be wrong with an archive.

use std::error::Error as StdError;
use std::fmt;

use crate::{EntryKind, InvalidId, InvalidName, InvalidPath, Member};

/// Why an archive, or a part of it, is refused. Nothing has been done when one of these is seen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A member no checkpoint has.
    #[error("the archive has a member '{path}', which no checkpoint has")]
    UnknownMember {
        /// As in the archive, shortened and escaped.
        path: String,
    },
    /// A member of a known name that is not what it should be.
    #[error("member '{path}' of the archive is {found}, must be {wanted}")]
    MemberKind {
        /// As in the archive.
        path: String,
        /// What it should be.
        wanted: EntryKind,
        /// What it is.
        found: EntryKind,
    },
    /// A member that comes twice.
    #[error("the archive has the member '{member}' twice")]
    DuplicateMember {
        /// Which.
        member: Member,
    },
    /// More members than any checkpoint has.
    #[error("the archive has more than {max} members")]
    TooManyMembers {
        /// Most that are accepted.
        max: usize,
    },
    /// Without it nothing can be restored.
    #[error("the archive has no member '{path}'")]
    MissingMember {
        /// Which.
        path: &'static str,
    },
    /// A document that is larger than any real one.
    #[error("{document} of the archive is larger than {max} bytes")]
    TooLarge {
        /// Which.
        document: Document,
        /// Longest accepted, in bytes.
        max: usize,
    },
    /// A document that is not JSON of the right shape.
    #[error("cannot parse {document} of the archive")]
    Parse {
        /// Which.
        document: Document,
        /// What is wrong, and where.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// An id in `config.dump` that is none.
    #[error("field '{field}' of config.dump is no id")]
    Id {
        /// Which.
        field: &'static str,
        /// What is wrong.
        source: InvalidId,
    },
    /// A name in `config.dump` that is none.
    #[error("field '{field}' of config.dump is no name")]
    Name {
        /// Which.
        field: &'static str,
        /// What is wrong.
        source: InvalidName,
    },
    /// An entry of `deleted.files` that is no path in a root file system.
    #[error("entry {index} of deleted.files is no path in a root file system")]
    DeletedFile {
        /// Counted from 0.
        index: usize,
        /// What is wrong.
        source: InvalidPath,
    },
    /// A checkpoint of something that cannot be restored here.
    #[error("the archive holds a checkpoint {0}")]
    Unsupported(Unsupported),
}

/// What callers act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The archive is damaged, hostile, or no checkpoint; another copy may be better.
    Invalid,
    /// It may be a good checkpoint, and there is no use in trying again.
    Unsupported,
}

impl Error {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported(_) => ErrorKind::Unsupported,
            _ => ErrorKind::Invalid,
        }
    }
}

/// A member that is a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Document {
    /// `config.dump`.
    Config,
    /// `deleted.files`.
    DeletedFiles,
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => Member::Config.fmt(f),
            Self::DeletedFiles => Member::DeletedFiles.fmt(f),
        }
    }
}

/// Why a checkpoint cannot be restored here, though nothing is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// Its container belongs to a pod.
    Pod,
    /// Its container needs others, whose namespaces it is in.
    Dependencies,
    /// Its container was made from a directory, not from an image.
    NoImage,
    /// It was made by a runtime that is neither crun nor runc; shortened and escaped.
    Runtime(String),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod => f.write_str("of a container in a pod"),
            Self::Dependencies => f.write_str("of a container that depends on others"),
            Self::NoImage => f.write_str("of a container that was not made from an image"),
            Self::Runtime(name) => write!(f, "made by the runtime '{name}'"),
        }
    }
}

/// Bytes of the archive for an error message: no control characters, and not many of them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const MAX: usize = 64;
    let more = if bytes.len() > MAX { "..." } else { "" };
    format!("{}{more}", bytes[..bytes.len().min(MAX)].escape_ascii())
}
