//! The program `tare-worker`: speaks with a registry for a container manager.
//!
//! Its standard input is the connection to the manager. It keeps nothing, and ends with it.

mod answers;
mod bounds;
mod registry;
mod serve;
#[expect(unsafe_code, reason = "descriptors that the runtime waits for")]
mod sys;

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use clap::Parser;
use rustix::net::{SocketType, sockopt};

/// Speaks with a registry for a container manager, who is at the other end of its standard input.
///
/// tared starts it when an image is pulled or pushed, by tare-worker.socket where there is one.
#[derive(Debug, Parser)]
#[command(name = "tare-worker", version)]
struct Arguments {}

/// Threads that look up addresses and read files.
const BLOCKING: usize = 4;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What `tare-worker` does.
pub fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tare-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    // Before there is a second thread, which would keep what this one gives up.
    bounds::set()?;
    let manager = manager()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve::serve(manager));
    // Nobody waits any more for what is still being looked up or read.
    runtime.shutdown_background();
    Ok(served?)
}

/// Who is at the other end of the standard input.
fn manager() -> Result<OwnedFd, Failure> {
    let stdin = std::io::stdin();
    match sockopt::socket_type(&stdin) {
        Ok(SocketType::SEQPACKET) => Ok(stdin.as_fd().try_clone_to_owned()?),
        _ => Err("nobody who asks is at its standard input: tared starts it".into()),
    }
}
