use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio as StdStdio};
use std::sync::Arc;

use command_fds::{CommandFdExt, FdMapping};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal,
    set_child_subreaper, waitid,
};

use crate::launch::{CALL_LIMIT, Child, Deadline, Finished, Launch, Stdio};
use crate::step::Done;

/// First descriptor a program gets beyond its standard ones.
const FIRST_FD: i32 = 3;

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
    let mut command = Command::new(&launch.program);
    command.args(&launch.args).env_clear().current_dir(&launch.cwd);
    command.envs(launch.env.iter().copied());
    // A Ctrl-C meant for the caller must not reach it.
    command.process_group(0);
    let output = connect(&mut command, &launch.stdio)?;
    hand_over(&mut command, launch)?;
    let mut child = command.spawn()?;
    // A child that was not waited for keeps its pid, so this is the right process.
    match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Child { pid: child.id(), pidfd: Arc::new(pidfd), output }),
        Err(errno) => {
            child.kill()?;
            child.wait()?;
            Err(errno.into())
        }
    }
}

/// Sets the standard descriptors; gives the end of the pipe that output can be read from.
fn connect(command: &mut Command, stdio: &Stdio) -> io::Result<Option<OwnedFd>> {
    match stdio {
        Stdio::Captured => {
            command.stdin(StdStdio::null());
            capture(command).map(Some)
        }
        Stdio::Fed(text) => {
            command.stdin(full_pipe(text)?);
            capture(command).map(Some)
        }
        Stdio::Given([input, output, error]) => {
            command.stdin(input.try_clone()?);
            command.stdout(output.try_clone()?).stderr(error.try_clone()?);
            Ok(None)
        }
    }
}

fn capture(command: &mut Command) -> io::Result<OwnedFd> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    command.stdout(theirs.try_clone()?).stderr(theirs);
    Ok(ours)
}

/// The end of a pipe from which a text can be read, and then its end.
fn full_pipe(text: &str) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // What does not fit is an error: nobody reads yet.
    rustix::io::ioctl_fionbio(&writer, true)?;
    File::from(writer).write_all(text.as_bytes())?;
    Ok(reader)
}

/// Makes `launch.fds` the descriptors 3, 4, ... and closes all above them on exec, also those that
/// other code of this process forgot to mark so.
fn hand_over(command: &mut Command, launch: &Launch) -> io::Result<()> {
    let mut mappings = Vec::new();
    for (child_fd, fd) in (FIRST_FD..).zip(&launch.fds) {
        mappings.push(FdMapping { parent_fd: fd.try_clone()?, child_fd });
    }
    let beyond = u32::try_from(mappings.len()).map_err(io::Error::other)? + FIRST_FD.unsigned_abs();
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    let close_beyond = move || {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        // SAFETY: marks descriptors only; close_range(2) is a plain system call.
        let answer = unsafe { libc::syscall(libc::SYS_close_range, beyond, u32::MAX, flags) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(close_beyond) };
    Ok(())
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
