//! `tare-names`: answers names of containers for a container manager, and while that is restarted.

use std::process::ExitCode;

fn main() -> ExitCode {
    tare_names::program::main()
}
