//! `tare-spawn`, but it asks before every effect.

use std::process::ExitCode;

fn main() -> ExitCode {
    tare_spawn::fault::set_hook(|effect| fault_tests::ask_whoever_listens("spawn", effect));
    tare_spawn::daemon::main()
}
