use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Signal, WaitId, WaitIdOptions, getpid, pidfd_send_signal, set_child_subreaper, waitid,
};

use super::cgroup;
use super::program::Program;
use crate::launch::{CALL_LIMIT, Child, Deadline, Finished, Group, Launch, Stdio};
use crate::step::Done;

pub(super) fn adopt_orphans() -> io::Result<()> {
    // Any pid but none switches it on.
    Ok(set_child_subreaper(Some(getpid()))?)
}

pub(super) fn call(launch: &Launch) -> io::Result<Finished> {
    let mut child = self::launch(launch)?;
    let finished = child.finish(Deadline::after(CALL_LIMIT));
    if finished.is_err() {
        kill(&child.pidfd)?;
    }
    finished
}

pub(super) fn launch(launch: &Launch) -> io::Result<Child> {
    let (stdio, output) = connect(&launch.stdio)?;
    let given = launch.fds.iter().map(|fd| fd.as_fd());
    let fds: Vec<_> = stdio.iter().map(AsFd::as_fd).chain(given).collect();
    let program = Program::new(launch, &fds)?;
    let group =
        launch.group.as_ref().map(|Group { root, path }| cgroup::open(root, path.relative()));
    let group = group.transpose()?;
    let (pid, pidfd) = program.start(group.as_ref().map(AsFd::as_fd))?;
    Ok(Child { pid, pidfd: Arc::new(pidfd), output })
}

/// The standard descriptors of a program, and the end of the pipe that its output can be read from.
fn connect(stdio: &Stdio) -> io::Result<([OwnedFd; 3], Option<OwnedFd>)> {
    let input = match stdio {
        Stdio::Captured => File::open("/dev/null")?.into(),
        Stdio::Fed(text) => full_pipe(text)?,
        Stdio::Given([input, output, error]) => {
            let stdio = [input.try_clone()?, output.try_clone()?, error.try_clone()?];
            return Ok((stdio, None));
        }
    };
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok(([input, theirs.try_clone()?, theirs], Some(ours)))
}

/// The end of a pipe from which a text can be read, and then its end.
fn full_pipe(text: &str) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // What does not fit is an error: nobody reads yet.
    rustix::io::ioctl_fionbio(&writer, true)?;
    File::from(writer).write_all(text.as_bytes())?;
    Ok(reader)
}

pub(super) fn go(start: &OwnedFd) -> io::Result<()> {
    rustix::io::write(start, b"\n")?;
    Ok(())
}

pub(super) fn kill(pidfd: &OwnedFd) -> io::Result<Done> {
    let killed = match pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) => Done::Changed,
        Err(Errno::SRCH) => Done::Unchanged,
        Err(errno) => return Err(errno.into()),
    };
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        // Not a child, or waited for already.
        Ok(_) | Err(Errno::CHILD) => Ok(killed),
        Err(errno) => Err(errno.into()),
    }
}
