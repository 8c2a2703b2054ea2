//! One header with what extends it.

use std::io;

use tar::{EntryType, GnuSparseHeader, Header};

use super::pax::Pax;
use crate::error::Malformed;

/// All that is said about one entry before its content, long names and overrides resolved.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) path: Vec<u8>,
    /// What a link points to; empty for others.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds since 1970, and nanoseconds after that.
    pub(super) mtime: (i64, u32),
    /// Bytes of content, holes counted.
    pub(crate) size: u64,
    /// Major and minor number of a device.
    pub(super) device: (u32, u32),
    /// Where the bytes that are in the archive belong; in a file without holes, one piece.
    pub(super) extents: Vec<Extent>,
    pub(super) pax: Pax,
}

impl Head {
    /// Whether there is less in the archive than the file has.
    pub(crate) fn has_holes(&self) -> bool {
        self.extents != [Extent { offset: 0, length: self.size }]
    }
}

/// A piece of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What precedes a header and extends it.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) pax: Option<Vec<u8>>,
}

impl Extensions {
    pub(super) fn end(&self) -> Result<Option<Head>, Malformed> {
        match self {
            Self { path: None, link: None, pax: None } => Ok(None),
            _ => Err(Malformed::Extension),
        }
    }

    /// Puts a header and its extensions together; sizes are still those of the header.
    pub(super) fn head(self, header: &Header) -> Result<Head, Malformed> {
        let pax = Pax::parse(&self.pax.unwrap_or_default())?;
        let path = name(self.path, pax.get("path"), &header.path_bytes());
        let link = header.link_name_bytes().unwrap_or_default();
        let link = name(self.link, pax.get("linkpath"), &link);
        let or_field = |value: Option<u64>, field: io::Result<u64>, what| match value {
            Some(value) => Ok(value),
            None => field.map_err(|_| Malformed::Field(what)),
        };
        let seconds = || header.mtime().map_err(|_| Malformed::Field("time"));
        Ok(Head {
            kind: kind(header, &path),
            mode: header.mode().map_err(|_| Malformed::Field("mode"))? & 0o7777,
            uid: or_field(pax.number("uid")?, header.uid(), "owner")?,
            gid: or_field(pax.number("gid")?, header.gid(), "group")?,
            mtime: match pax.time("mtime")? {
                Some(time) => time,
                // Before 1970 in the binary form of the field.
                None => (seconds()?.cast_signed(), 0),
            },
            size: or_field(pax.number("size")?, header.entry_size(), "size")?,
            device: device(header)?,
            extents: Vec::new(),
            path,
            link,
            pax,
        })
    }
}

fn device(header: &Header) -> Result<(u32, u32), Malformed> {
    let kind = header.entry_type();
    if !kind.is_character_special() && !kind.is_block_special() {
        return Ok((0, 0));
    }
    let number = |field: io::Result<Option<u32>>| {
        field.map(Option::unwrap_or_default).map_err(|_| Malformed::Field("device number"))
    };
    Ok((number(header.device_major())?, number(header.device_minor())?))
}

/// GNU's long name wins over pax over the header, as in Go's `archive/tar`.
fn name(gnu: Option<Vec<u8>>, pax: Option<&[u8]>, header: &[u8]) -> Vec<u8> {
    match (gnu, pax) {
        (Some(mut name), _) => {
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            name.truncate(end);
            name
        }
        (None, Some(name)) => name.to_vec(),
        (None, None) => header.to_vec(),
    }
}

/// The kind of an entry; archives older than the kinds mark a directory by a slash at its end.
fn kind(header: &Header, path: &[u8]) -> EntryType {
    match header.as_old().linkflag {
        [0] if path.ends_with(b"/") => EntryType::Directory,
        _ => header.entry_type(),
    }
}

/// Whether content follows the header. What is no file has none, whatever size it states: so read
/// Go's `archive/tar` and GNU tar, and who reads otherwise sees other entries than they do.
pub(super) fn has_content(kind: EntryType) -> bool {
    !(kind.is_hard_link()
        || kind.is_symlink()
        || kind.is_character_special()
        || kind.is_block_special()
        || kind.is_dir()
        || kind.is_fifo())
}

pub(super) fn check_sum(header: &Header) -> Result<(), Malformed> {
    let bytes = header.as_bytes();
    let sum = |part: &[u8]| part.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    // The checksum's own eight bytes count as spaces.
    let actual = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
    match header.cksum() {
        Ok(stated) if stated == actual => Ok(()),
        _ => Err(Malformed::Checksum),
    }
}

pub(super) fn extents(list: &[GnuSparseHeader]) -> Option<Vec<Extent>> {
    let used = list.iter().filter(|extent| !extent.is_empty());
    let read = |extent: &GnuSparseHeader| {
        Some(Extent { offset: extent.offset().ok()?, length: extent.length().ok()? })
    };
    used.map(read).collect()
}
