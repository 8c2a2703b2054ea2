//! `tared`: keeps OCI containers and is called over D-Bus.

use std::process::ExitCode;

fn main() -> ExitCode {
    tare_service::daemon::main()
}
