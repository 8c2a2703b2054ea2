use std::fmt;
use std::path::PathBuf;

use crate::launch::{Child, Fd, Finished, Launch};
use crate::{CgroupPath, Extent, LiveFile, Place};

/// One effect, as plain data. Those that move a thread into a namespace must run on one that ends.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Make a directory that must not be there.
    MakeDir(PathBuf),
    /// Make a bundle directory that must not be there.
    MakeBundle(PathBuf),
    /// Make a directory and those above it, unless they are there.
    EnsureDir(PathBuf),
    /// Make an empty directory for a mount, unless it is there.
    MakeMountPoint(PathBuf),
    /// Make an empty file for a mount, unless it is there.
    MakeMountFile(PathBuf),
    /// Remove such a file.
    RemoveMountFile(PathBuf),
    /// Remove an empty directory.
    RemoveMountPoint(PathBuf),
    /// Remove a directory of ours with what is in it.
    RemoveDir(PathBuf),
    /// Remove a bundle: its mount points, which must be empty, then all else.
    RemoveBundle(PathBuf),
    /// Write a new file.
    WriteFile(PathBuf, Vec<u8>),
    /// Make a program of a text, which is in no directory.
    MakeScript(&'static str),
    /// Make a named pipe, and open both its ends.
    MakePipe(PathBuf),
    /// Say a word to who waits for it at the other end of a named pipe.
    Say { pipe: Fd, word: &'static str },
    /// Give a file another name.
    Rename { from: PathBuf, to: PathBuf },
    /// Give a file one more name.
    Link { from: PathBuf, to: PathBuf },
    /// Give this thread a mount namespace of its own, a copy of the one it is in.
    NewView,
    /// Keep what is mounted in it from the host, but let the host's mounts in.
    SlaveView,
    /// Move this thread into the mount namespace of a process.
    EnterView(Fd),
    /// Make a mount of cgroup2, not attached anywhere.
    MountCgroup2,
    /// Make a read-only copy of the mounts at `/`, not attached anywhere.
    CloneHostRoot,
    /// Attach cgroup2 at `/sys/fs/cgroup`.
    PlaceCgroup2(Fd),
    /// Attach a mount of the container.
    PlaceMount { mount: Fd, place: Place, at: PathBuf },
    /// Detach a mount in the view of this thread.
    RemoveMount(PathBuf),
    /// Make a mount of a file, not attached anywhere.
    CloneFile(PathBuf),
    /// Let a mount that is attached nowhere be used as another one is.
    LikeMount { mount: Fd, other: Fd },
    /// Attach a mount of the container beneath the one that is there.
    PlaceBeneath { mount: Fd, top: Fd, file: LiveFile },
    /// Detach the one on top, which is known by its descriptor; `fds` is where this thread's are
    /// found.
    RemoveTop { top: Fd, fds: Fd, file: LiveFile },
    /// Write over a file in one piece, and take nothing off its end.
    WriteOver(PathBuf, Vec<u8>),
    /// Remove a file.
    RemoveFile(PathBuf),
    /// Make a control group, unless it is there.
    MakeCgroup { root: Fd, path: CgroupPath },
    /// Remove a control group, unless others use it.
    RemoveCgroup { root: Fd, path: CgroupPath },
    /// Kill all in a control group and below it, and remove that much.
    ClearCgroup { root: Fd, path: CgroupPath, extent: Extent },
    /// Move a process into a control group.
    JoinCgroup { root: Fd, path: CgroupPath, pid: u32 },
    /// Listen at a path.
    Listen(PathBuf),
    /// Listen at a path for the runtime, which sends a terminal there.
    ListenForTerminal(PathBuf),
    /// Remove the socket at a path.
    RemoveSocket(PathBuf),
    /// Connect to the conmon of a bundle, to hear what its container writes.
    Attach(PathBuf),
    /// Make this process the parent of what its descendants leave behind.
    AdoptOrphans,
    /// Run a program and wait for its end.
    Call(Launch),
    /// Start a program.
    Launch(Launch),
    /// Tell a waiting conmon to go on.
    Go { start: Fd, pid: u32 },
    /// Make a user namespace with these maps.
    MakeUsers { uids: String, gids: String },
    /// Kill a process and, if it is a child, reap it.
    Kill { pid: u32, pidfd: Fd },
}

/// What a step brought about.
#[derive(Debug)]
pub(crate) enum Done {
    /// What it says.
    Changed,
    /// Nothing: things were that way already.
    Unchanged,
    /// A descriptor.
    Fd(Fd),
    /// A child that runs.
    Child(Child),
    /// A child that has ended.
    Finished(Finished),
}

impl Step {
    /// What is said to be done when it is left out, in a test: nothing can stand for what it would
    /// have made.
    pub(crate) fn without(&self) -> Option<Done> {
        match self {
            Self::MountCgroup2
            | Self::CloneHostRoot
            // What follows would be done to the host.
            | Self::NewView
            | Self::SlaveView
            | Self::EnterView(_)
            | Self::CloneFile(_)
            | Self::MakePipe(_)
            | Self::MakeScript(_)
            | Self::Listen(_)
            | Self::Attach(_)
            | Self::MakeUsers { .. }
            | Self::Launch(_) => None,
            Self::Call(_) => Some(Done::Finished(Finished { code: Some(0), output: Vec::new() })),
            _ => Some(Done::Changed),
        }
    }

    /// The step that takes this one back; `None` if there is nothing to take back, or if that ends
    /// with the thread.
    pub(crate) fn inverse(&self) -> Option<Self> {
        match self {
            Self::MakeDir(path) => Some(Self::RemoveDir(path.clone())),
            Self::MakeBundle(path) => Some(Self::RemoveBundle(path.clone())),
            Self::MakeMountPoint(path) => Some(Self::RemoveMountPoint(path.clone())),
            Self::MakeMountFile(path) => Some(Self::RemoveMountFile(path.clone())),
            Self::Rename { from, to } => Some(Self::Rename { from: to.clone(), to: from.clone() }),
            Self::PlaceMount { at, .. } => Some(Self::RemoveMount(at.clone())),
            Self::ListenForTerminal(path) => Some(Self::RemoveSocket(path.clone())),
            Self::MakeCgroup { root, path } => {
                Some(Self::RemoveCgroup { root: root.clone(), path: path.clone() })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDir(path) => write!(f, "make directory {}", path.display()),
            Self::MakeBundle(path) => write!(f, "make bundle {}", path.display()),
            Self::EnsureDir(path) => write!(f, "make sure of directory {}", path.display()),
            Self::MakeMountPoint(path) | Self::MakeMountFile(path) => {
                write!(f, "make mount point {}", path.display())
            }
            Self::RemoveMountPoint(path) | Self::RemoveMountFile(path) => {
                write!(f, "remove mount point {}", path.display())
            }
            Self::RemoveDir(path) => write!(f, "remove directory {}", path.display()),
            Self::RemoveBundle(path) => write!(f, "remove bundle {}", path.display()),
            Self::WriteFile(path, _) => write!(f, "write {}", path.display()),
            Self::MakeScript(_) => f.write_str("make a script"),
            Self::MakePipe(path) => write!(f, "make the pipe {}", path.display()),
            Self::Say { word, .. } => write!(f, "tell CRIU to {word}"),
            Self::Rename { from, to } => {
                write!(f, "rename {} to {}", from.display(), to.display())
            }
            Self::Link { from, to } => {
                write!(f, "call {} also {}", from.display(), to.display())
            }
            Self::NewView => f.write_str("make a mount namespace"),
            Self::SlaveView => f.write_str("separate the mount namespace from the host's"),
            Self::EnterView(_) => f.write_str("enter the container's mount namespace"),
            Self::MountCgroup2 => f.write_str("mount cgroup2"),
            Self::CloneHostRoot => f.write_str("copy the host's root mount"),
            Self::PlaceCgroup2(_) => f.write_str("attach cgroup2 at /sys/fs/cgroup"),
            Self::PlaceMount { place, at, .. } => {
                write!(f, "attach the mount {} at {}", place.dir_name(), at.display())
            }
            Self::RemoveMount(at) => write!(f, "detach the mount at {}", at.display()),
            Self::CloneFile(path) => write!(f, "make a mount of {}", path.display()),
            Self::LikeMount { .. } => f.write_str("let a mount be used as another one is"),
            Self::PlaceBeneath { file, .. } => {
                write!(f, "attach a mount beneath the one at {}", file.target())
            }
            Self::RemoveTop { file, .. } => {
                write!(f, "detach the upper mount at {}", file.target())
            }
            Self::WriteOver(path, _) => write!(f, "write over {}", path.display()),
            Self::RemoveFile(path) => write!(f, "remove {}", path.display()),
            Self::MakeCgroup { path, .. } => write!(f, "make control group {path}"),
            Self::RemoveCgroup { path, .. } => write!(f, "remove control group {path}"),
            Self::ClearCgroup { path, .. } => write!(f, "clear control group {path}"),
            Self::JoinCgroup { path, pid, .. } => {
                write!(f, "move process {pid} into control group {path}")
            }
            Self::ListenForTerminal(path) => {
                write!(f, "listen for a terminal at {}", path.display())
            }
            Self::Attach(bundle) => write!(f, "attach to conmon in {}", bundle.display()),
            Self::Listen(path) => write!(f, "listen at {}", path.display()),
            Self::RemoveSocket(path) => write!(f, "remove socket {}", path.display()),
            Self::AdoptOrphans => f.write_str("become the parent of orphans"),
            Self::Call(launch) => write!(f, "call {launch}"),
            Self::Launch(launch) => write!(f, "start {launch}"),
            Self::Go { pid, .. } => write!(f, "let conmon {pid} go on"),
            Self::MakeUsers { .. } => f.write_str("make a user namespace"),
            Self::Kill { pid, .. } => write!(f, "kill process {pid}"),
        }
    }
}
