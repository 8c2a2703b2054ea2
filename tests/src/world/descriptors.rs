//! What daemons have open.

use std::fs;
use std::path::{Path, PathBuf};

use super::names_in;
use super::processes::{Process, command_line};
use super::things::Things;

/// The open descriptors of `daemons`, by what they point to.
///
/// Not by their numbers, nor by those of sockets, pipes and processes: a daemon that was started
/// anew, or that closed one socket and opened another, is in the same state. Two of the same are
/// two.
pub(super) fn of<'p>(daemons: impl Iterator<Item = &'p Process>) -> Things {
    let of_one = |daemon: &Process| {
        let dir = PathBuf::from(format!("/proc/{}/fd", daemon.pid));
        // One that is closed while we look is not there.
        let open = |number: &String| {
            fs::read_link(dir.join(number)).ok().map(|to| describe(daemon.pid, number, &to))
        };
        names_in(&dir).iter().filter_map(open).collect::<Vec<_>>()
    };
    daemons.flat_map(of_one).map(|name| (name, String::new())).collect()
}

fn describe(pid: i32, number: &str, to: &Path) -> String {
    let text = to.to_string_lossy();
    let without_inode = text.split(":[").next().unwrap_or(&text);
    match without_inode {
        "anon_inode" if text.contains("pidfd") => pidfd(pid, number),
        "pidfd" => pidfd(pid, number),
        "anon_inode" => text.trim_start_matches("anon_inode:").trim_matches(['[', ']']).into(),
        "socket" | "pipe" => without_inode.into(),
        "net" => "network namespace".into(),
        "mnt" => "mount namespace".into(),
        _ => text.into_owned(),
    }
}

/// A pidfd by the process it is for: `fdinfo` has its number, or -1 after its end.
fn pidfd(pid: i32, number: &str) -> String {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    let process = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    match process {
        Some(process @ 1..) => format!("pidfd of {process}, {}", command_line(process)),
        _ => "pidfd of a process that is gone".into(),
    }
}
