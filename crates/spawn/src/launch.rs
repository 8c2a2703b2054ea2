use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::CgroupPath;

/// A descriptor that several steps may need.
pub(crate) type Fd = Arc<OwnedFd>;

/// How long a call of a runtime may take: runc itself gives a killed container ten seconds.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How much of the end of a program's output is kept, in bytes.
const MAX_OUTPUT: usize = 16 << 10;

/// A program to run, as plain data.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(&'static str, OsString)>,
    pub(crate) cwd: PathBuf,
    pub(crate) stdio: Stdio,
    /// What becomes descriptors 3, 4, ... of the program.
    pub(crate) fds: Vec<Fd>,
    /// Where it begins; else where we are.
    pub(crate) group: Option<Group>,
}

/// A control group that is there.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The root of its hierarchy.
    pub(crate) root: Fd,
    pub(crate) path: CgroupPath,
}

/// Standard input, output and error of a program.
#[derive(Clone, Debug)]
pub(crate) enum Stdio {
    /// No input; output and error are kept, as far as [`MAX_OUTPUT`] goes.
    Captured,
    /// This as input, which fits into a pipe; output and error as with [`Captured`](Self::Captured).
    Fed(String),
    /// These.
    Given([Fd; 3]),
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())
    }
}

/// A direct child that has not been waited for.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) pidfd: Fd,
    pub(crate) output: Option<OwnedFd>,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; `None` if a signal killed it.
    pub(crate) code: Option<i32>,
    /// The end of what it printed.
    pub(crate) output: Vec<u8>,
}

impl Finished {
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

/// A moment by which something must have happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    end: Instant,
    pub(crate) limit: Duration,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self { end: Instant::now() + limit, limit }
    }

    fn left(self) -> io::Result<Timespec> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Timespec::try_from(left).map_err(io::Error::other)
    }
}

/// Waits until one of `fds` can be read or has hung up; says which do.
pub(crate) fn wait_readable<const N: usize>(
    fds: [&OwnedFd; N],
    deadline: Deadline,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::IN));
    loop {
        match poll(&mut polled, Some(&deadline.left()?)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(polled.each_ref().map(|fd| !fd.revents().is_empty())),
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl Child {
    /// Waits for its end and reaps it, keeping the end of what it prints.
    ///
    /// Does not wait for the end of its output: grandchildren may hold that open for ever.
    pub(crate) fn finish(&mut self, deadline: Deadline) -> io::Result<Finished> {
        let mut output = Vec::new();
        while let Some(pipe) = &self.output {
            let [ended, readable] = wait_readable([&*self.pidfd, pipe], deadline)?;
            if readable && read_some(pipe, &mut output)? == Flow::Ended {
                self.output = None;
            } else if ended && !readable {
                break;
            }
        }
        wait_readable([&*self.pidfd], deadline)?;
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)?;
        Ok(Finished { code: status.and_then(|status| status.exit_status()), output })
    }
}

#[derive(PartialEq, Eq)]
enum Flow {
    GoesOn,
    Ended,
}

/// Reads once from a pipe that does not block, and keeps the end of the whole.
fn read_some(pipe: &OwnedFd, output: &mut Vec<u8>) -> io::Result<Flow> {
    let mut block = [0; 4096];
    match rustix::io::read(pipe, &mut block) {
        Ok(0) => return Ok(Flow::Ended),
        Ok(count) => output.extend_from_slice(&block[..count]),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    output.drain(..output.len().saturating_sub(MAX_OUTPUT));
    Ok(Flow::GoesOn)
}

/// Reads one line from a pipe, without its line feed; less if the pipe ends or `max` is reached.
pub(crate) fn read_line(pipe: &OwnedFd, max: usize, deadline: Deadline) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while line.len() < max {
        wait_readable([pipe], deadline)?;
        let mut block = [0; 4096];
        let count = match rustix::io::read(pipe, &mut block) {
            Ok(0) => break,
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        line.extend_from_slice(&block[..count]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            break;
        }
    }
    Ok(line)
}

/// Reads a small file, such as one with a pid.
pub(crate) fn read_small(path: &std::path::Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(64).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Done, Step};
    use crate::sys;

    fn start(script: &str) -> Child {
        start_with(script, Stdio::Captured)
    }

    fn start_with(script: &str, stdio: Stdio) -> Child {
        let launch = Launch {
            program: "/bin/sh".into(),
            args: ["-c", script].map(Into::into).into(),
            env: vec![("PATH", "/usr/bin:/bin".into())],
            cwd: "/".into(),
            stdio,
            fds: vec![],
            group: None,
        };
        match sys::run(&Step::Launch(launch)).unwrap() {
            Done::Child(child) => child,
            other => panic!("{other:?}"),
        }
    }

    fn finish(script: &str) -> Finished {
        start(script).finish(Deadline::after(Duration::from_secs(20))).unwrap()
    }

    #[test]
    fn the_end_of_the_output_is_kept() {
        let finished = finish("echo out; echo err >&2; exit 3");
        assert_eq!(finished.code, Some(3));
        assert_eq!(finished.output, b"out\nerr\n");
        let finished = finish("head -c 300000 /dev/zero; echo end");
        assert_eq!(finished.output.len(), MAX_OUTPUT);
        assert!(finished.output.ends_with(b"end\n"));
        assert_eq!(finish("kill -9 $$").code, None);
    }

    #[test]
    fn what_is_fed_is_read_to_its_end() {
        let text = "a line\n".repeat(crate::MAX_PROFILE / 7);
        let mut child = start_with("cat", Stdio::Fed(text.clone()));
        let finished = child.finish(Deadline::after(Duration::from_secs(20))).unwrap();
        assert_eq!(finished.output, text.as_bytes());
    }

    #[test]
    fn the_environment_is_scrubbed() {
        let finished = finish("env");
        let text = String::from_utf8(finished.output).unwrap();
        let ours = text.lines().filter(|line| !line.starts_with(['_', 'P', 'S', 'O']));
        assert_eq!(ours.count(), 0, "{text}"); // PATH; the shell adds PWD, SHLVL, OLDPWD and _
        assert!(text.contains("PATH=/usr/bin:/bin\n"), "{text}");
    }

    #[test]
    fn a_grandchild_that_keeps_the_output_open_is_not_waited_for() {
        let begun = Instant::now();
        assert_eq!(finish("sleep 10 & echo out").output, b"out\n");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let mut child = start("sleep 60");
        let error = child.finish(Deadline::after(Duration::from_millis(30))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let kill = Step::Kill { pid: child.pid, pidfd: child.pidfd.clone() };
        assert!(matches!(sys::run(&kill).unwrap(), Done::Changed));
        assert!(matches!(sys::run(&kill).unwrap(), Done::Unchanged), "reaped");
    }

    #[test]
    fn one_line_is_read_and_no_more_than_asked_for() {
        let deadline = Deadline::after(Duration::from_secs(20));
        let line = |script: &str, max| {
            let pipe = start(script).output.unwrap();
            read_line(&pipe, max, deadline).unwrap()
        };
        assert_eq!(line("printf 'one\\ntwo\\n'", 100), b"one");
        assert_eq!(line("printf unfinished", 100), b"unfinished");
        assert_eq!(line("true", 100), b"");
        assert!(line("head -c 300000 /dev/zero", 8192).len() <= 8192 + 4096);
    }
}
