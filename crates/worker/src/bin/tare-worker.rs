//! Speaks with a registry for a container manager.

use std::process::ExitCode;

fn main() -> ExitCode {
    tare_worker::program::main()
}
