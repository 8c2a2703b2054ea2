//! All that this crate makes, and all that one process tells the other.
#![expect(clippy::disallowed_methods, reason = "this is where the effects are")]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect as connect_to,
    socket_with,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::fault;
use crate::handover::{self, Heard, Said, Whole, set_patience};

/// Most connections that wait to be taken where containers ask.
const BACKLOG: i32 = 64;

/// One effect, as it is called.
#[derive(Debug)]
enum Step<'a> {
    /// Have the sockets on which a network is asked.
    Listen { interface: &'a str, address: SocketAddr },
    /// Reach the one that answers.
    Connect(&'a Path),
    /// Write all that is known into a file that nobody can change.
    Seal,
    /// Tell the one that answers.
    Say(&'a Said),
    /// Take the connection of who knows the names.
    Accept,
    /// Tell that one what is there.
    Reply(&'a Heard),
    /// Do what it says.
    Obey(&'a Said),
    /// Listen where managers connect to.
    #[cfg(feature = "daemon")]
    ListenAt(&'a Path),
    /// Do so no more.
    #[cfg(feature = "daemon")]
    RemoveSocket(&'a Path),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { interface, address } => write!(f, "listen at {address} on {interface}"),
            Self::Connect(path) => write!(f, "connect to {}", path.display()),
            Self::Seal => f.write_str("seal all that is known"),
            Self::Say(said) => write!(f, "say {said}"),
            Self::Accept => f.write_str("accept a connection"),
            Self::Reply(heard) => write!(f, "reply {heard}"),
            Self::Obey(said) => write!(f, "obey {said}"),
            #[cfg(feature = "daemon")]
            Self::ListenAt(path) => write!(f, "listen at {}", path.display()),
            #[cfg(feature = "daemon")]
            Self::RemoveSocket(path) => write!(f, "remove socket {}", path.display()),
        }
    }
}

/// Carries out one effect; nothing in this file does without it.
fn run<T>(step: &Step<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    fault::point(step)?;
    act()
}

/// The same of one that makes nothing that anybody is given.
fn change(step: &Step<'_>, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if fault::leaves_out(step)? { Ok(()) } else { act() }
}

/// Sockets at an address, for what comes in by that interface alone: for datagrams, and for
/// connections.
pub(crate) fn listen(interface: &str, address: SocketAddr) -> io::Result<(Socket, Socket)> {
    run(&Step::Listen { interface, address }, || {
        let udp = socket(interface, address, Type::DGRAM, Protocol::UDP)?;
        let tcp = socket(interface, address, Type::STREAM, Protocol::TCP)?;
        tcp.listen(BACKLOG)?;
        Ok((udp, tcp))
    })
}

fn socket(
    interface: &str,
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    if kind == Type::STREAM {
        // Connections of an earlier server may still wait for their end.
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A connection to the one that answers, on which nothing takes longer than `patience`.
pub(crate) fn connect(path: &Path, patience: Duration) -> io::Result<OwnedFd> {
    run(&Step::Connect(path), || {
        let socket = packet_socket()?;
        set_patience(&socket, Some(patience))?;
        connect_to(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket)
    })
}

/// A file with all that is known.
pub(crate) fn seal(whole: &Whole) -> io::Result<OwnedFd> {
    run(&Step::Seal, || handover::sealed(whole))
}

/// Tells the one that answers.
pub(crate) fn say(to: &OwnedFd, said: &Said, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    change(&Step::Say(said), || handover::send(to, said, fds))
}

/// The next connection of who knows the names, on which nothing takes longer than `patience`.
pub(crate) fn accept(listener: &OwnedFd, patience: Duration) -> io::Result<OwnedFd> {
    run(&Step::Accept, || {
        let connection = accept_with(listener, SocketFlags::CLOEXEC)?;
        set_patience(&connection, Some(patience))?;
        Ok(connection)
    })
}

/// Tells that one what is there.
pub(crate) fn reply(to: &OwnedFd, heard: &Heard, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    change(&Step::Reply(heard), || handover::send(to, heard, fds))
}

/// Does what it says, by `act`.
pub(crate) fn obey(said: Said, act: impl FnOnce(Said) -> io::Result<()>) -> io::Result<()> {
    if fault::leaves_out(&Step::Obey(&said))? { Ok(()) } else { act(said) }
}

fn packet_socket() -> io::Result<OwnedFd> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    Ok(socket_with(AddressFamily::UNIX, kind, flags, None)?)
}

#[cfg(feature = "daemon")]
pub(crate) use of_program::{listen_at, remove_socket};

#[cfg(feature = "daemon")]
mod of_program {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::{Mode, fchmod};
    use rustix::net::{SocketAddrUnix, bind, listen};

    use super::{Step, change, packet_socket, run};

    /// How many managers may wait to be accepted.
    const BACKLOG: i32 = 16;

    /// Makes a socket at `path`, in the place of one that was there.
    pub(crate) fn listen_at(path: &Path) -> io::Result<OwnedFd> {
        run(&Step::ListenAt(path), || {
            let socket = packet_socket()?;
            // The file gets the mode of the socket: there is no moment in which others can connect.
            fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            listen(&socket, BACKLOG)?;
            Ok(socket)
        })
    }

    /// Takes it away.
    pub(crate) fn remove_socket(path: &Path) -> io::Result<()> {
        change(&Step::RemoveSocket(path), || std::fs::remove_file(path))
    }
}
