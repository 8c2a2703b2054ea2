//! What to make of an entry: decided here, done in `tree`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::fs::{Timespec, Timestamps};
use tar::EntryType;

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
    /// A device node: counted, not made.
    Device,
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
        EntryType::Char | EntryType::Block => Ok(Node::Device),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => file(head),
        _ => Err(Refusal::Kind),
    }
}

fn file(head: Head) -> Result<Node, Refusal> {
    // The newer formats of GNU tar for sparse files store the map of holes as content.
    if head.pax.records().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
        return Err(Refusal::Kind);
    }
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
    let all = head
        .pax
        .records()
        .filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?, value)));
    let (kept, dropped): (Vec<_>, Vec<_>) = all.partition(|(name, _)| is_kept(name));
    let owned =
        |(name, value): (&[u8], &[u8])| (OsStr::from_bytes(name).to_owned(), value.to_vec());
    (kept.into_iter().map(owned).collect(), dropped.len() as u64)
}

/// `trusted.*` and `user.overlay.*` would speak to overlayfs, `security.selinux` and the like to
/// this host's policy; capabilities are part of how an image works.
fn is_kept(name: &[u8]) -> bool {
    let user = name.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty());
    let valid = !name.contains(&0) && name.len() <= 255;
    valid && (name == b"security.capability" || user && !name.starts_with(b"user.overlay."))
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
            (EntryType::Char, Ok(Node::Device)),
            (EntryType::Block, Ok(Node::Device)),
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
            ("system.posix_acl_access", false),
            ("user.", false),
            ("user.a\0b", false),
        ] {
            assert_eq!(is_kept(name.as_bytes()), kept, "{name}");
        }
    }
}
