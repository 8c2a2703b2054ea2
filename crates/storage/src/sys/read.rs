#![expect(clippy::disallowed_methods, reason = "opens for reading only")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::path::Arg;

/// Resolution that stays on this side of mount points and follows no link at all.
pub(crate) fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV
}

/// Resolution as a process inside that root would see it: links and `..` end at the root.
pub(crate) fn in_root() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

/// Opens a directory by a path of the caller's own, links followed.
pub(crate) fn open_root(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory for reading its entries; the last component is not followed.
pub(crate) fn open_dir_at(
    dir: impl AsFd,
    path: impl Arg,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(dir, path, flags, Mode::empty(), resolve)
}

/// Opens a place without touching what is there (`O_PATH`).
pub(crate) fn open_path(
    dir: impl AsFd,
    path: impl Arg,
    resolve: ResolveFlags,
    more: OFlags,
) -> rustix::io::Result<OwnedFd> {
    openat2(dir, path, OFlags::PATH | OFlags::CLOEXEC | more, Mode::empty(), resolve)
}

/// Opens for reading what [`open_path`] found; never waits for a writer or another device.
pub(crate) fn reopen(place: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(super::step::proc_path(place), flags, Mode::empty())
}

/// What kind of file something is, as far as this crate tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    Regular,
    Symlink,
    Other,
}

/// The part of `stat(2)` this crate looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    /// Permission bits, set-user-id, set-group-id and sticky bit.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes.
    pub(crate) size: u64,
}

impl From<rustix::fs::Stat> for Stat {
    fn from(stat: rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::Regular,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        };
        let mode = stat.st_mode & 0o7777;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Self { kind, mode, uid: stat.st_uid, gid: stat.st_gid, size }
    }
}

pub(crate) fn stat(file: impl AsFd) -> rustix::io::Result<Stat> {
    rustix::fs::fstat(file).map(Stat::from)
}

/// Looks at a name without following it.
pub(crate) fn stat_at(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(Stat::from)
}

/// The names in a directory, in no order.
pub(crate) fn list(dir: impl AsFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Reads at most `max` bytes; `None` if there are more.
pub(crate) fn read_up_to(file: OwnedFd, max: usize) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    // One more than allowed tells "just fits" from "too long", whatever size fstat(2) claimed.
    let bound = (max as u64).saturating_add(1);
    std::fs::File::from(file).take(bound).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= max).then_some(bytes))
}

/// What the kernel has to say about a filesystem being configured, one message a line.
pub(crate) fn kernel_messages(fs: BorrowedFd<'_>) -> String {
    // The kernel keeps 8 messages; ENODATA ends the list.
    let mut buffer = [0; 1024];
    let mut lines = Vec::new();
    while let Ok(len @ 1..) = rustix::io::read(fs, &mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..len]);
        // "e ", "w " or "i " says how grave it is.
        lines.push(text.get(2..).unwrap_or(&text).trim_end().to_owned());
        if lines.len() == 8 {
            break;
        }
    }
    lines.join("\n")
}
