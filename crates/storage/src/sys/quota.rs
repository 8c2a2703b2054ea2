use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

use super::Effect;
use super::mount::last_error;

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const GET: libc::c_ulong = 0x801c_581f;
const SET: libc::c_ulong = 0x401c_5820;
/// What is made below a directory belongs to its project (`FS_XFLAG_PROJINHERIT`).
const INHERIT: u32 = 0x200;

/// Puts a directory, and what will be made below it, into a project.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetProject<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) project: u32,
}

impl fmt::Display for SetProject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "put it into project {}", self.project)
    }
}

impl Effect for SetProject<'_> {
    type Output = ();

    fn without(&self) -> Option<()> {
        Some(())
    }

    fn act(&self) -> rustix::io::Result<()> {
        let mut facts = facts(self.dir)?;
        facts.project = self.project;
        facts.flags |= INHERIT;
        let file = self.dir.as_raw_fd();
        // SAFETY: `facts` has the layout of `struct fsxattr`, which this call reads.
        last_error(unsafe { libc::ioctl(file, SET as _, &raw const facts) }.into())
    }
}

fn facts(dir: BorrowedFd<'_>) -> rustix::io::Result<FsXattr> {
    let mut facts = FsXattr::default();
    // SAFETY: `facts` has the layout of `struct fsxattr`, which this call fills in.
    last_error(unsafe { libc::ioctl(dir.as_raw_fd(), GET as _, &raw mut facts) }.into())?;
    Ok(facts)
}

const PROJECT_QUOTA: u32 = 2;
/// `QIF_BLIMITS`: the limits on blocks are what is given.
const BLOCK_LIMITS: u32 = 1;
/// Blocks in which limits are counted, in bytes.
const QUOTA_BLOCK: u64 = 1024;

/// Limits what a project takes on the filesystem of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProjectLimit<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) project: u32,
    /// Bytes; 0 is no limit.
    pub(crate) bytes: u64,
}

impl fmt::Display for ProjectLimit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit project {} to {} bytes", self.project, self.bytes)
    }
}

impl Effect for ProjectLimit<'_> {
    type Output = ();

    fn without(&self) -> Option<()> {
        Some(())
    }

    fn act(&self) -> rustix::io::Result<()> {
        let mut limits = nothing();
        limits.dqb_bhardlimit = self.bytes.div_ceil(QUOTA_BLOCK);
        limits.dqb_bsoftlimit = limits.dqb_bhardlimit;
        limits.dqb_valid = BLOCK_LIMITS;
        quotactl(self.dir, libc::Q_SETQUOTA, self.project, &mut limits)
    }
}

/// What a filesystem knows of a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProjectFacts {
    /// Whether what it takes is limited.
    pub(crate) is_limited: bool,
    /// Whether anything belongs to it.
    pub(crate) has_files: bool,
    /// Bytes it takes.
    pub(crate) bytes: u64,
}

/// What the filesystem of a directory knows of a project, if it counts them.
pub(crate) fn project_facts(dir: BorrowedFd<'_>, project: u32) -> rustix::io::Result<ProjectFacts> {
    let mut found = nothing();
    match quotactl(dir, libc::Q_GETQUOTA, project, &mut found) {
        // XFS knows nothing of one that nothing was said of.
        Err(Errno::NOENT) => Ok(ProjectFacts::default()),
        asked => asked.map(|()| ProjectFacts {
            is_limited: found.dqb_bhardlimit | found.dqb_bsoftlimit != 0
                || found.dqb_ihardlimit | found.dqb_isoftlimit != 0,
            has_files: found.dqb_curinodes != 0,
            bytes: found.dqb_curspace,
        }),
    }
}

fn nothing() -> libc::dqblk {
    // SAFETY: all of its fields are numbers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// `quotactl_fd(2)`, of a project.
fn quotactl(
    dir: BorrowedFd<'_>,
    command: libc::c_int,
    project: u32,
    facts: &mut libc::dqblk,
) -> rustix::io::Result<()> {
    let command = (command.cast_unsigned() << 8) | PROJECT_QUOTA;
    let facts: *mut libc::dqblk = facts;
    // SAFETY: `facts` lives through the call, and is what both commands read or fill in.
    let result =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, dir.as_raw_fd(), command, project, facts) };
    last_error(result)
}
