//! Where the targets of a container's mounts are: in its root file system, or in what is mounted above them.

use std::collections::BTreeMap;

use tare_specgen::{MountRequest, MountSource, MountTarget};
use tare_storage::{Error, Rootfs};

use super::Source;

/// As many links are followed as by the kernel.
const MOST_LINKS: usize = 40;
/// A mount can be on what a link leads to by way of another mount, and so on; real ones need two.
const MOST_ROUNDS: usize = 8;

/// Why a mount is not made.
#[derive(Debug)]
pub(in crate::engine) enum Problem {
    /// It cannot be known where it would be.
    Storage(Error),
    /// It would be where none may be.
    Target {
        /// What was asked for.
        asked: MountTarget,
        /// Where that leads.
        leads_to: String,
    },
}

impl From<Error> for Problem {
    fn from(source: Error) -> Self {
        Self::Storage(source)
    }
}

/// The targets that lead elsewhere, and where.
///
/// Links of the image are followed. What is below another mount is in that: the image's own there is hidden, and a
/// link of whoever has made it is not followed, who could lead the mount to where the request has none.
pub(in crate::engine) fn resolved(
    rootfs: &Rootfs,
    mounts: &[MountRequest],
    sources: &[Source],
) -> Result<BTreeMap<MountTarget, MountTarget>, Problem> {
    let mut found: Vec<String> = mounts.iter().map(|it| it.target.to_string()).collect();
    for _ in 0..MOST_ROUNDS {
        let now = places(rootfs, mounts, sources, &found)?;
        if now == found {
            return named(mounts, found);
        }
        found = now;
    }
    match mounts.first() {
        Some(mount) => Err(refused(mount, "mounts that lead to each other".into())),
        None => Ok(BTreeMap::new()),
    }
}

/// Where all are, if they are where `before` says.
fn places(
    rootfs: &Rootfs,
    mounts: &[MountRequest],
    sources: &[Source],
    before: &[String],
) -> Result<Vec<String>, Problem> {
    let of_target: BTreeMap<_, _> = sources.iter().map(|it| (&it.target, it)).collect();
    let all = mounts.iter().zip(before).map(|(mount, place)| {
        (place.as_str(), Above { mount, source: of_target.get(&mount.target).copied() })
    });
    let all = all.collect();
    mounts.iter().map(|mount| place(rootfs, mount, &all)).collect()
}

/// A mount that another one may be below.
struct Above<'a> {
    mount: &'a MountRequest,
    /// If there is something of it already.
    source: Option<&'a Source>,
}

impl Above<'_> {
    /// Whether it has a link at `rest`, which is `whole` in the container.
    fn has_link(&self, rootfs: &Rootfs, rest: &str, whole: &str) -> Result<bool, Error> {
        match (self.source, &self.mount.source) {
            (Some(source), _) => source.has_link(rest),
            // Of a new volume, or of memory, it is known what it begins as.
            (None, MountSource::Volume { .. }) => Ok(rootfs.read_link(whole)?.is_some()),
            (None, MountSource::Tmpfs) if copies_up(self.mount) => {
                Ok(rootfs.read_link(whole)?.is_some())
            }
            _ => Ok(false),
        }
    }
}

fn copies_up(mount: &MountRequest) -> bool {
    mount.options.iter().all(|option| option.to_string() != "notmpcopyup")
}

/// Where one of them is.
fn place(
    rootfs: &Rootfs,
    mount: &MountRequest,
    all: &BTreeMap<&str, Above<'_>>,
) -> Result<String, Problem> {
    let parts = |path: &str| path.rsplit('/').map(str::to_owned).collect::<Vec<_>>();
    let (mut ahead, mut at, mut links) = (parts(mount.target.as_str()), String::new(), 0);
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            part => at = format!("{at}/{part}"),
        }
        match around(all, &at, mount) {
            // What is mounted there is no link.
            Some((_, "")) => {}
            Some((other, rest)) => {
                if other.has_link(rootfs, rest, &at)? {
                    return Err(refused(mount, format!("{at}, a link in what is mounted there")));
                }
            }
            None => {
                let Some(to) = rootfs.read_link(&at)? else { continue };
                links += 1;
                let Some(to) = to.to_str().filter(|_| links <= MOST_LINKS) else {
                    return Err(refused(mount, format!("{at}, a link that ends nowhere")));
                };
                at.truncate(if to.starts_with('/') { 0 } else { at.rfind('/').unwrap_or(0) });
                ahead.extend(parts(to));
            }
        }
    }
    Ok(if at.is_empty() { "/".to_owned() } else { at })
}

/// The innermost other mount that a place is in, and where in it.
fn around<'a, 'p>(
    all: &'a BTreeMap<&str, Above<'a>>,
    at: &'p str,
    but: &MountRequest,
) -> Option<(&'a Above<'a>, &'p str)> {
    let ends = at.match_indices('/').map(|(end, _)| end).chain([at.len()]);
    let places: Vec<_> = ends.filter(|end| *end > 0).collect();
    places.into_iter().rev().find_map(|end| {
        let other = all.get(&at[..end]).filter(|other| other.mount.target != but.target)?;
        Some((other, at[end..].trim_start_matches('/')))
    })
}

fn refused(mount: &MountRequest, leads_to: String) -> Problem {
    Problem::Target { asked: mount.target.clone(), leads_to }
}

/// Those of them that are not where they were asked for.
fn named(
    mounts: &[MountRequest],
    found: Vec<String>,
) -> Result<BTreeMap<MountTarget, MountTarget>, Problem> {
    let elsewhere = mounts.iter().zip(found).filter(|(it, place)| it.target.as_str() != place);
    let named = elsewhere.map(|(mount, place)| match place.parse() {
        Ok(target) => Ok((mount.target.clone(), target)),
        Err(_) => Err(refused(mount, place)),
    });
    named.collect()
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
