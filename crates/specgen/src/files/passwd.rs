//! What is added to the container's `/etc/passwd` and `/etc/group` for a user that is not in them.

use std::fmt::Write;

use super::{BoundFile, Maker, RootfsFile};
use crate::accounts;
use crate::effective::Effective;
use crate::facts::{Placement, RootfsFacts};
use crate::mount::{MountRequest, MountSource, MountTarget};
use crate::request::RootfsAccess;
use crate::text::switch;
use crate::user::ResolvedUser;
use crate::warning::Warning;

switch! {
    /// Whether a user that is not in the account files is added to them.
    PasswdEntry,
    /// It is not.
    false => No,
    /// It is.
    true => Add,
    default Add
}

/// Where a file of the container really is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeenAt<'a> {
    /// In its root file system.
    Rootfs,
    /// In what is mounted there: what remains of the path below that, empty for the thing itself.
    Mount(&'a MountRequest, &'a str),
}

/// Where a path of the container leads, through the mounts that were asked for: whoever reads
/// `/etc/passwd` for [`RootfsFacts`] reads it there, and never below the root (B29).
pub fn seen_at<'a>(effective: &'a Effective, path: &'a MountTarget) -> SeenAt<'a> {
    let below = |mount: &'a MountRequest| {
        let rest = path.as_str().strip_prefix(mount.target.as_str())?;
        match rest.strip_prefix('/') {
            Some(rest) => Some((mount, rest)),
            None => rest.is_empty().then_some((mount, rest)),
        }
    };
    // The deepest counts: it is mounted last.
    let deepest = effective.request.mounts.iter().filter_map(below).min_by_key(|(_, r)| r.len());
    deepest.map_or(SeenAt::Rootfs, |(mount, rest)| SeenAt::Mount(mount, rest))
}

/// The account files as they are to be: written into a root file system that can be written to, so
/// that `useradd` works there, else bound (B5).
pub(crate) fn files(
    effective: &Effective,
    user: &ResolvedUser,
    rootfs: &RootfsFacts,
    placement: &Placement,
    warnings: &mut Vec<Warning>,
) -> (Vec<RootfsFile>, Vec<BoundFile>) {
    if effective.request.passwd_entry == PasswdEntry::No {
        return (Vec::new(), Vec::new());
    }
    let make = Maker::new(effective, placement);
    let (mut written, mut bound) = (Vec::new(), Vec::new());
    for (name, target, content) in [
        ("passwd", "/etc/passwd", passwd(user, rootfs)),
        ("group", "/etc/group", group(user, rootfs)),
    ] {
        let content = match content {
            Addition::None => None,
            Addition::Line(content) => Some(content),
            Addition::NameTaken(id) => {
                warnings.push(Warning::AccountNameTaken { file: target, id });
                None
            }
        };
        let path = MountTarget::known(target);
        let ours = writable_at(effective, &path);
        match (content, ours) {
            (Some(content), Ours::Write) => written.push(RootfsFile { path, content, mode: 0o644 }),
            (Some(content), Ours::Bind) => bound.push(make.file(name, target, content)),
            (None, _) | (_, Ours::Leave) => {}
        }
    }
    (written, bound)
}

enum Ours {
    Write,
    Bind,
    Leave,
}

/// What somebody mounted there is theirs, but for memory, which begins as a copy.
fn writable_at(effective: &Effective, path: &MountTarget) -> Ours {
    match (seen_at(effective, path), effective.request.rootfs_access) {
        (SeenAt::Rootfs, RootfsAccess::ReadWrite) => Ours::Write,
        (SeenAt::Rootfs, RootfsAccess::ReadOnly) => Ours::Bind,
        (SeenAt::Mount(mount, _), _) if mount.source == MountSource::Tmpfs => Ours::Bind,
        (SeenAt::Mount(..), _) => Ours::Leave,
    }
}

/// What becomes of a file.
enum Addition {
    /// It has all that it needs.
    None,
    /// It is to be this, with one more line.
    Line(Vec<u8>),
    /// Another account has this number as its name: who looks that up would be the one by one way, and the other
    /// by another.
    NameTaken(u32),
}

fn passwd(user: &ResolvedUser, rootfs: &RootfsFacts) -> Addition {
    let file = rootfs.passwd.as_deref().unwrap_or_default();
    let ResolvedUser { uid, gid, home, .. } = user;
    if *uid == 0 || accounts::users(file).any(|entry| entry.uid == *uid) {
        return Addition::None;
    }
    if accounts::users(file).any(|entry| entry.name == uid.to_string().as_bytes()) {
        return Addition::NameTaken(*uid);
    }
    // "*" and not "x": there is no line in /etc/shadow, and nobody is to log in.
    Addition::Line(with_line(file, |line| {
        let _ = writeln!(line, "{uid}:*:{uid}:{gid}:container user:{home}:/bin/sh");
    }))
}

fn group(user: &ResolvedUser, rootfs: &RootfsFacts) -> Addition {
    let file = rootfs.group.as_deref().unwrap_or_default();
    let (uid, gid) = (user.uid, user.gid);
    if gid == 0 || accounts::groups(file).any(|entry| entry.gid == gid) {
        return Addition::None;
    }
    if accounts::groups(file).any(|entry| entry.name == gid.to_string().as_bytes()) {
        return Addition::NameTaken(gid);
    }
    Addition::Line(with_line(file, |line| {
        let _ = writeln!(line, "{gid}:x:{gid}:{uid}");
    }))
}

/// A file and one more line, which does not run into the last one (B21).
fn with_line(file: &[u8], write: impl FnOnce(&mut String)) -> Vec<u8> {
    let mut line = String::new();
    if file.last().is_some_and(|byte| *byte != b'\n') {
        line.push('\n');
    }
    write(&mut line);
    [file, line.as_bytes()].concat()
}
