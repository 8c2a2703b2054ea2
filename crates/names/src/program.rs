//! The program `tare-names`: answers names of containers for a container manager, and while that is
//! restarted.
//!
//! It needs no privilege: the manager makes the sockets, and tells it who is where. Nothing of that
//! is kept; the manager tells it again.

#[expect(unsafe_code, reason = "descriptors that were handed over")]
mod sys;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tracing::level_filters::LevelFilter;

use crate::{Daemon, effects};

/// Answers names of containers for a container manager, and while that is restarted.
///
/// Listens on the socket that systemd hands over.
#[derive(Debug, Parser)]
#[command(name = "tare-names", version)]
struct Arguments {
    /// The file that names the host's resolvers.
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// Make a socket there instead of having it handed over. Root alone can connect.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// What to log: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What `tare-names` does.
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
    let listener = match &arguments.socket {
        Some(path) => effects::listen_at(path)?,
        None => {
            sys::inherited_socket()?.ok_or("no socket was handed over: start tare-names.socket")?
        }
    };
    let mut daemon = Daemon::start(arguments.resolv_conf.clone())?;
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;
    tracing::info!("ready");
    daemon.serve(&listener, stop.as_fd())?;
    if let Some(path) = &arguments.socket {
        effects::remove_socket(path)?;
    }
    tracing::info!("ended");
    Ok(())
}

/// A descriptor that can be read from when this process is asked to end.
fn stop_signal() -> std::io::Result<UnixStream> {
    let (stop, asked) = UnixStream::pair()?;
    pipe::register(SIGTERM, asked.try_clone()?)?;
    pipe::register(SIGINT, asked)?;
    Ok(stop)
}
