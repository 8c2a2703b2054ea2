//! Attaching to a container that runs, or waits to be let run.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::slots::{Attached, Slot};
use crate::launch::read_small;
use crate::relay::Relay;
use crate::step::{Done, Step};
use crate::sys::unblocked;
use crate::undo::{failed, run};
use crate::{Attach, AttachedStreams, Cause, Error, Layout, Refusal, Settings};

/// How long a conmon may take to notice that somebody has attached.
const NOTICE: Duration = Duration::from_secs(1);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(1);

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
        let slot = Attached::take(attached, request).map_err(Cause::Refused)?;
        let init = init.try_clone_to_owned();
        let init = init.map_err(|source| failed(&"copy a descriptor", source))?;
        let [input, output, error] = streams;
        let input = usable(input, OFlags::RDONLY)?;
        let outputs = [usable(output, OFlags::WRONLY)?, usable(error, OFlags::WRONLY)?];
        let layout = Layout::new(&settings.run_dir, &target.id, target.incarnation);
        let relay = Relay::new(connect(&slot, &layout)?, init, request.stdin, input, outputs);
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

/// Returns when conmon has noticed: it does other things before it takes a second caller, such as to pass
/// on what the container writes.
fn connect(slot: &Slot, layout: &Layout<'_>) -> Result<OwnedFd, Cause> {
    let _alone = slot.alone();
    let conmon = read_small(&layout.supervisor_pid()).unwrap_or_default();
    let before = sockets_of(&conmon);
    let connection = connect_now(layout)?;
    let end = Instant::now() + NOTICE;
    while sockets_of(&conmon) <= before && Instant::now() < end {
        thread::sleep(LOOK);
    }
    Ok(connection)
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

fn connect_now(layout: &Layout<'_>) -> Result<OwnedFd, Cause> {
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
