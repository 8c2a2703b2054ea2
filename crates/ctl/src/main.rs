//! `tarectl`: a client of the bus contract of `tared`.

mod attach;
mod checkpoint;
mod cli;
mod client;
mod commands;
mod env;
mod events;
mod exec;
mod files;
mod health;
mod ids;
mod images;
mod job;
mod look;
mod memory;
mod mount;
mod network;
mod output;
mod secret;
mod security;
mod terminal;
mod update;
mod volume;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use zbus::DBusError;

use cli::Arguments;

/// What every command ends with: the exit code, or why there is none.
type Outcome = Result<ExitCode, Failure>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The service, or the bus, said no.
    #[error("{0}")]
    Bus(#[from] zbus::Error),
    /// A job ended with an error; its log, if it may be read, says more.
    #[error("{message} ({name}){log}")]
    Job { name: String, message: String, log: String },
    /// A job was canceled.
    #[error("the job was canceled")]
    Canceled,
    /// Something of ours failed.
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// An option that cannot be.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// For `map_err`: what was being done.
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }

    /// The sentence for a person: busctl's form of an error, without the library's wrapping.
    fn sentence(&self) -> String {
        match self {
            Self::Bus(zbus::Error::MethodError(name, Some(message), _)) => {
                format!("{message} ({name})")
            }
            // The library knows the errors everybody knows by a type of its own.
            Self::Bus(zbus::Error::FDO(error)) => {
                format!("{} ({})", error.description().unwrap_or_default(), error.name())
            }
            other => other.to_string(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("cannot start"))
        .and_then(|runtime| runtime.block_on(commands::run(arguments)));
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "tarectl: {}", failure.sentence());
            ExitCode::FAILURE
        }
    }
}
