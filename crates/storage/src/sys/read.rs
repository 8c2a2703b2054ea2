#![expect(clippy::disallowed_methods, reason = "opens for reading only")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// Resolution that stays on this side of mount points and follows no link at all.
pub(crate) fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV
}

/// Resolution as a process inside that root would see it: links and `..` end at the root.
pub(crate) fn in_root() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

/// Resolution as the host has it; for paths of the host's own.
pub(crate) fn anywhere() -> ResolveFlags {
    ResolveFlags::NO_MAGICLINKS
}

/// Opens a directory by a path of the caller's own, links followed.
pub(crate) fn open_root(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Whatever is renamed or mounted anywhere on the host while the kernel follows a `..` makes it
/// give up. A try takes some microseconds: who renames in a loop cannot spoil all of so long a
/// time, however busy the host is.
const PATIENCE: Duration = Duration::from_secs(5);

fn openat2(
    dir: impl AsFd,
    path: impl Arg,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    path.into_with_c_str(|path| {
        let open = || rustix::fs::openat2(&dir, path, flags, Mode::empty(), resolve);
        let mut opened = open();
        if matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            let until = Instant::now() + PATIENCE;
            while matches!(opened, Err(Errno::AGAIN | Errno::INTR)) && Instant::now() < until {
                opened = open();
            }
        }
        opened
    })
}

/// Opens a directory for reading its entries; the last component is not followed.
pub(crate) fn open_dir_at(
    dir: impl AsFd,
    path: impl Arg,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(dir, path, flags, resolve)
}

/// Opens a place without touching what is there (`O_PATH`).
pub(crate) fn open_path(
    dir: impl AsFd,
    path: impl Arg,
    resolve: ResolveFlags,
    more: OFlags,
) -> rustix::io::Result<OwnedFd> {
    openat2(dir, path, OFlags::PATH | OFlags::CLOEXEC | more, resolve)
}

/// Opens for reading what [`open_path`] found; never waits for a writer or another device.
pub(crate) fn reopen(place: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(super::step::proc_path(place), flags, Mode::empty())
}

/// What kind of file something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// None of these.
    Other,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::Regular,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::Character,
            FileType::BlockDevice => Self::Block,
            FileType::Unknown => Self::Other,
        }
    }
}

/// What `stat(2)` says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-user-id, set-group-id and sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Names it has.
    pub links: u64,
    /// Number of the filesystem.
    pub device: u64,
    /// Number in the filesystem.
    pub inode: u64,
    /// Major and minor number, if it is a device.
    pub node: (u32, u32),
    /// Last change of the content: seconds since 1970, and nanoseconds after that.
    pub mtime: (i64, u32),
    /// Bytes it takes on disk.
    pub allocated: u64,
}

impl Stat {
    /// Whether overlayfs takes it for a whiteout.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind == Kind::Character && self.node == (0, 0)
    }
}

impl From<rustix::fs::Stat> for Stat {
    fn from(stat: rustix::fs::Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            links: wide(stat.st_nlink),
            device: stat.st_dev,
            inode: stat.st_ino,
            node: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            // The kernel keeps less than a second there, whatever the type may hold.
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        }
    }
}

/// Its width depends on the architecture.
fn wide(links: impl Into<u64>) -> u64 {
    links.into()
}

pub(crate) fn stat(file: impl AsFd) -> rustix::io::Result<Stat> {
    rustix::fs::fstat(file).map(Stat::from)
}

/// Looks at a name without following it.
pub(crate) fn stat_at(dir: impl AsFd, name: &OsStr) -> rustix::io::Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(Stat::from)
}

/// Bytes and files that root may still write to a filesystem; no count of files where it has none.
pub(crate) fn room(file: impl AsFd) -> rustix::io::Result<(u64, Option<u64>)> {
    let stat = rustix::fs::fstatvfs(file)?;
    let bytes = stat.f_bfree.saturating_mul(stat.f_frsize);
    Ok((bytes, (stat.f_files > 0).then_some(stat.f_ffree)))
}

/// The number of the mount that something open is in.
pub(crate) fn mount_id(place: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    use rustix::fs::{StatxFlags, statx};
    statx(place, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id)
}

/// The path of an open file, as it is now.
pub(crate) fn path_of(file: BorrowedFd<'_>) -> rustix::io::Result<OsString> {
    let path = rustix::fs::readlink(super::step::proc_path(file), Vec::new())?;
    Ok(OsString::from_vec(path.into_bytes()))
}

/// Where a symbolic link found by [`open_path`] points to.
pub(crate) fn read_link(place: impl AsFd) -> rustix::io::Result<OsString> {
    let target = rustix::fs::readlinkat(place, c"", Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// Reads at an offset, again if a signal came in between.
pub(crate) fn read_at(file: impl AsFd, buffer: &mut [u8], at: u64) -> rustix::io::Result<usize> {
    rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut *buffer, at))
}

/// The next piece of a file that is no hole, from `at` on: where it starts and ends. `None` if
/// there is none; without holes where the filesystem knows none.
pub(crate) fn next_data(file: impl AsFd, at: u64) -> rustix::io::Result<Option<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    let start = match seek(&file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    Ok(Some((start, seek(&file, SeekFrom::Hole(start))?)))
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

/// An extended attribute of an open file; `None` if it has none of that name.
pub(crate) fn xattr(file: impl AsFd, name: &OsStr) -> rustix::io::Result<Option<Vec<u8>>> {
    xattr_with(|value| rustix::fs::fgetxattr(&file, name, value))
}

/// An extended attribute of what is at a place ([`open_path`]), a link included.
pub(crate) fn xattr_of_place(
    place: BorrowedFd<'_>,
    name: &OsStr,
) -> rustix::io::Result<Option<Vec<u8>>> {
    xattr_with(|value| rustix::fs::getxattr(super::step::proc_path(place), name, value))
}

fn xattr_with(
    get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Option<Vec<u8>>> {
    // What most have; 64 KiB is what Linux allows.
    for len in [256, 1 << 16] {
        let mut value = vec![0; len];
        match get(&mut value) {
            Ok(len) => {
                value.truncate(len);
                return Ok(Some(value));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::RANGE)
}

/// The names of the extended attributes of what is at a place, a link's too.
pub(crate) fn xattr_names(place: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    let path = super::step::proc_path(place);
    for len in [256, 1 << 16] {
        let mut names = vec![0; len];
        match rustix::fs::listxattr(&path, &mut names[..]) {
            Ok(len) => {
                let names = names[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty());
                return Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect());
            }
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::RANGE)
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

/// Whether this kernel is of that version or a later one; one that does not say is not.
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    version(&uname.release().to_string_lossy()).is_some_and(|it| it >= (major, minor))
}

/// The first two numbers of a release such as `6.18.44-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_two_numbers() {
        for (release, want) in [
            ("6.18.44-generic", Some((6, 18))),
            ("6.9", Some((6, 9))),
            ("7.0-rc1", Some((7, 0))),
            ("6", None),
            ("unknown", None),
        ] {
            assert_eq!(version(release), want, "{release}");
        }
        assert!(kernel_is_at_least(5, 10) && !kernel_is_at_least(u32::MAX, 0));
    }
}
