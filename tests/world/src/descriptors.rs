//! What daemons have open.

use std::fs;
use std::path::{Path, PathBuf};

use super::processes::{Process, command_line};
use super::sockets::Sockets;
use super::{Scope, names_in};

/// The open descriptors of `daemons`, by what they point to.
///
/// Not by their numbers, nor by those of sockets, pipes and processes: a daemon that was started
/// anew, or that closed one socket and opened another of that kind, is in the same state. Two of the same
/// are two.
pub(super) fn of<'p>(
    daemons: impl Iterator<Item = &'p Process>,
) -> impl Iterator<Item = (String, String)> {
    daemons.flat_map(|daemon| open_in(daemon.pid)).map(|name| (name, String::new()))
}

/// Those of this process that bear a mark, where the daemon is a library that it uses: what else it has
/// open is the business of other tests in it. So it is with its threads that are in a network namespace
/// that is the mark.
pub(super) fn own(scope: &Scope) -> impl Iterator<Item = (String, String)> {
    let marked = |dir: &str, link: fn(PathBuf) -> PathBuf| -> Vec<String> {
        let entries = names_in(Path::new(dir)).into_iter().map(|name| Path::new(dir).join(name));
        let links = entries.filter_map(|entry| fs::read_link(link(entry)).ok());
        let links = links.map(|to| to.to_string_lossy().into_owned());
        links.filter(|to| scope.bears_mark(to)).collect()
    };
    let mut found = Vec::new();
    if scope.daemons.is_empty() {
        found.extend(marked("/proc/self/fd", |fd| fd));
        let threads = marked("/proc/self/task", |thread| thread.join("ns/net")).into_iter();
        found.extend(threads.map(|network| format!("of a thread in {network}")));
    }
    found.into_iter().map(|name| (name, String::new()))
}

fn open_in(pid: i32) -> Vec<String> {
    let dir = PathBuf::from(format!("/proc/{pid}/fd"));
    // One that is closed while we look is not there.
    let open = |number: String| {
        let to = fs::read_link(dir.join(&number)).ok()?;
        Some((number, to))
    };
    let open: Vec<_> = names_in(&dir).into_iter().filter_map(open).collect();
    // After them, or the newest of them would not be among these.
    let sockets = Sockets::of(pid);
    open.iter().map(|(number, to)| describe(pid, number, to, &sockets)).collect()
}

fn describe(pid: i32, number: &str, to: &Path, sockets: &Sockets) -> String {
    let text = to.to_string_lossy();
    let without_inode = text.split(":[").next().unwrap_or(&text);
    match without_inode {
        "anon_inode" if text.contains("pidfd") => pidfd(pid, number),
        "pidfd" => pidfd(pid, number),
        "anon_inode" => text.trim_start_matches("anon_inode:").trim_matches(['[', ']']).into(),
        "socket" => sockets.name(&text),
        "pipe" => without_inode.into(),
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
