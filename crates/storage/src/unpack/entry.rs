//! What to make of an entry: decided here, done in `tree`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::fs::{FileType, Timespec, Timestamps};
use tar::EntryType;

use super::acl;
use super::header::{Extent, Head};
use super::path::EntryPath;
use crate::error::Refusal;

/// One entry that may be unpacked.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: EntryPath,
    pub(super) node: Node,
    pub(super) meta: Meta,
    /// Extended attributes the archive has and the root will not.
    pub(super) dropped_xattrs: u64,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File {
        /// Bytes, holes counted.
        size: u64,
        extents: Vec<Extent>,
    },
    Symlink {
        target: OsString,
    },
    HardLink {
        target: EntryPath,
    },
    Fifo,
    Device(DeviceNode),
}

/// A device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceNode {
    pub(super) kind: FileType,
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// Attributes of a file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    /// Seconds since 1970, and nanoseconds after that.
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Meta {
    /// Its time as the kernel takes it; the time of last access is given the same.
    pub(super) fn times(&self) -> Timestamps {
        let (seconds, nanoseconds) = self.mtime;
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

impl Entry {
    pub(super) fn plan(head: Head) -> Result<Self, Refusal> {
        let path = EntryPath::parse(&head.path)?;
        let (xattrs, dropped_xattrs) = xattrs(&head);
        let meta = Meta {
            uid: id(head.uid)?,
            gid: id(head.gid)?,
            mode: head.mode,
            mtime: head.mtime,
            xattrs,
        };
        let node = node(head)?;
        if path.split().is_none() && node != Node::Directory {
            return Err(Refusal::Root);
        }
        Ok(Self { path, node, meta, dropped_xattrs })
    }
}

fn node(head: Head) -> Result<Node, Refusal> {
    match head.kind {
        EntryType::Directory => Ok(Node::Directory),
        EntryType::Symlink => symlink(head.link),
        EntryType::Link => Ok(Node::HardLink { target: link_target(&head.link)? }),
        EntryType::Fifo => Ok(Node::Fifo),
        EntryType::Char => device(FileType::CharacterDevice, head.device),
        EntryType::Block => device(FileType::BlockDevice, head.device),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => file(head),
        _ => Err(Refusal::Kind),
    }
}

fn device(kind: FileType, (major, minor): (u32, u32)) -> Result<Node, Refusal> {
    if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
        return Err(Refusal::WhiteoutDevice);
    }
    Ok(Node::Device(DeviceNode { kind, major, minor }))
}

fn file(head: Head) -> Result<Node, Refusal> {
    let stored = head.extents.iter().try_fold(0_u64, |end, extent| {
        let follows = extent.offset >= end;
        extent.offset.checked_add(extent.length).filter(|_| follows)
    });
    match stored {
        Some(end) if end <= head.size => Ok(Node::File { size: head.size, extents: head.extents }),
        _ => Err(Refusal::SparseMap),
    }
}

fn symlink(target: Vec<u8>) -> Result<Node, Refusal> {
    match target.len() {
        1..4096 if !target.contains(&0) => Ok(Node::Symlink { target: OsString::from_vec(target) }),
        _ => Err(Refusal::SymlinkTarget),
    }
}

fn link_target(name: &[u8]) -> Result<EntryPath, Refusal> {
    let target = EntryPath::parse(name)?;
    if target.split().is_none() { Err(Refusal::LinkTarget) } else { Ok(target) }
}

fn id(id: u64) -> Result<u32, Refusal> {
    // The highest means "leave as it is" to chown(2).
    u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or(Refusal::Owner)
}

/// The extended attributes that are kept, and how many are not.
fn xattrs(head: &Head) -> (Vec<(OsString, Vec<u8>)>, u64) {
    let mut kept = Vec::new();
    let mut dropped = 0;
    for (key, value) in head.pax.records() {
        match xattr(key, value) {
            Some(Some(attribute)) => kept.push(attribute),
            Some(None) => dropped += 1,
            None => {}
        }
    }
    (kept, dropped)
}

/// The extended attribute a record is; `None` if it is none, `Some(None)` if it is not kept.
#[expect(clippy::option_option, reason = "the two are counted apart")]
fn xattr(key: &[u8], value: &[u8]) -> Option<Option<(OsString, Vec<u8>)>> {
    let owned = |name: &[u8], value| (OsStr::from_bytes(name).to_owned(), value);
    match key {
        b"SCHILY.acl.access" => Some(acl::attribute(value).map(|value| owned(ACL_ACCESS, value))),
        b"SCHILY.acl.default" => Some(acl::attribute(value).map(|value| owned(ACL_DEFAULT, value))),
        _ => {
            let name = key.strip_prefix(b"SCHILY.xattr.")?;
            Some(is_kept(name).then(|| owned(name, value.to_vec())))
        }
    }
}

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// `trusted.*` and `user.overlay.*` would speak to overlayfs, `security.selinux` and the like to
/// this host's policy; capabilities are part of how an image works.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    let user = name.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty());
    let valid = !name.contains(&0) && name.len() <= 255;
    let known = [b"security.capability", ACL_ACCESS, ACL_DEFAULT].contains(&name);
    valid && (known || user && !name.starts_with(b"user.overlay."))
}

#[cfg(test)]
mod tests {
    use super::super::pax::Pax;
    use super::*;

    fn head(kind: EntryType) -> Head {
        Head {
            path: b"a/b".to_vec(),
            link: b"target".to_vec(),
            kind,
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime: (3, 4),
            size: 0,
            device: (1, 3),
            extents: vec![],
            pax: Pax::default(),
        }
    }

    fn sparse(size: u64, extents: &[(u64, u64)]) -> Result<Node, Refusal> {
        let extents = extents.iter().map(|&(offset, length)| Extent { offset, length }).collect();
        node(Head { size, extents, ..head(EntryType::GNUSparse) })
    }

    #[test]
    fn kinds_become_nodes() {
        let target = EntryPath::parse(b"target").unwrap();
        for (kind, want) in [
            (EntryType::Regular, Ok(Node::File { size: 0, extents: vec![] })),
            (EntryType::Continuous, Ok(Node::File { size: 0, extents: vec![] })),
            (EntryType::Directory, Ok(Node::Directory)),
            (EntryType::Symlink, Ok(Node::Symlink { target: "target".into() })),
            (EntryType::Link, Ok(Node::HardLink { target })),
            (EntryType::Fifo, Ok(Node::Fifo)),
            (EntryType::Char, device(FileType::CharacterDevice, (1, 3))),
            (EntryType::Block, device(FileType::BlockDevice, (1, 3))),
            (EntryType::new(b'V'), Err(Refusal::Kind)),
        ] {
            assert_eq!(node(head(kind)), want, "{kind:?}");
        }
    }

    #[test]
    fn maps_of_holes_go_forward_and_end_in_the_file() {
        for (about, size, map, good) in [
            ("all hole", 1 << 40, &[][..], true),
            ("two pieces", 30, &[(0, 10), (20, 10)], true),
            ("touching", 20, &[(0, 10), (10, 10)], true),
            ("overlapping", 30, &[(0, 10), (5, 10)], false),
            ("backwards", 30, &[(20, 10), (0, 10)], false),
            ("beyond the end", 25, &[(20, 10)], false),
            ("beyond all numbers", u64::MAX, &[(u64::MAX, 1)], false),
        ] {
            assert_eq!(sparse(size, map).is_ok(), good, "{about}");
        }
    }

    #[test]
    fn hostile_fields_are_refused() {
        let links = |link: &[u8], kind| Head { link: link.to_vec(), ..head(kind) };
        let root = |kind| Head { path: b"./".to_vec(), ..head(kind) };
        for (about, head, want) in [
            (
                "no owner",
                Head { uid: u64::from(u32::MAX), ..head(EntryType::Fifo) },
                Refusal::Owner,
            ),
            ("64-bit group", Head { gid: 1 << 32, ..head(EntryType::Fifo) }, Refusal::Owner),
            ("link out", links(b"../x", EntryType::Link), Refusal::ParentName),
            ("link to the root", links(b"/", EntryType::Link), Refusal::LinkTarget),
            ("link to nothing", links(b"", EntryType::Symlink), Refusal::SymlinkTarget),
            ("NUL in a link", links(b"a\0", EntryType::Symlink), Refusal::SymlinkTarget),
            ("long link", links(&[b'a'; 4096], EntryType::Symlink), Refusal::SymlinkTarget),
            (
                "a whiteout of overlayfs",
                Head { device: (0, 0), ..head(EntryType::Char) },
                Refusal::WhiteoutDevice,
            ),
            ("root as a link", root(EntryType::Symlink), Refusal::Root),
            ("root as a file", root(EntryType::Regular), Refusal::Root),
        ] {
            assert_eq!(Entry::plan(head).unwrap_err(), want, "{about}");
        }
        assert!(Entry::plan(root(EntryType::Directory)).is_ok());
    }

    #[test]
    fn extended_attributes_of_the_host_are_dropped() {
        for (name, kept) in [
            ("user.comment", true),
            ("security.capability", true),
            ("security.selinux", false),
            ("security.capability2", false),
            ("trusted.overlay.opaque", false),
            ("user.overlay.opaque", false),
            ("system.posix_acl_access", true),
            ("system.posix_acl_other", false),
            ("user.", false),
            ("user.a\0b", false),
        ] {
            assert_eq!(is_kept(name.as_bytes()), kept, "{name}");
        }
    }
}
