use std::{fmt, io};

/// How an archive is damaged, or why it is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends before its end marker.
    #[error("it is truncated")]
    Truncated,
    /// It is compressed in a way that is not supported.
    #[error("compression {0} is not supported")]
    Compression(&'static str),
    /// The compressed data cannot be unpacked.
    #[error("its compressed data is damaged")]
    Compressed(#[source] io::Error),
    /// The checksum of a header is wrong, so this is not a tar archive or not any more.
    #[error("a header has the wrong checksum")]
    Checksum,
    /// A field of a header cannot be read.
    #[error("the {0} of a header cannot be read")]
    Field(&'static str),
    /// A header announces a next one that is not there, or announces it twice.
    #[error("a header that extends another stands alone or twice")]
    Extension,
}

/// Why an entry of an archive is not unpacked, and with it nothing of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The name is empty.
    #[error("its name is empty")]
    EmptyName,
    /// The name, or the name linked to, has a `..`.
    #[error("its name has a \"..\"")]
    ParentName,
    /// The name, or the name linked to, has a NUL byte.
    #[error("its name has a NUL byte")]
    NulName,
    /// The name, or the name linked to, is longer than 4,095 bytes, or a part of it than 255.
    #[error("its name is too long")]
    LongName,
    /// A part of the name starts with `.wh.`, where that hides nothing: in a whole root, in the
    /// middle of a name, or with no name after it.
    #[error("it is a whiteout of nothing")]
    Whiteout,
    /// All that lower layers have would be hidden, which overlayfs cannot do.
    #[error("it would hide the whole root")]
    OpaqueRoot,
    /// It is a directory where something else is, or the reverse, in a tree that is not ours to
    /// take apart.
    #[error("it is a directory and what is there is not, or the reverse")]
    Replaces,
    /// A character device 0:0, which overlayfs takes for a whiteout.
    #[error("it is a device that overlayfs takes for a whiteout")]
    WhiteoutDevice,
    /// The root itself is something else than a directory.
    #[error("it would replace the root")]
    Root,
    /// A directory above it is a link that leads nowhere, or a file.
    #[error("what should be a directory above it is not one")]
    Parent,
    /// A hard link names something that is not there, or itself.
    #[error("it is a hard link to nothing")]
    LinkTarget,
    /// A symbolic link has no target, or one that is too long or has a NUL byte.
    #[error("it is a symbolic link with a bad target")]
    SymlinkTarget,
    /// The owner does not fit in 32 bits.
    #[error("its owner does not fit in 32 bits")]
    Owner,
    /// The map of a sparse file overlaps, goes backwards or beyond the end.
    #[error("its map of holes is not valid")]
    SparseMap,
    /// A kind of entry that is not supported.
    #[error("its kind is not supported")]
    Kind,
}

/// A limit on an archive; see [`Limits`](crate::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// Files, links and directories, implied ones included.
    Entries,
    /// Bytes uncompressed, or of file content with holes counted.
    Bytes,
    /// Parts of a path.
    Depth,
    /// Uncompressed bytes for one compressed.
    Ratio,
    /// Bytes of one entry's extended headers.
    HeaderBytes,
    /// Bytes of the names, and of attributes of directories, that have to be remembered to the end.
    NameBytes,
    /// Bytes of the documents that say what images are in it.
    DocumentBytes,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "entries",
            Self::Bytes => "bytes",
            Self::Depth => "directories one inside another",
            Self::Ratio => "uncompressed bytes for one compressed",
            Self::HeaderBytes => "bytes of extended header",
            Self::NameBytes => "bytes of names, and of attributes of directories",
            Self::DocumentBytes => "bytes of documents",
        })
    }
}
