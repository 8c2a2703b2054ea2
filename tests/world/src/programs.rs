//! Programs of the host that are asked what there is.

use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a program and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    feed(program, arguments, b"")
}

/// The same with a program that reads `input`.
pub(crate) fn feed(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    child.stdin.take().expect("it is a pipe").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it is our child");
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}
