//! Ending with one's parent.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Makes the child get SIGKILL when the *thread* that starts it ends: start it from one that lives
/// as long as the daemon. See `PR_SET_PDEATHSIG(2const)`.
///
/// A bus that is asked to end takes its socket away when it comes to that; by then the next daemon may have
/// one of that name.
pub(super) fn end_with_parent(command: &mut Command) -> &mut Command {
    let ask = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call and touches no memory of
    // the parent, so it is safe in a child of a process with several threads.
    unsafe { command.pre_exec(ask) }
}
