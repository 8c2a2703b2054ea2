//! `tare-names`, but it asks before every effect.

use std::process::ExitCode;

fn main() -> ExitCode {
    tare_names::fault::set_hook(|effect| fault_tests::ask_whoever_listens("tare-names", effect));
    tare_names::program::main()
}
