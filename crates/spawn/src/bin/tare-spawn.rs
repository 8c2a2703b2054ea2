//! `tare-spawn`: starts conmon and OCI runtimes for a container manager that is sandboxed itself.

use std::process::ExitCode;

fn main() -> ExitCode {
    tare_spawn::daemon::main()
}
