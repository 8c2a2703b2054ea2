//! Attaching to a container that runs, or waits to be let run.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::launch::read_small;
use crate::relay::Relay;
use crate::step::{Done, Step};
use crate::sys::unblocked;
use crate::undo::{failed, run};
use crate::{
    Attach, AttachedStreams, Cause, ContainerId, Error, Layout, MAX_ATTACHED, Refusal, Settings,
};

/// Most that are attached to any container; each has a thread.
const MOST: usize = 512;

/// How long a conmon may take to notice that somebody has attached.
const NOTICE: Duration = Duration::from_secs(1);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(1);

/// How many are attached to each container.
#[derive(Debug, Default)]
pub(super) struct Attached {
    to: Mutex<HashMap<ContainerId, usize>>,
    /// Held by whoever is attaching.
    attaching: Mutex<()>,
}

/// One that is, until this is dropped.
#[derive(Debug)]
struct Slot {
    among: Arc<Attached>,
    to: ContainerId,
}

impl Attached {
    fn take(attached: &Arc<Self>, to: &ContainerId) -> Result<Slot, Refusal> {
        let mut all = attached.lock();
        let ours = all.get(to).copied().unwrap_or(0);
        if ours >= MAX_ATTACHED || all.values().sum::<usize>() >= MOST {
            return Err(Refusal::TooManyAttached);
        }
        all.insert(to.clone(), ours + 1);
        Ok(Slot { among: attached.clone(), to: to.clone() })
    }

    /// Returns when conmon has noticed: it does other things before it takes a second caller, such as
    /// to pass on what the container writes.
    fn connect(&self, layout: &Layout<'_>) -> Result<OwnedFd, Cause> {
        let _alone = self.attaching.lock().unwrap_or_else(PoisonError::into_inner);
        let conmon = read_small(&layout.supervisor_pid()).unwrap_or_default();
        let before = sockets_of(&conmon);
        let connection = connect(layout)?;
        let end = Instant::now() + NOTICE;
        while sockets_of(&conmon) <= before && Instant::now() < end {
            thread::sleep(LOOK);
        }
        Ok(connection)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, usize>> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut all = self.among.lock();
        match all.get_mut(&self.to) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(&self.to)),
        }
    }
}

/// A thread of its own passes on from here; it ends when either side has.
pub(super) fn attach(
    settings: &Settings,
    attached: &Arc<Attached>,
    request: &Attach,
    init: BorrowedFd<'_>,
    streams: AttachedStreams,
) -> Result<(), Error> {
    let attach = || -> Result<(), Cause> {
        let target = &request.target;
        let slot = Attached::take(attached, &target.id).map_err(Cause::Refused)?;
        let init = init.try_clone_to_owned();
        let init = init.map_err(|source| failed(&"copy a descriptor", source))?;
        let [input, output, error] = streams;
        let input = usable(input, OFlags::RDONLY)?;
        let outputs = [usable(output, OFlags::WRONLY)?, usable(error, OFlags::WRONLY)?];
        let layout = Layout::new(&settings.run_dir, &target.id, target.incarnation);
        let relay = Relay::new(attached.connect(&layout)?, init, request.stdin, input, outputs);
        let pass_on = move || {
            if let Err(error) = relay.run() {
                tracing::warn!(container_id = slot.to.as_str(), "cannot pass on: {error}");
            }
            drop(slot);
        };
        let thread = thread::Builder::new().name("attached".into()).spawn(pass_on);
        thread.map(drop).map_err(|source| failed(&"start a thread", source))
    };
    attach().map_err(|cause| Error::Attach { id: request.target.id.clone(), cause })
}

/// How many sockets a process has.
fn sockets_of(pid: &str) -> usize {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{}/fd", pid.trim())) else { return 0 };
    let links = fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.filter(|to| to.as_os_str().as_bytes().starts_with(b"socket:")).count()
}

/// The end of a pipe that somebody has given; nothing if there is nobody at the other one any more.
fn usable(pipe: Option<OwnedFd>, mode: OFlags) -> Result<Option<File>, Cause> {
    let Some(pipe) = pipe else { return Ok(None) };
    unblocked(&pipe, mode).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => Cause::Refused(Refusal::NoPipe),
        _ => failed(&"use a pipe", source),
    })
}

fn connect(layout: &Layout<'_>) -> Result<OwnedFd, Cause> {
    match run(&Step::Attach(layout.bundle())) {
        Ok(Done::Fd(socket)) => Arc::into_inner(socket)
            .ok_or_else(|| failed(&"attach", io::Error::other("the connection is shared"))),
        Ok(other) => unreachable!("attaching gave {other:?}"),
        Err(Cause::Step { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Err(Cause::Gone)
        }
        Err(cause) => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_keeps_others_from_attaching() {
        let attached = Arc::<Attached>::default();
        let id = |digit: char| -> ContainerId {
            digit.to_string().repeat(ContainerId::LEN).parse().unwrap()
        };
        let take = |digit| Attached::take(&attached, &id(digit));
        let mut greedy: Vec<_> = (0..MAX_ATTACHED).map(|_| take('a').unwrap()).collect();
        assert_eq!(take('a').unwrap_err(), Refusal::TooManyAttached);
        drop(take('b').unwrap());
        greedy.pop();
        greedy.push(take('a').unwrap());
        drop(greedy);
        assert!(attached.lock().is_empty());
    }
}
