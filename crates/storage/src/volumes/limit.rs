//! How much a volume may hold: as much as a project of its own, where the filesystem counts projects.
//!
//! Which numbers are taken the filesystem knows itself: one that is limited, or has files, is somebody's. So
//! two stores on one filesystem get out of each other's way. Which one a volume has is written down beside
//! its content: the directory of that itself says what whoever owns it wants, for owners may change it
//! (`FS_IOC_FSSETXATTR`, but for those in another user namespace than the host's).

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::VOLUME;
use crate::error::{Error, Failure};
use crate::store::{Store, open_directory};
use crate::sys::{self, NewFd, ProjectLimit, SetProject, Step, perform};

/// The first number that volumes get, far from those that people give: "tare".
const FIRST: u32 = 0x7461_7265;
/// How many they get.
const COUNT: u32 = 1 << 20;
/// A file with the number, beside the content; without it, there is none.
const PROJECT: &str = "project";
/// Bytes it may have.
const MAX_NOTE: usize = 16;
/// Quota formats count up to here.
const MOST: u64 = i64::MAX.unsigned_abs();
/// What a filesystem without project quota answers.
const WITHOUT: [Errno; 5] =
    [Errno::NOTTY, Errno::OPNOTSUPP, Errno::NOSYS, Errno::SRCH, Errno::INVAL];

/// How much a volume may hold, in bytes; the filesystem rounds up to a KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLimit(u64);

impl SizeLimit {
    /// From 1 to 2^63 - 1 bytes; `None` for anything else.
    pub fn new(bytes: u64) -> Option<Self> {
        (1..=MOST).contains(&bytes).then_some(Self(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl Store {
    /// Puts the directory of the content of a volume, in its own `dir`, into a project that is limited.
    pub(super) fn limit(
        &self,
        dir: BorrowedFd<'_>,
        data: BorrowedFd<'_>,
        limit: SizeLimit,
    ) -> Result<(), Failure> {
        let project = self.free_project()?;
        // In this order: a limit that is written down nowhere would stay.
        let note = perform(&NewFd::File { dir, name: OsStr::new(PROJECT) })?;
        sys::write_all_at(note.as_fd(), project.to_string().as_bytes(), 0)?;
        perform(&Step::Sync { file: note.as_fd() })?;
        perform(&SetProject { dir: data, project })?;
        perform(&ProjectLimit { dir: data, project, bytes: limit.bytes() })
    }

    /// A number that is nobody's, and is given to nobody else.
    fn free_project(&self) -> Result<u32, Failure> {
        let fail = |errno| Failure::read("find a project that nobody has")(errno);
        for _ in 0..COUNT {
            let project = FIRST + self.next_project.fetch_add(1, Ordering::Relaxed) % COUNT;
            let facts = sys::project_facts(self.volumes.as_fd(), project).map_err(fail)?;
            if !facts.is_limited && !facts.has_files {
                return Ok(project);
            }
        }
        Err(fail(Errno::NOSPC))
    }
}

/// The project of a volume, by its own directory.
pub(super) fn project(dir: BorrowedFd<'_>) -> Option<u32> {
    let place = sys::open_path(dir, PROJECT, sys::beneath(), OFlags::NOFOLLOW).ok()?;
    let bytes = sys::read_up_to(sys::reopen(place.as_fd()).ok()?, MAX_NOTE).ok()??;
    let project = str::from_utf8(&bytes).ok()?.parse().ok()?;
    (FIRST..FIRST + COUNT).contains(&project).then_some(project)
}

/// Gives back the number of what was to be a volume, or was one, and is about to be removed.
pub(crate) fn give_back(tmp: BorrowedFd<'_>, name: &OsStr) -> Result<(), Failure> {
    let Some(dir) = directory_of_volume(tmp, name) else { return Ok(()) };
    let Some(project) = project(dir.as_fd()) else { return Ok(()) };
    match perform(&ProjectLimit { dir: dir.as_fd(), project, bytes: 0 }) {
        // Mounted without quota meanwhile: there is nobody to tell.
        Err(failure) if is_without(&failure) => Ok(()),
        told => told,
    }
}

fn directory_of_volume(tmp: BorrowedFd<'_>, name: &OsStr) -> Option<OwnedFd> {
    if is_of_volume(name) { open_directory(tmp, name).ok() } else { None }
}

/// Whether something in `tmp` is the directory of a volume.
fn is_of_volume(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let name = name.strip_prefix(b"removed-").unwrap_or(name);
    name.strip_prefix(VOLUME.as_bytes()).is_some_and(|rest| rest.starts_with(b"-"))
}

fn is_without(failure: &Failure) -> bool {
    WITHOUT.into_iter().any(|errno| failure.is(errno))
}

/// What it means that a volume could not be limited.
pub(super) fn error(failure: Failure, other: impl FnOnce(Failure) -> Error) -> Error {
    if is_without(&failure) {
        let needs = "a filesystem with project quota";
        return Error::Unsupported { what: "the size of a volume cannot be limited", needs };
    }
    other(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_some_and_can_be_counted() {
        for bad in [0, MOST + 1, u64::MAX] {
            assert_eq!(SizeLimit::new(bad), None);
        }
        assert_eq!([1, MOST].map(|bytes| SizeLimit::new(bytes).unwrap().bytes()), [1, MOST]);
    }

    /// What an image has may be called like the content of a volume.
    #[test]
    fn only_volumes_have_projects_to_give_back() {
        for (name, is) in [
            ("volume-0", true),
            ("removed-volume-data", true),
            ("fill-0", false),
            ("removed-container-volume-0", false),
            ("volumes-0", false),
        ] {
            assert_eq!(is_of_volume(OsStr::new(name)), is, "{name}");
        }
    }
}
