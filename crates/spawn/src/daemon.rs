//! The program `tare-spawn`: starts conmon and OCI runtimes for a container manager that is sandboxed
//! itself.
//!
//! It hands on what it has to all it starts, so it has to be started without a sandbox. It keeps
//! nothing: it can be restarted at any time, and containers do not notice.

#[expect(unsafe_code, reason = "descriptors that were handed over")]
mod sys;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rustix::fs::Mode;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tracing::level_filters::LevelFilter;

use crate::{Listener, Local, Server, Settings};

/// Starts conmon and OCI runtimes for a container manager that is sandboxed itself.
///
/// Listens on the socket that systemd hands over, if it does.
#[derive(Debug, Parser)]
#[command(name = "tare-spawn", version)]
struct Arguments {
    /// Where to listen. Root alone can connect.
    #[arg(long, value_name = "PATH", default_value = "/run/tare/spawn.sock")]
    socket: PathBuf,
    /// Where the manager keeps everything that dies with the boot.
    #[arg(long, value_name = "DIR", default_value = "/run/tare")]
    run_dir: PathBuf,
    /// What to log: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What `tare-spawn` does.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The journal has times of its own.
    tracing_subscriber::fmt()
        .with_max_level(arguments.log_level)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .init();
    // Containers inherit it, and what their runtime makes in them has to be readable.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            tracing::error!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Before anybody is told that it is ready: from then on it can be asked to end.
    let stop = stop_signal()?;
    let local = Local::new(Settings::find(&arguments.run_dir)?);
    local.adopt_orphans()?;
    let listener = match sys::inherited_socket()? {
        Some(socket) => Listener::inherited(socket)?,
        None => Listener::bind(&arguments.socket)?,
    };
    let server = Server::new(Box::new(local), &arguments.run_dir);
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;
    tracing::info!("ready");
    server.serve(listener, stop.as_fd())?;
    tracing::info!("ended; containers go on");
    Ok(())
}

/// A descriptor that can be read from when this process is asked to end.
///
/// Not a blocked signal: all programs started here would have it blocked, too.
fn stop_signal() -> std::io::Result<UnixStream> {
    let (stop, asked) = UnixStream::pair()?;
    pipe::register(SIGTERM, asked.try_clone()?)?;
    pipe::register(SIGINT, asked)?;
    Ok(stop)
}
