use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::{
    Attach, AttachedStreams, CgroupPath, Checkpoint, Create, Created, Deleted, Error, Exec, Execed,
    Extent, Force, Limits, LiveFile, OciRuntime, PlacedMount, Profile, ProfileName, Started,
    Swapped, Target, UserMap,
};

/// The only place from which a container manager starts programs.
///
/// Calls for one container must not overlap, but for those of [`exec`](Self::exec); calls for
/// different ones may.
pub trait Spawner: Send + Sync + fmt::Debug {
    /// Makes the container's mount namespace and starts conmon in it, which waits to be let go.
    ///
    /// This takes as long as conmon needs to load: time in which the caller can prepare network
    /// and file systems, or put conmon into a unit of the service manager.
    ///
    /// conmon keeps `kept` open as long as it lives, from [`FIRST_KEPT`](crate::FIRST_KEPT) on, and
    /// does nothing with them; the container does not get them. A `tare-spawn` that is older than
    /// that leaves them out.
    ///
    /// # Errors
    ///
    /// [`Error::Create`]; everything has been taken back but what its `leftovers` say.
    fn prepare(&self, request: &Create, kept: Vec<OwnedFd>) -> Result<Box<dyn Prepared>, Error>;

    /// [`prepare`](Self::prepare) and [`Prepared::create`] in one.
    ///
    /// # Errors
    ///
    /// [`Error::Create`]; everything has been taken back but what its `leftovers` say.
    fn create(&self, request: &Create, mounts: Vec<PlacedMount>) -> Result<Created, Error> {
        self.prepare(request, Vec::new())?.create(mounts)
    }

    /// Lets the container's process run. `supervisor` is conmon's pidfd.
    ///
    /// # Errors
    ///
    /// [`Error::Start`]; with [`Cause::Gone`](crate::Cause::Gone) if conmon has ended.
    fn start(&self, target: &Target, supervisor: BorrowedFd<'_>) -> Result<(), Error>;

    /// Has the runtime forget the container, in the container's mount namespace if `supervisor`
    /// lives and in a new one like it otherwise. Files and control groups stay.
    ///
    /// # Errors
    ///
    /// [`Error::Delete`].
    fn delete(
        &self,
        target: &Target,
        supervisor: Option<BorrowedFd<'_>>,
        force: Force,
    ) -> Result<Deleted, Error>;

    /// Has CRIU write a container that runs into the directory `images`, which is empty.
    ///
    /// Returns when all is written and the processes of the container stand still: what else belongs to
    /// the checkpoint can be taken then. They go on, or end as the request says, with
    /// [`Dumped::commit`]. What is executed in the container by [`exec`](Self::exec) is not written,
    /// and is lost if the container ends.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`]; the container goes on. What CRIU said is in
    /// [`Layout::dump_log`](crate::Layout::dump_log).
    fn checkpoint(
        &self,
        request: &Checkpoint,
        supervisor: BorrowedFd<'_>,
        images: OwnedFd,
    ) -> Result<Box<dyn Dumped>, Error>;

    /// Runs one more process in the container, with `stdio` as its standard input, output and
    /// error. Its exit code lands in
    /// [`Layout::exec_exit_file`](crate::Layout::exec_exit_file), whether or not the caller lives.
    ///
    /// # Errors
    ///
    /// [`Error::Exec`]; everything has been taken back but what its `leftovers` say.
    fn exec(
        &self,
        request: &Exec,
        supervisor: BorrowedFd<'_>,
        stdio: [OwnedFd; 3],
    ) -> Result<Execed, Error>;

    /// Passes on what the container writes, and what it is to read, for as long as it lives and somebody
    /// reads. `init` is the pidfd of its first process. This is the one thing that ends with the process
    /// that does it; the container does not notice.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`]; with [`Cause::Gone`](crate::Cause::Gone) if conmon has ended.
    fn attach(
        &self,
        request: &Attach,
        init: BorrowedFd<'_>,
        streams: AttachedStreams,
    ) -> Result<(), Error>;

    /// Puts the file that the caller has written at
    /// [`Layout::next_live_file`](crate::Layout::next_live_file) into the place of the one that is
    /// bound into the container, which runs; `init` is the pidfd of its first process.
    ///
    /// Whoever opens it in the container gets the old file or the new one, as a whole: the new one
    /// is mounted beneath the old one, which then goes. Before Linux 6.5, which cannot do that, the
    /// old file is written over in one piece, longer than before with empty lines if need be;
    /// somebody who reads it at that very moment can see parts of both.
    ///
    /// A container that has put something else there keeps it.
    ///
    /// # Errors
    ///
    /// [`Error::SwapFile`]; the container then has the old file, unless tare-spawn was killed.
    fn swap_file(
        &self,
        target: &Target,
        file: LiveFile,
        init: BorrowedFd<'_>,
    ) -> Result<Swapped, Error>;

    /// What a runtime prints for `--version`, at most 4 KiB.
    ///
    /// # Errors
    ///
    /// [`Error::Version`].
    fn version(&self, runtime: OciRuntime) -> Result<String, Error>;

    /// What the programs started here, and so containers, cannot exceed.
    ///
    /// # Errors
    ///
    /// [`Error::Limits`].
    fn limits(&self) -> Result<Limits, Error>;

    /// Whether [`Log::Journal`](crate::Log::Journal) is understood: a `tare-spawn` that is older than its
    /// caller, or cannot be reached, does not.
    fn can_log_to_journal(&self) -> bool;

    /// Puts an AppArmor profile into the kernel, in the place of one of that name: what that one
    /// confines is confined by this one from then on.
    ///
    /// # Errors
    ///
    /// [`Error::LoadProfile`].
    fn load_profile(&self, profile: &Profile) -> Result<(), Error>;

    /// Takes an AppArmor profile out of the kernel. Nothing may be confined by it any more, for that
    /// would be set free.
    ///
    /// # Errors
    ///
    /// [`Error::UnloadProfile`], also if there is none of that name.
    fn unload_profile(&self, name: &ProfileName) -> Result<(), Error>;

    /// Makes a user namespace in which nobody is, for mounts that are to have ids mapped as it does: the
    /// runtime makes the one of a container itself. It lives as long as the descriptor, or what it maps.
    ///
    /// # Errors
    ///
    /// [`Error::MakeUsers`].
    fn make_users(&self, map: &UserMap) -> Result<OwnedFd, Error>;

    /// Kills all processes in a control group and below it, and removes it, or only what is below
    /// it. A group that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`Error::Cleanup`].
    fn cleanup_cgroup(&self, cgroup: &CgroupPath, extent: Extent) -> Result<(), Error>;

    /// Makes a control group with those above it, for good; one that is there is fine. For a group
    /// that containers share: else the first of them makes it, and takes it back if it fails.
    ///
    /// # Errors
    ///
    /// [`Error::MakeCgroup`]; everything has been taken back but what its `leftovers` say.
    fn make_cgroup(&self, cgroup: &CgroupPath) -> Result<(), Error>;

    /// Removes a control group if nothing is in it, and kills nobody. One that is in use stays, and
    /// one that is not there is fine: neither is an error.
    ///
    /// # Errors
    ///
    /// [`Error::Cleanup`].
    fn remove_empty_cgroup(&self, cgroup: &CgroupPath) -> Result<(), Error>;
}

/// A container that is written down, and whose processes stand still; see [`Spawner::checkpoint`].
///
/// Dropping it lets them go on as if nothing had been, and blocks until they do.
#[must_use = "dropping it lets the container go on"]
pub trait Dumped: Send + fmt::Debug {
    /// The checkpoint is complete: the container ends, or goes on, as was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`]; the container goes on, unless it is not known what became of the call.
    fn commit(self: Box<Self>) -> Result<(), Error>;
}

/// A container whose conmon waits to be let go; see [`Spawner::prepare`].
///
/// Dropping it takes everything back, which means killing conmon: it blocks for a moment.
#[must_use = "dropping it takes the container back"]
pub trait Prepared: Send + fmt::Debug {
    /// conmon as it waits. The one in [`Created`] is another process, a child of this one in the
    /// same control group.
    fn supervisor(&self) -> &Started;

    /// Moves `mounts` to their places and conmon into its control group, and has it make the
    /// container. Its process waits for [`Spawner::start`].
    ///
    /// # Errors
    ///
    /// [`Error::Create`]; everything has been taken back but what its `leftovers` say.
    fn create(self: Box<Self>, mounts: Vec<PlacedMount>) -> Result<Created, Error>;
}
