//! User namespaces, as root.
#![expect(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` misses helpers")]

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use tare_spawn::{Cause, IdRange, Refusal, UserMap};

fn map(inside: u32) -> UserMap {
    let range = IdRange { inside, outside: 100_000, size: 10 };
    UserMap { uids: vec![range], gids: vec![IdRange { outside: 200_000, ..range }] }
}

/// Whether a process is in that user namespace.
fn is_populated(users: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let mut theirs = processes.filter_map(|process| fs::read_link(process.join("ns/user")).ok());
    theirs.any(|its| its == users)
}

#[test]
fn privileged_a_user_namespace_is_made_of_which_nothing_else_stays() {
    let world = crate::world();
    let users = world.spawner.make_users(&map(0)).unwrap();
    let link = fs::read_link(format!("/proc/self/fd/{}", users.as_raw_fd())).unwrap();
    assert!(link.to_str().unwrap().starts_with("user:["), "{link:?}");
    assert_ne!(link, fs::read_link("/proc/self/ns/user").unwrap());
    assert!(!is_populated(&link));

    let empty = UserMap { uids: Vec::new(), ..map(0) };
    let error = world.spawner.make_users(&empty).unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Refused(Refusal::IdMaps))), "{error:?}");
    // The kernel has the last word on what goes beyond the last id.
    let error = world.spawner.make_users(&map(u32::MAX - 1)).unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Step { .. })), "{error:?}");
}
