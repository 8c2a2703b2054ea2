//! `tared`, but it asks before every effect.

use std::process::ExitCode;

fn main() -> ExitCode {
    tare_service::fault::set_hook(|part, effect| fault_tests::ask_whoever_listens(part, effect));
    tare_service::daemon::main()
}
