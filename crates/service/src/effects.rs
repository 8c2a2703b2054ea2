//! Every effect that the service itself has: files, descriptors, the one program it starts. Nothing
//! else in this crate changes anything of the host, but for [`db`](crate::db), which has a point
//! of its own for each piece of work; what leaves do is theirs.
//!
//! What is made here has no undo of its own: it is written down first who it belongs to, and found
//! by that.
#![expect(clippy::disallowed_methods, reason = "this is where the effects are")]

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, PipeReader, PipeWriter, Seek, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command};

use rustix::event::EventfdFlags;
use rustix::fs::inotify::{CreateFlags, WatchFlags};
use rustix::fs::{FlockOperation, OFlags, XattrFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit};
use tokio::net::UdpSocket;

use crate::fault;

/// Carries out one effect; nothing in this file does without it.
fn run<T>(effect: fmt::Arguments<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    fault::point(&effect)?;
    act()
}

/// The same of one that makes nothing that anybody is given.
fn change(effect: fmt::Arguments<'_>, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if fault::leaves_out(&effect)? { Ok(()) } else { act() }
}

/// Makes a directory of that mode, and those above it, unless they are there.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    change(format_args!("make directory {}", path.display()), || {
        DirBuilder::new().recursive(true).mode(mode).create(path)
    })
}

/// Sets the mode of a file or directory.
pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    change(format_args!("set the mode of {} to {mode:04o}", path.display()), || {
        fs::set_permissions(path, Permissions::from_mode(mode))
    })
}

/// Lets a user look for names in a directory that is otherwise its owner's alone, and nothing else.
pub(crate) fn let_enter(path: &Path, uid: u32) -> io::Result<()> {
    change(format_args!("let user {uid} into {}", path.display()), || {
        let (name, flags) = ("system.posix_acl_access", XattrFlags::empty());
        Ok(rustix::fs::setxattr(path, name, &to_enter(uid), flags)?)
    })
}

/// Such an access control list, as acl(5) and the kernel's `posix_acl_xattr.h` have it.
fn to_enter(uid: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] = [
        // The owner, this user, the owner's group, what the last two have at most, and others.
        (0x01, 7, NOBODY),
        (0x02, 1, uid),
        (0x04, 0, NOBODY),
        (0x10, 1, NOBODY),
        (0x20, 0, NOBODY),
    ];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, allowed, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(allowed.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

/// Gives a file or directory to a group.
pub(crate) fn give_to_group(path: &Path, gid: u32) -> io::Result<()> {
    change(format_args!("give {} to group {gid}", path.display()), || {
        std::os::unix::fs::chown(path, None, Some(gid))
    })
}

/// Writes a file, in place of one that is there.
pub(crate) fn write_file(path: &Path, text: &str) -> io::Result<()> {
    change(format_args!("write {}", path.display()), || fs::write(path, text))
}

/// Writes a file that is not there.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    change(format_args!("write {}", path.display()), || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
    })
}

/// Makes a file that is not there, to be written by whoever asks for it.
pub(crate) fn make_file(path: &Path) -> io::Result<File> {
    run(format_args!("make {}", path.display()), || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(path)
    })
}

/// Gives a file of ours one name more.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    change(format_args!("link {} to {}", from.display(), to.display()), || fs::hard_link(from, to))
}

/// Waits until a file or directory is on the disk.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    change(format_args!("flush {}", path.display()), || File::open(path)?.sync_all())
}

/// Removes a file, if it is there.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    change(format_args!("remove {}", path.display()), || unless_gone(fs::remove_file(path)))
}

/// Removes a directory of ours with all that is in it, if it is there.
pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    change(format_args!("remove directory {}", path.display()), || {
        unless_gone(fs::remove_dir_all(path))
    })
}

/// Removes a directory of ours with nothing in it, if it is there.
pub(crate) fn remove_empty_dir(path: &Path) -> io::Result<()> {
    change(format_args!("remove empty directory {}", path.display()), || {
        unless_gone(fs::remove_dir(path))
    })
}

/// Gives a file of ours another name, in place of one that has it.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    change(format_args!("rename {} to {}", from.display(), to.display()), || fs::rename(from, to))
}

/// Makes something that is told what happens to files.
pub(crate) fn new_watch() -> io::Result<OwnedFd> {
    run(format_args!("make a watch of files"), || {
        Ok(rustix::fs::inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)
    })
}

/// From now on that is told this of a file or directory; returns its number there.
pub(crate) fn add_watch(watch: impl AsFd, path: &Path, what: WatchFlags) -> io::Result<i32> {
    run(format_args!("watch {}", path.display()), || {
        Ok(rustix::fs::inotify::add_watch(watch, path, what)?)
    })
}

fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// `O_NOFOLLOW`, as flags of open(2) are passed on.
const NO_LINKS: i32 = OFlags::NOFOLLOW.bits().cast_signed();

/// Opens a lock file that is no link, making it if it is not there; does not take the lock.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    run(format_args!("open {}", path.display()), || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(NO_LINKS).open(path)
    })
}

/// Takes the lock of a file, at once or not at all.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    run(format_args!("take a lock"), || {
        Ok(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)?)
    })
}

/// Takes the lock of a file, when nobody else has it any more.
pub(crate) fn wait_for_lock(file: &File) -> io::Result<()> {
    run(format_args!("wait for a lock"), || {
        Ok(rustix::fs::flock(file, FlockOperation::LockExclusive)?)
    })
}

/// Replaces what is in an open file.
pub(crate) fn rewrite(file: &mut File, text: &str) -> io::Result<()> {
    run(format_args!("write who has a lock"), || {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    })
}

/// Makes a pipe.
pub(crate) fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    run(format_args!("make a pipe"), io::pipe)
}

/// Opens `/dev/null`, to read and to write.
pub(crate) fn open_null() -> io::Result<File> {
    run(format_args!("open /dev/null"), || File::options().read(true).write(true).open("/dev/null"))
}

/// Makes a descriptor that becomes readable when somebody [signals](signal_event) it.
pub(crate) fn make_event() -> io::Result<OwnedFd> {
    run(format_args!("make an eventfd"), || {
        Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
    })
}

/// Makes such a descriptor readable, for good.
pub(crate) fn signal_event(event: impl AsFd) -> io::Result<()> {
    run(format_args!("write to an eventfd"), || {
        Ok(rustix::io::write(event, &1_u64.to_ne_bytes()).map(drop)?)
    })
}

/// Makes a descriptor that becomes readable when a file is written to.
pub(crate) fn watch_file(path: &Path) -> io::Result<OwnedFd> {
    run(format_args!("watch {}", path.display()), || {
        let fd = rustix::fs::inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        rustix::fs::inotify::add_watch(&fd, path, WatchFlags::MODIFY)?;
        Ok(fd)
    })
}

/// Asks the service manager for something, or hears what came of that.
pub(crate) async fn ask_manager<T>(
    what: String,
    ask: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    fault::point_aside(what).await?;
    ask.await
}

/// Makes a socket for datagrams at this address, with a port that is free.
pub(crate) async fn bind_datagrams(at: IpAddr) -> io::Result<UdpSocket> {
    fault::point_aside(format!("bind a socket for datagrams at {at}")).await?;
    UdpSocket::bind((at, 0)).await
}

/// Starts the program of a private bus.
pub(crate) fn start_bus(command: &mut Command) -> io::Result<Child> {
    run(format_args!("start a private bus"), || command.spawn())
}

/// Connects to a socket for packets.
pub(crate) fn connect_packets(path: &Path) -> io::Result<OwnedFd> {
    run(format_args!("connect to {}", path.display()), || {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket)
    })
}

/// Starts the program that speaks with a registry.
pub(crate) fn start_worker(command: &mut Command) -> io::Result<Child> {
    run(format_args!("start a worker"), || command.spawn())
}

/// Sets how many files this process may have open.
pub(crate) fn limit_files(limit: Rlimit) -> io::Result<()> {
    run(format_args!("set the limit of open files"), || {
        Ok(rustix::process::setrlimit(Resource::Nofile, limit)?)
    })
}
