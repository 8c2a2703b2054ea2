#![expect(clippy::disallowed_methods, reason = "this is where the steps are carried out")]

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, ResolveFlags,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use super::{Effect, perform};
use crate::error::Failure;

/// One change to files or to a mount that is being configured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// Makes a directory of mode 0700.
    MakeDir {
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
    },
    RemoveDir {
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
    },
    Unlink {
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
    },
    /// Renames, unless the new name is taken.
    Rename {
        from: BorrowedFd<'a>,
        name: &'a OsStr,
        to: BorrowedFd<'a>,
        new_name: &'a OsStr,
    },
    /// Renames, in the place of an empty directory or a file.
    Replace {
        from: BorrowedFd<'a>,
        name: &'a OsStr,
        to: BorrowedFd<'a>,
        new_name: &'a OsStr,
    },
    /// Gives a name to a file made by [`NewFd::NamelessFile`], unless the name is taken.
    Publish {
        file: BorrowedFd<'a>,
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
    },
    HardLink {
        from: BorrowedFd<'a>,
        name: &'a OsStr,
        to: BorrowedFd<'a>,
        new_name: &'a OsStr,
    },
    Symlink {
        target: &'a OsStr,
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
    },
    /// Makes a FIFO of mode 0600.
    Fifo {
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
    },
    /// Makes a device node of mode 0600.
    Device {
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
        kind: FileType,
        major: u32,
        minor: u32,
    },
    /// Makes what overlayfs takes for "nothing here".
    Whiteout {
        dir: BorrowedFd<'a>,
        name: &'a OsStr,
    },
    Own {
        target: Target<'a>,
        uid: u32,
        gid: u32,
    },
    Mode {
        target: Target<'a>,
        mode: u32,
    },
    Times {
        target: Target<'a>,
        times: &'a Timestamps,
    },
    Xattr {
        file: BorrowedFd<'a>,
        name: &'a OsStr,
        value: &'a [u8],
    },
    /// Sets the `SELinux` label of what is at a place, a link included.
    Label {
        place: BorrowedFd<'a>,
        label: &'a str,
    },
    Resize {
        file: BorrowedFd<'a>,
        len: u64,
    },
    /// Takes room on the disk for so many bytes.
    Allocate {
        file: BorrowedFd<'a>,
        len: u64,
    },
    Sync {
        file: BorrowedFd<'a>,
    },
    SyncFilesystem {
        file: BorrowedFd<'a>,
    },
    /// Takes the exclusive lock of a file at once or not at all.
    Lock {
        file: BorrowedFd<'a>,
    },
    /// Sets an option of a filesystem being configured.
    Set {
        fs: BorrowedFd<'a>,
        key: &'static str,
        value: &'a str,
    },
    /// The same for one that has no value.
    SetFlag {
        fs: BorrowedFd<'a>,
        key: &'static str,
    },
    /// The same, with a directory for value.
    SetDir {
        fs: BorrowedFd<'a>,
        key: &'static str,
        dir: BorrowedFd<'a>,
    },
    /// Makes the configured filesystem.
    CreateFs {
        fs: BorrowedFd<'a>,
    },
}

/// What [`Step::Own`], [`Step::Mode`] and [`Step::Times`] change; a named link is not followed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    Open(BorrowedFd<'a>),
    Named { dir: BorrowedFd<'a>, name: &'a OsStr },
}

impl<'a> Step<'a> {
    /// The step that takes this one back; `None` if it cannot be taken back by one.
    pub(crate) fn inverse(&self) -> Option<Step<'a>> {
        match *self {
            Self::MakeDir { dir, name } => Some(Self::RemoveDir { dir, name }),
            Self::Rename { from, name, to, new_name } => {
                Some(Self::Rename { from: to, name: new_name, to: from, new_name: name })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MakeDir { name, .. } => write!(f, "create directory {name:?}"),
            Self::RemoveDir { name, .. } => write!(f, "remove directory {name:?}"),
            Self::Unlink { name, .. } => write!(f, "remove {name:?}"),
            Self::Rename { name, new_name, .. } => write!(f, "rename {name:?} to {new_name:?}"),
            Self::Replace { name, new_name, .. } => write!(f, "put {name:?} for {new_name:?}"),
            Self::Publish { name, .. } => write!(f, "create file {name:?}"),
            Self::HardLink { name, new_name, .. } => write!(f, "link {new_name:?} to {name:?}"),
            Self::Symlink { name, .. } => write!(f, "create symbolic link {name:?}"),
            Self::Fifo { name, .. } => write!(f, "create FIFO {name:?}"),
            Self::Device { name, major, minor, .. } => {
                write!(f, "create device {name:?} {major}:{minor}")
            }
            Self::Whiteout { name, .. } => write!(f, "hide {name:?}"),
            Self::Own { uid, gid, .. } => write!(f, "set the owner to {uid}:{gid}"),
            Self::Mode { mode, .. } => write!(f, "set the mode to {mode:04o}"),
            Self::Times { .. } => write!(f, "set the time of last change"),
            Self::Xattr { name, .. } => write!(f, "set extended attribute {name:?}"),
            Self::Label { label, .. } => write!(f, "set the label {label}"),
            Self::Resize { len, .. } => write!(f, "set the size to {len} bytes"),
            Self::Allocate { len, .. } => write!(f, "take {len} bytes of the disk"),
            Self::Sync { .. } => write!(f, "flush to disk"),
            Self::SyncFilesystem { .. } => write!(f, "flush the filesystem to disk"),
            Self::Lock { .. } => write!(f, "lock"),
            Self::Set { key, value, .. } => write!(f, "set mount option {key}={value}"),
            Self::SetFlag { key, .. } => write!(f, "set mount option {key}"),
            Self::SetDir { key, .. } => write!(f, "set mount option {key} to a directory"),
            Self::CreateFs { .. } => write!(f, "create the filesystem"),
        }
    }
}

impl Effect for Step<'_> {
    type Output = ();

    fn without(&self) -> Option<()> {
        Some(())
    }

    fn act(&self) -> rustix::io::Result<()> {
        use rustix::{fs, mount};
        let noreplace = RenameFlags::NOREPLACE;
        match *self {
            Self::MakeDir { dir, name } => fs::mkdirat(dir, name, Mode::RWXU),
            Self::RemoveDir { dir, name } => fs::unlinkat(dir, name, AtFlags::REMOVEDIR),
            Self::Unlink { dir, name } => fs::unlinkat(dir, name, AtFlags::empty()),
            Self::Rename { from, name, to, new_name } => {
                fs::renameat_with(from, name, to, new_name, noreplace)
            }
            Self::Replace { from, name, to, new_name } => fs::renameat(from, name, to, new_name),
            Self::Publish { file, dir, name } => {
                fs::linkat(CWD, proc_path(file), dir, name, AtFlags::SYMLINK_FOLLOW)
            }
            Self::HardLink { from, name, to, new_name } => {
                fs::linkat(from, name, to, new_name, AtFlags::empty())
            }
            Self::Symlink { target, dir, name } => fs::symlinkat(target, dir, name),
            Self::Fifo { dir, name } => {
                fs::mknodat(dir, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            }
            Self::Device { dir, name, kind, major, minor } => {
                let device = fs::makedev(major, minor);
                fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device)
            }
            Self::Whiteout { dir, name } => {
                fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
            }
            Self::Own { target, uid, gid } => own(target, uid, gid),
            Self::Mode { target, mode } => set_mode(target, Mode::from_raw_mode(mode)),
            Self::Times { target, times } => set_times(target, times),
            Self::Xattr { file, name, value } => {
                fs::fsetxattr(file, name, value, XattrFlags::empty())
            }
            Self::Label { place, label } => {
                // With the NUL at its end, as libselinux writes it.
                let value = [label.as_bytes(), b"\0"].concat();
                let path = proc_path(place);
                fs::setxattr(path, "security.selinux", &value, XattrFlags::empty())
            }
            Self::Resize { file, len } => fs::ftruncate(file, len),
            Self::Allocate { file, len } => {
                fs::fallocate(file, fs::FallocateFlags::empty(), 0, len)
            }
            Self::Sync { file } => fs::fsync(file),
            Self::SyncFilesystem { file } => fs::syncfs(file),
            Self::Lock { file } => fs::flock(file, FlockOperation::NonBlockingLockExclusive),
            Self::Set { fs, key, value } => mount::fsconfig_set_string(fs, key, value),
            Self::SetFlag { fs, key } => mount::fsconfig_set_flag(fs, key),
            Self::SetDir { fs, key, dir } => mount::fsconfig_set_fd(fs, key, dir),
            Self::CreateFs { fs } => mount::fsconfig_create(fs),
        }
    }
}

fn own(target: Target<'_>, uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    match target {
        Target::Open(file) => rustix::fs::fchown(file, uid, gid),
        Target::Named { dir, name } => {
            rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

fn set_mode(target: Target<'_>, mode: Mode) -> rustix::io::Result<()> {
    match target {
        Target::Open(file) => rustix::fs::fchmod(file, mode),
        // Linux has no fchmodat that does not follow before 6.6: open without following instead.
        Target::Named { dir, name } => {
            let node = super::open_path(dir, name, ResolveFlags::BENEATH, OFlags::NOFOLLOW)?;
            match rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&node)?.st_mode) {
                FileType::Symlink => Err(Errno::LOOP),
                _ => rustix::fs::chmodat(CWD, proc_path(node.as_fd()), mode, AtFlags::empty()),
            }
        }
    }
}

fn set_times(target: Target<'_>, times: &Timestamps) -> rustix::io::Result<()> {
    match target {
        Target::Open(file) => rustix::fs::futimens(file, times),
        Target::Named { dir, name } => {
            rustix::fs::utimensat(dir, name, times, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

/// An effect whose result is a new descriptor; dropping that takes it back, but for `File`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NewFd<'a> {
    /// A new, empty file of mode 0600 for writing.
    File { dir: BorrowedFd<'a>, name: &'a OsStr },
    /// The same without a name yet; it vanishes unless given one by [`Step::Publish`].
    NamelessFile { dir: BorrowedFd<'a> },
    /// A filesystem to be configured.
    Fs { kind: &'static str },
    /// A detached mount of a configured filesystem.
    Mount { fs: BorrowedFd<'a>, attributes: MountAttrFlags },
    /// A detached copy of the mount at a place.
    MountCopy { dir: BorrowedFd<'a>, name: &'static str },
    /// A detached mount of what is at a place, with the mounts below it if so wanted.
    Bind { place: BorrowedFd<'a>, recursive: bool },
}

impl fmt::Display for NewFd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::File { name, .. } => write!(f, "create file {name:?}"),
            Self::NamelessFile { .. } => write!(f, "create a nameless file"),
            Self::Fs { kind } => write!(f, "open filesystem {kind}"),
            Self::Mount { .. } => write!(f, "create a detached mount"),
            Self::MountCopy { .. } => write!(f, "copy the mount"),
            Self::Bind { .. } => write!(f, "make a mount of it"),
        }
    }
}

impl Effect for NewFd<'_> {
    type Output = OwnedFd;

    fn act(&self) -> rustix::io::Result<OwnedFd> {
        let write = OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        match *self {
            Self::File { dir, name } => {
                let flags = write | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                rustix::fs::openat(dir, name, flags, mode)
            }
            Self::NamelessFile { dir } => {
                let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
                rustix::fs::openat(dir, c".", flags, mode)
            }
            Self::Fs { kind } => rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC),
            Self::Mount { fs, attributes } => {
                rustix::mount::fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            }
            Self::MountCopy { dir, name } => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                rustix::mount::open_tree(dir, name, flags)
            }
            Self::Bind { place, recursive } => {
                let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_EMPTY_PATH;
                flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
                rustix::mount::open_tree(place, c"", flags)
            }
        }
    }
}

/// Writes some of `bytes` at offset `at`; the output is how many.
#[derive(Clone, Copy, Debug)]
struct Write<'a> {
    file: BorrowedFd<'a>,
    bytes: &'a [u8],
    at: u64,
}

impl fmt::Display for Write<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {} bytes at offset {}", self.bytes.len(), self.at)
    }
}

impl Effect for Write<'_> {
    type Output = usize;

    fn act(&self) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::pwrite(self.file, self.bytes, self.at))
    }
}

/// Writes all of `bytes` at offset `at`.
pub(crate) fn write_all_at(
    file: BorrowedFd<'_>,
    mut bytes: &[u8],
    mut at: u64,
) -> Result<(), Failure> {
    while !bytes.is_empty() {
        let write = Write { file, bytes, at };
        match perform(&write)? {
            0 => return Err(Failure::new(&write, std::io::ErrorKind::WriteZero.into())),
            written => {
                bytes = &bytes[written..];
                at += written as u64;
            }
        }
    }
    Ok(())
}

/// The name by which the kernel finds an open file again.
pub(super) fn proc_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
