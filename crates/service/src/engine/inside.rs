//! What has to be known of a root file system before its container starts, and what is put into it.
//!
//! It is hostile: everything is resolved inside of it, and no more is read than is needed.

use std::fs;
use std::path::Path;

use tare_specgen::{
    BaseHosts, Effective, Link, MAX_HOSTS_FILE, MountSource, MountTarget, Placement, RootfsFacts,
    RootfsFile, SeenAt, Timezone, ZoneName, seen_at,
};
use tare_storage::{Kind, NewEntry, Rootfs};

use super::bundle::MAX_ACCOUNTS;
use super::mount::{Problem, Source, resolved};

/// Where zones are, on the host and in an image.
const ZONES: &str = "/usr/share/zoneinfo";
/// A zone file larger than this is none.
const MAX_ZONE: usize = 1 << 20;

/// Reads what is needed of a root file system.
pub(super) fn facts(
    rootfs: &Rootfs,
    effective: &Effective,
    sources: &[Source],
) -> Result<RootfsFacts, Problem> {
    let request = &effective.request;
    let mut facts = RootfsFacts::default();
    facts.passwd = accounts(rootfs, effective, sources, "/etc/passwd")?;
    facts.group = accounts(rootfs, effective, sources, "/etc/group")?;
    if request.base_hosts == BaseHosts::Image {
        facts.hosts = rootfs.read_file("/etc/hosts", MAX_HOSTS_FILE)?;
    }
    facts.has_zone = match &request.timezone {
        None => false,
        Some(zone) => match name(zone) {
            None => false,
            Some(name) => is_regular(rootfs, &format!("{ZONES}/{name}"))?,
        },
    };
    facts.lacks_mtab = rootfs.is_dir("/etc")? && rootfs.stat_link("/etc/mtab")?.is_none();
    facts.resolved = resolved(rootfs, &request.mounts, sources)?;
    Ok(facts)
}

/// A file of accounts, from the mount that hides that of the root file system if there is one: none, if what is
/// mounted is the host's and nobody may look at it.
fn accounts(
    rootfs: &Rootfs,
    effective: &Effective,
    sources: &[Source],
    path: &str,
) -> Result<Option<Vec<u8>>, tare_storage::Error> {
    let Ok(target) = path.parse() else { return Ok(None) };
    if let SeenAt::Mount(mount, rest) = seen_at(effective, &target) {
        if let Some(source) = sources.iter().find(|source| source.target == mount.target) {
            return source.read(rest, MAX_ACCOUNTS);
        }
        if matches!(mount.source, MountSource::Host(_)) {
            return Ok(None);
        }
    }
    rootfs.read_file(path, MAX_ACCOUNTS)
}

fn is_regular(rootfs: &Rootfs, path: &str) -> Result<bool, tare_storage::Error> {
    Ok(rootfs.stat(path)?.is_some_and(|stat| stat.kind == Kind::Regular))
}

/// The name of a time zone, which for the host's own is found out.
fn name(zone: &Timezone) -> Option<ZoneName> {
    match zone {
        Timezone::Named(name) => Some(name.clone()),
        _ => local_zone(),
    }
}

fn local_zone() -> Option<ZoneName> {
    let link = fs::canonicalize("/etc/localtime").ok()?;
    link.strip_prefix(ZONES).ok()?.to_str()?.parse().ok()
}

/// What the host has of the time zone, for images that have none.
pub(super) fn place_zone(effective: &Effective, placement: &mut Placement) {
    let Some(zone) = &effective.request.timezone else { return };
    let file = match zone {
        Timezone::Named(name) => Path::new(ZONES).join(name.as_str()),
        _ => "/etc/localtime".into(),
    };
    placement.local_zone = local_zone();
    // Named zones have neither `..` nor an empty part; what is there is root's.
    let is_small = |file: &Path| {
        fs::metadata(file).is_ok_and(|it| it.is_file() && it.len() <= MAX_ZONE as u64)
    };
    placement.zone_file = is_small(&file).then(|| fs::read(&file).ok()).flatten();
}

/// The host's `/etc/hosts`, if the container's begins with it.
pub(super) fn host_hosts(effective: &Effective) -> Option<Vec<u8>> {
    let wanted = effective.request.base_hosts == BaseHosts::Host;
    wanted.then(|| fs::read("/etc/hosts").ok()).flatten()
}

/// Writes files into a root file system, for its root, who may be somebody else on the host; tells those that
/// cannot be written, since something else is there.
pub(super) fn write(
    rootfs: &Rootfs,
    files: &[RootfsFile],
    (uid, gid): (u32, u32),
) -> Result<Vec<MountTarget>, tare_storage::Error> {
    let mut left = Vec::new();
    for RootfsFile { path, content, mode, .. } in files {
        // An image may be a single program.
        if let Some((above, _)) = path.as_str().rsplit_once('/')
            && !above.is_empty()
        {
            rootfs.make_directories(above, NewEntry { uid, gid, ..NewEntry::DIRECTORY })?;
        }
        let new = NewEntry { uid, gid, mode: *mode };
        if rootfs.replace_file(path.as_str(), new, content)?.is_none() {
            left.push(path.clone());
        }
    }
    Ok(left)
}

/// Makes links of root in a root file system, in place of a file but not of a directory.
pub(super) fn link(
    rootfs: &Rootfs,
    links: &[Link],
    root: (u32, u32),
) -> Result<(), tare_storage::Error> {
    for Link { path, to, .. } in links {
        match rootfs.stat_link(path.as_str())? {
            Some(stat) if stat.kind == Kind::Directory => continue,
            Some(_) if rootfs.read_link(path.as_str())?.is_some_and(|it| it == to.as_str()) => {
                continue;
            }
            Some(_) => drop(rootfs.remove(path.as_str())?),
            None => {}
        }
        rootfs.make_symlink_of(path.as_str(), to, root)?;
    }
    Ok(())
}
