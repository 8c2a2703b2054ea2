//! Packets with descriptors, over sequenced-packet sockets; see unix(7).

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, bind, connect, listen, recvmsg, sendmsg, socket_with,
};
use rustix::process::Pid;

use crate::wire::{MAX_FDS, MAX_MESSAGE};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;
/// `SO_PEERPIDFD` (Linux 6.5), which libc lacks.
const SO_PEERPIDFD: libc::c_int = 77;

/// What came in.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message.
    Packet(Packet),
    /// The other side has closed the connection, or has ended.
    Closed,
    /// More bytes or descriptors than any message has; they are gone.
    TooLong,
}

/// A message with its descriptors.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) text: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) pid: Pid,
    /// Where the kernel gives one.
    pidfd: Option<OwnedFd>,
}

impl Peer {
    /// Who opened this connection.
    pub(crate) fn of(socket: &OwnedFd) -> io::Result<Self> {
        let peer = sockopt::socket_peercred(socket)?;
        Ok(Self { uid: peer.uid.as_raw(), pid: peer.pid, pidfd: peer_pidfd(socket)? })
    }

    /// Whether it has ended, or has closed its end of `socket`.
    pub(crate) fn is_gone(&self, socket: &OwnedFd) -> io::Result<bool> {
        let mut polled = vec![PollFd::new(socket, PollFlags::RDHUP)];
        polled.extend(self.pidfd.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(polled.iter().any(|fd| !fd.revents().is_empty()))
    }
}

/// As whom the other end of a connection was opened, or began to listen.
pub(crate) fn peer_uid(socket: &OwnedFd) -> io::Result<u32> {
    Ok(sockopt::socket_peercred(socket)?.uid.as_raw())
}

/// A pidfd of the process that opened a connection; `None` on kernels that have no such option.
fn peer_pidfd(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut pidfd: libc::c_int = -1;
    let mut size = libc::socklen_t::try_from(size_of_val(&pidfd)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `size` bytes into an integer that lives through the call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut pidfd).cast(),
            &raw mut size,
        )
    };
    if answer == 0 {
        // SAFETY: the kernel has just opened it for us, close-on-exec, and nobody else knows it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) }));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        // It has ended and been waited for.
        error => Err(error),
    }
}

/// Makes a socket at `path` that root alone can connect to, in the place of one nobody listens on.
pub(super) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = new_socket()?;
    // The file gets the mode of the socket: there is no moment in which others can connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) if is_deserted(path, &address)? => {
            fs::remove_file(path)?;
            bind(&socket, &address)?;
        }
        result => result?,
    }
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Makes a stream socket at `path` that root alone can connect to.
pub(super) fn listen_for_terminal(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &address)?;
    listen(&socket, 1)?;
    Ok(socket)
}

/// The one descriptor that was sent over a connection that was made to `listener`, which does not
/// block; nothing if there is none.
pub(crate) fn sent_terminal(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let Some(connection) = accept(listener.as_fd())? else { return Ok(None) };
    // Whoever sent it has ended.
    rustix::io::ioctl_fionbio(&connection, true)?;
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    recvmsg(&connection, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    Ok(rights(&mut control).pop())
}

/// Whether there is a socket that nobody listens on.
fn is_deserted(path: &Path, address: &SocketAddrUnix) -> io::Result<bool> {
    if !path.symlink_metadata()?.file_type().is_socket() {
        return Ok(false);
    }
    match connect(new_socket()?, address) {
        Ok(()) => Ok(false),
        Err(Errno::CONNREFUSED) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Connects to the socket at `path`.
pub(crate) fn connect_to(path: &Path, timeout: Duration) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = new_socket()?;
    set_timeout(&socket, Timeout::Send, timeout)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// Takes a connection that waits, if one does: the listening socket must not block.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match accept_with(listener, SocketFlags::CLOEXEC) {
        Ok(connection) => Ok(Some(connection)),
        // The other side went away again, or another process took it.
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether `socket` is one that [`accept`] can be called on; makes it not block.
pub(crate) fn check_listener(socket: &OwnedFd) -> io::Result<()> {
    let fits = sockopt::socket_domain(socket)? == AddressFamily::UNIX
        && sockopt::socket_type(socket)? == SocketType::SEQPACKET
        && sockopt::socket_acceptconn(socket)?;
    if !fits {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a listening sequenced-packet socket",
        ));
    }
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

pub(crate) fn set_timeout(socket: &OwnedFd, which: Timeout, limit: Duration) -> io::Result<()> {
    Ok(sockopt::set_socket_timeout(socket, which, Some(limit))?)
}

/// Sends one message.
pub(crate) fn send(socket: &OwnedFd, text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// Waits for one message, as long as [`set_timeout`] said.
pub(crate) fn receive(socket: &OwnedFd) -> io::Result<Received> {
    let mut text = vec![0; MAX_MESSAGE];
    // One more than there may be: the kernel rounds up, and what is too much is seen.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut parts = [IoSliceMut::new(&mut text)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            // Said once of a peer that went away without reading everything. What it had said before
            // that is still there.
            Err(Errno::INTR | Errno::CONNRESET) => {}
            result => break result?,
        }
    };
    let fds = rights(&mut control);
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
        return Ok(Received::TooLong);
    }
    if message.bytes == 0 {
        return Ok(Received::Closed);
    }
    text.truncate(message.bytes);
    Ok(Received::Packet(Packet { text, fds }))
}

fn rights(control: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let messages = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    messages.flatten().collect()
}

/// Whether a descriptor is a pidfd.
pub(crate) fn is_pidfd(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: signal 0 is sent to nobody, and a null siginfo means "as kill(2) does".
    let answer =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), 0, no_info, 0) };
    // One that has ended, or that we may not signal, is one.
    answer == 0
        || !matches!(io::Error::last_os_error().raw_os_error(), Some(libc::EBADF | libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::socketpair;
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn text(socket: &OwnedFd) -> (Vec<u8>, usize) {
        match receive(socket).unwrap() {
            Received::Packet(Packet { text, fds }) => (text, fds.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_keep_their_bounds_and_descriptors() {
        let (ours, theirs) = pair();
        let null = File::open("/dev/null").unwrap();
        send(&ours, b"one", &[null.as_fd(), null.as_fd()]).unwrap();
        let longest = vec![b'2'; MAX_MESSAGE];
        send(&ours, &longest, &[null.as_fd(); MAX_FDS]).unwrap();
        assert_eq!(text(&theirs), (b"one".into(), 2));
        assert_eq!(text(&theirs), (longest, MAX_FDS));
        drop(ours);
        assert!(matches!(receive(&theirs).unwrap(), Received::Closed));
    }

    #[test]
    fn the_last_word_of_one_who_did_not_listen_is_heard() {
        let (ours, theirs) = pair();
        send(&ours, b"please", &[]).unwrap();
        send(&theirs, b"no", &[]).unwrap();
        drop(theirs);
        assert_eq!(text(&ours), (b"no".into(), 0));
        assert!(matches!(receive(&ours).unwrap(), Received::Closed));
    }

    #[test]
    fn what_is_too_long_is_seen_and_closed() {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let (ours, theirs) = pair();
        send(&ours, &vec![b'x'; MAX_MESSAGE + 1], &[]).unwrap();
        assert!(matches!(receive(&theirs).unwrap(), Received::TooLong));
        let null = File::open("/dev/null").unwrap();
        for count in [MAX_FDS + 1, MAX_FDS + 2, 200] {
            let before = descriptors();
            let fds = vec![null.as_fd(); count];
            let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            sendmsg(&ours, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
            assert!(matches!(receive(&theirs).unwrap(), Received::TooLong), "{count}");
            // Other tests open and close some meanwhile, but none 200 of them.
            assert!(descriptors() < before + 100, "{count}");
        }
    }

    #[test]
    fn a_socket_is_its_owners_alone_and_takes_the_place_of_a_deserted_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = listen_at(&path).unwrap();
        let mode = path.symlink_metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{mode:o}");
        let error = listen_at(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        drop(first);
        let second = listen_at(&path).unwrap();
        check_listener(&second).unwrap();
        assert!(accept(second.as_fd()).unwrap().is_none());
        let _client = connect_to(&path, Duration::from_secs(1)).unwrap();
        assert!(accept(second.as_fd()).unwrap().is_some());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        assert!(listen_at(&path).is_err() && path.exists());
        assert!(check_listener(&pair().0).is_err(), "it does not listen");
    }

    #[test]
    fn the_peer_is_known_and_missed() {
        let (ours, theirs) = pair();
        let peer = Peer::of(&ours).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.pid, getpid());
        assert!(!peer.is_gone(&ours).unwrap());
        drop(theirs);
        assert!(peer.is_gone(&ours).unwrap());
    }

    #[test]
    fn a_pidfd_is_told_from_other_files() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        assert!(is_pidfd(&pidfd), "of one that has ended");
        assert!(is_pidfd(pidfd_open(getpid(), PidfdFlags::empty()).unwrap()));
        for path in ["/dev/null", "/proc/self/ns/mnt", "/"] {
            assert!(!is_pidfd(File::open(path).unwrap()), "{path}");
        }
    }
}
