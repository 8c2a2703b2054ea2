use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 16;

/// The socket that the service manager listens on for us; see `sd_listen_fds(3)`.
pub(crate) fn inherited_socket() -> io::Result<Option<OwnedFd>> {
    let mut sockets = sd_notify::listen_fds()?;
    match (sockets.next(), sockets.next()) {
        (None, _) => Ok(None),
        // SAFETY: the manager handed it over to this process, and nothing has used it yet.
        (Some(socket), None) => Ok(Some(unsafe { OwnedFd::from_raw_fd(socket) })),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "more than one socket was handed over"))
        }
    }
}

/// Makes a socket at `path`, in the place of one that was there.
pub(crate) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    // The file gets the mode of the socket: there is no moment in which others can connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// What the signal handler writes to.
static STOP: AtomicI32 = AtomicI32::new(-1);

/// A descriptor that can be read from when this process is asked to end.
pub(crate) fn stop_signal() -> io::Result<OwnedFd> {
    let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
    STOP.store(stop.as_raw_fd(), Ordering::SeqCst);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler makes one system call that may be made in handlers.
        let before = unsafe { libc::signal(signal, on_stop as extern "C" fn(i32) as usize) };
        if before == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(stop)
}

extern "C" fn on_stop(_signal: i32) {
    let (stop, one): (RawFd, u64) = (STOP.load(Ordering::SeqCst), 1);
    // SAFETY: writes eight bytes that are there; where the descriptor was closed, nothing happens.
    unsafe { libc::write(stop, (&raw const one).cast(), size_of_val(&one)) };
}
