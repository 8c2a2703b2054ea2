//! User namespaces of containers: which ids they have, and mounts that show owners as they do.
//!
//! On disk everything belongs to whom it belongs to in the container: in layers, in what it writes, in
//! volumes. Only mounts are mapped, so its ids can be others' when it has gone. The runtime makes the
//! namespace itself, and with it that of the network; mounts are mapped by one that is like it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::fd::OwnedFd;

use tare_spawn::{IdRange, Spawner, UserMap};
use tare_specgen::{IdMapping, NamespaceMode, Request};

use super::Error;
use super::blocking::brief;
use super::container::Container;
use super::records::durable::{RANGE_SIZE, UserRange};

/// Whose subordinate ids containers have.
pub(super) const OWNER: &str = "tare";
/// Which ids those are; see subuid(5).
const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";
/// A file of these that is larger is none.
const MAX_FILE: u64 = 1 << 20;
/// What is below this is the host's own, whatever the files say.
const FIRST: u32 = RANGE_SIZE;
/// The last id there is.
const LAST: u32 = u32::MAX - 1;

/// The ids of a container with a user namespace of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Users {
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
}

/// Whether a container has a user namespace of its own.
pub(super) fn are_own(request: &Request) -> bool {
    request.namespaces.user == NamespaceMode::Private
}

/// Whether it has to be given ids for that: nobody says which.
pub(super) fn are_wanted(request: &Request) -> bool {
    are_own(request) && request.uid_map.is_empty()
}

/// The maps of a range, of users and of groups.
pub(super) fn maps(range: UserRange) -> Result<[Vec<IdMapping>; 2], Error> {
    let map = |first| {
        let map = IdMapping::new(0, first, RANGE_SIZE);
        map.map(|map| vec![map]).map_err(|error| Error::Bug(error.to_string()))
    };
    Ok([map(range.uid)?, map(range.gid)?])
}

/// An error if the ids that a container was given are others' by now.
///
/// # Errors
///
/// [`Error::IdsTakenBack`], and those of [`Subordinate::read`].
pub(super) async fn check_given(container: &Container) -> Result<(), Error> {
    let Some(range) = container.users else { return Ok(()) };
    match brief(Subordinate::read).await? {
        ids if ids.have(range) => Ok(()),
        _ => Err(Error::IdsTakenBack(container.name())),
    }
}

impl Users {
    /// Those of a container that asks for this, and was given these; nothing if it has the host's.
    pub(super) fn of(request: &Request, given: Option<UserRange>) -> Result<Option<Self>, Error> {
        if !are_own(request) {
            return Ok(None);
        }
        if let [_, ..] = &*request.uid_map {
            let uids = request.uid_map.clone();
            let gids =
                if request.gid_map.is_empty() { uids.clone() } else { request.gid_map.clone() };
            return Ok(Some(Self { uids, gids }));
        }
        let range = given.ok_or_else(|| Error::Bug("a user namespace without ids".into()))?;
        let [uids, gids] = maps(range)?;
        Ok(Some(Self { uids, gids }))
    }

    /// Who root of the container and its group are on the host.
    pub(super) fn root(&self) -> (u32, u32) {
        let root = |map: &[IdMapping]| outside_of_root(map).unwrap_or_default();
        (root(&self.uids), root(&self.gids))
    }

    /// A user namespace to map mounts by.
    ///
    /// # Errors
    ///
    /// [`Error::Users`].
    pub(super) fn namespace(&self, spawner: &dyn Spawner) -> Result<OwnedFd, Error> {
        let map = UserMap { uids: with_host(&self.uids), gids: with_host(&self.gids) };
        spawner.make_users(&map).map_err(|source| Error::Users(Box::new(source)))
    }
}

fn outside_of_root(map: &[IdMapping]) -> Option<u32> {
    map.iter().find(|range| range.inside() == 0).map(|range| range.outside())
}

/// A map in which root of the host is, too, by an id that nobody has: else neither overlayfs nor the
/// service could make anything in what is mapped, before they give it to somebody.
fn with_host(map: &[IdMapping]) -> Vec<IdRange> {
    let range =
        |it: &IdMapping| IdRange { inside: it.inside(), outside: it.outside(), size: it.size() };
    let mut ranges: Vec<_> = map.iter().map(range).collect();
    if !map.iter().any(|range| range.outside() == 0) {
        let mut nobody = LAST;
        while let Some(taken) = ranges.iter().find(|it| is_in(nobody, it)) {
            nobody = taken.inside.saturating_sub(1);
        }
        ranges.push(IdRange { inside: nobody, outside: 0, size: 1 });
    }
    ranges
}

fn is_in(id: u32, range: &IdRange) -> bool {
    id.checked_sub(range.inside).is_some_and(|offset| offset < range.size)
}

/// The ids that containers may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subordinate {
    pub(super) uids: Vec<Range<u32>>,
    pub(super) gids: Vec<Range<u32>>,
}

impl Subordinate {
    /// Reads which they are by now.
    ///
    /// # Errors
    ///
    /// [`Error::NoSubordinateIds`] if there is not even one range, [`Error::Host`].
    pub(super) fn read() -> Result<Self, Error> {
        Ok(Self { uids: read(SUBUID)?, gids: read(SUBGID)? })
    }

    /// Whether what a container was given is still to be given to any.
    pub(super) fn have(&self, range: UserRange) -> bool {
        let among = |ids: &[Range<u32>], first: u32| {
            let is_in = |ids: &Range<u32>| ids.start <= first && first + (RANGE_SIZE - 1) < ids.end;
            ids.iter().any(is_in)
        };
        among(&self.uids, range.uid) && among(&self.gids, range.gid)
    }

    /// What a container would be given that is the first one.
    pub(super) fn first(&self) -> Option<UserRange> {
        let [uid, gid] = [&self.uids, &self.gids].map(|ids| ids.first().map(|ids| ids.start));
        Some(UserRange { uid: uid?, gid: gid? })
    }
}

fn read(path: &'static str) -> Result<Vec<Range<u32>>, Error> {
    let text = match File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            let read = file.take(MAX_FILE).read_to_string(&mut text);
            read.map_err(|source| Error::Host { what: "read the subordinate ids", source })?;
            text
        }
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(Error::Host { what: "read the subordinate ids", source }),
    };
    let ranges = ranges(&text);
    if ranges.is_empty() { Err(Error::NoSubordinateIds(path)) } else { Ok(ranges) }
}

/// Those of the owner in which a container has room. A line that is none is somebody else's.
fn ranges(text: &str) -> Vec<Range<u32>> {
    let range = |line: &str| {
        let mut parts = line.split(':');
        let (owner, start, count) = (parts.next()?, parts.next()?, parts.next()?);
        if owner != OWNER || parts.next().is_some() {
            return None;
        }
        let (start, count): (u32, u32) = (start.parse().ok()?, count.parse().ok()?);
        let end = start.saturating_add(count).min(LAST);
        Some(start.max(FIRST)..end)
    };
    let all = text.lines().filter_map(range);
    all.filter(|range| range.end.saturating_sub(range.start) >= RANGE_SIZE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(inside: u32, outside: u32, size: u32) -> IdMapping {
        IdMapping::new(inside, outside, size).unwrap()
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "there may be several")]
    fn subordinate_ids_are_those_of_the_owner_and_of_no_host() {
        let first = 1 << 20;
        for (text, want) in [
            ("", vec![]),
            ("root:1048576:65536\ntared:1048576:65536", vec![]),
            ("tare:1048576:65536", vec![first..first + RANGE_SIZE]),
            ("a:1:2\ntare:1048576:131072\n", vec![first..first + 2 * RANGE_SIZE]),
            ("tare:1048576:65535", vec![]),
            ("tare:0:65536", vec![]),
            ("tare:0:131072", vec![FIRST..2 * RANGE_SIZE]),
            ("tare:4294967295:65536\ntare:4294900000:4294967295", vec![4_294_900_000..LAST]),
            ("tare:x:65536\ntare:1048576\ntare:1048576:65536:1\ntare:-1:65536", vec![]),
        ] {
            assert_eq!(ranges(text), want, "{text:?}");
        }
    }

    #[test]
    fn ids_that_were_taken_back_are_nobodys_here() {
        let ids = |text: &str| ranges(text);
        let now = Subordinate { uids: ids("tare:200000:131072"), gids: ids("tare:300000:65536") };
        for (uid, gid, want) in [
            (200_000, 300_000, true),
            (200_000 + RANGE_SIZE, 300_000, true),
            (200_001 + RANGE_SIZE, 300_000, false),
            (199_999, 300_000, false),
            (200_000, 299_999, false),
        ] {
            assert_eq!(now.have(UserRange { uid, gid }), want, "{uid} {gid}");
        }
    }

    #[test]
    fn ids_are_as_asked_for_or_as_given() {
        let mut request = Request::default();
        let given = Some(UserRange { uid: 100_000, gid: 200_000 });
        assert_eq!(Users::of(&request, given).unwrap(), None);
        request.namespaces.user = NamespaceMode::Private;
        assert!(are_wanted(&request));
        let users = Users::of(&request, given).unwrap().unwrap();
        assert_eq!(users.root(), (100_000, 200_000));
        Users::of(&request, None).unwrap_err();
        request.uid_map = vec![mapping(1, 7, 1), mapping(0, 9, 1)];
        assert!(!are_wanted(&request));
        let users = Users::of(&request, None).unwrap().unwrap();
        assert_eq!(users.root(), (9, 9));
        request.gid_map = vec![mapping(0, 5, 1)];
        assert_eq!(Users::of(&request, None).unwrap().unwrap().root(), (9, 5));
    }

    #[test]
    fn root_of_the_host_is_in_the_map_of_mounts_as_somebody_who_is_nobody() {
        let last = |map: &[IdMapping]| *with_host(map).last().unwrap();
        let host = |inside| IdRange { inside, outside: 0, size: 1 };
        assert_eq!(last(&[mapping(0, 100_000, RANGE_SIZE)]), host(LAST));
        let taken = [mapping(0, 100_000, 9), mapping(LAST - 1, 7, 2), mapping(LAST - 4, 9, 3)];
        assert_eq!(last(&taken), host(LAST - 5));
        let own = [mapping(0, 0, 1)];
        assert_eq!(with_host(&own), [host(0)], "it is there already");
    }
}
