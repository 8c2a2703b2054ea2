//! Connecting to a conmon, and pipes that do not block.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{SocketAddrUnix, connect};

/// How long a conmon may take to have room for one more caller.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to the socket of that name in a directory, whose path may be longer than a socket's can be.
pub(super) fn connect_in(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let flags = (OFlags::PATH | OFlags::DIRECTORY).bits().cast_signed();
    let dir = OpenOptions::new().read(true).custom_flags(flags).open(dir)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))?;
    let socket = super::socket::new_socket()?;
    // conmon takes one caller at a time, and lets a few wait.
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// The same end of a pipe, in a way that does not block; whoever else has it is not concerned. `None` if
/// the pipe has a name, and nobody has the other end; without one, that is only seen when it is used.
///
/// # Errors
///
/// `InvalidInput` if it is no such end of a pipe.
pub(crate) fn unblocked(pipe: &OwnedFd, mode: OFlags) -> io::Result<Option<File>> {
    let is_pipe = FileType::from_raw_mode(fstat(pipe)?.st_mode) == FileType::Fifo;
    let flags = fcntl_getfl(pipe)?;
    if !is_pipe || flags.contains(OFlags::PATH) || flags & OFlags::ACCMODE != mode {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut options = OpenOptions::new();
    options.read(mode == OFlags::RDONLY).write(mode == OFlags::WRONLY);
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    match options.open(format!("/proc/self/fd/{}", pipe.as_fd().as_raw_fd())) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_pipe_blocks_for_others_as_before() {
        let (reader, writer) = io::pipe().unwrap();
        let (reader, mut writer) = (OwnedFd::from(reader), writer);
        let mut ours = unblocked(&reader, OFlags::RDONLY).unwrap().unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!fcntl_getfl(&reader).unwrap().contains(OFlags::NONBLOCK));
        writer.write_all(b"x").unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 1);
        let writer = OwnedFd::from(writer);
        drop((reader, ours));
        let mut ours = unblocked(&writer, OFlags::WRONLY).unwrap().unwrap();
        assert_eq!(ours.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn only_the_right_end_of_a_pipe_will_do() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(unblocked(&writer.into(), OFlags::RDONLY).is_err());
        assert!(unblocked(&reader.into(), OFlags::WRONLY).is_err());
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(unblocked(&socket.into(), OFlags::WRONLY).is_err());
        assert!(unblocked(&File::open("/dev/null").unwrap().into(), OFlags::RDONLY).is_err());
    }
}
