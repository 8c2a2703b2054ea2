//! Prints the world of a machine on which the service is installed, a line for each thing: to be
//! kept, and compared with a later one by diff(1).
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use host_world::{Scope, World};

fn main() {
    print!("{}", World::capture(&Scope::of_installed_service()));
}
