//! The spawner that forks from this process.

mod attach;
mod calls;
mod checkpoint;
mod create;
mod exec;
mod groups;
mod identify;
mod orphans;
mod profiles;
mod reaper;
mod slots;
mod supervise;
mod swap;
mod users;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use self::reaper::Reaper;
use self::slots::Attached;
use crate::step::Step;
use crate::undo::{failed, run};
use crate::view;
use crate::{
    Attach, AttachedStreams, CgroupPath, Checkpoint, Create, Deleted, Dumped, Error, Exec, Execed,
    Extent, Force, Limits, LiveFile, OciRuntime, Prepared, Profile, ProfileName, Settings, Spawner,
    Swapped, Target, UserMap,
};

/// Starts programs from this process; they outlive it.
///
/// Clones are one spawner.
#[derive(Clone, Debug)]
pub struct Local {
    settings: Arc<Settings>,
    reaper: Arc<Reaper>,
    attached: Arc<Attached>,
}

impl Local {
    /// A spawner with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), reaper: Arc::default(), attached: Arc::default() }
    }

    /// What it may run, and where it keeps things.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes this process the parent of what its descendants leave behind, and starts a thread that
    /// waits for conmon and for what conmon started, when they end.
    ///
    /// conmon leaves the process that starts it. Without this it becomes a child of PID 1, which on
    /// some hosts waits for it late or never; and before it has been waited for, the kernel does not
    /// tell how it ended. Programs outlive this process as before.
    ///
    /// This sets `PR_SET_CHILD_SUBREAPER`, see [prctl(2)], **for the whole process** and for good;
    /// call it once, at start-up. Orphans of other children of this process come to it too, and are
    /// the caller's to wait for. The thread waits for processes it knows by their pidfd, never for
    /// just any child, so it does not disturb [`std::process`]. It ends when the last clone of this
    /// is dropped. Its namespaces are those of the calling thread.
    ///
    /// Two kinds of orphan remain zombies until this process ends, for nobody tells of them:
    /// processes of a container without a pid namespace that outlive its conmon and end before
    /// [`Spawner::cleanup_cgroup`], and what a runtime leaves that was killed while it started or
    /// deleted a container.
    ///
    /// [prctl(2)]: https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
    ///
    /// # Errors
    ///
    /// [`Error::AdoptOrphans`]; nothing has changed then.
    pub fn adopt_orphans(&self) -> Result<(), Error> {
        let adopt = || {
            self.reaper.start().map_err(|source| failed(&"start a thread", source))?;
            run(&Step::AdoptOrphans).map(drop)
        };
        adopt().map_err(|cause| Error::AdoptOrphans { cause })
    }

    /// Waits, on the thread of [`adopt_orphans`](Self::adopt_orphans), for a process that somebody
    /// else started: a conmon found running after a restart. One that is not a child of this process
    /// when it ends is forgotten. Without that thread this does nothing.
    pub fn adopt(&self, pidfd: OwnedFd) {
        self.reaper.watch(vec![pidfd.into()]);
    }
}

impl Spawner for Local {
    fn prepare(&self, request: &Create, kept: Vec<OwnedFd>) -> Result<Box<dyn Prepared>, Error> {
        Ok(Box::new(create::prepare(&self.settings, &self.reaper, request, kept)?))
    }

    fn start(&self, target: &Target, supervisor: BorrowedFd<'_>) -> Result<(), Error> {
        calls::start(&self.settings, target, supervisor)
    }

    fn delete(
        &self,
        target: &Target,
        supervisor: Option<BorrowedFd<'_>>,
        force: Force,
    ) -> Result<Deleted, Error> {
        calls::delete(&self.settings, target, supervisor, force)
    }

    fn checkpoint(
        &self,
        request: &Checkpoint,
        supervisor: BorrowedFd<'_>,
        images: OwnedFd,
    ) -> Result<Box<dyn Dumped>, Error> {
        Ok(Box::new(checkpoint::dump(&self.settings, request, supervisor, images)?))
    }

    fn exec(
        &self,
        request: &Exec,
        supervisor: BorrowedFd<'_>,
        stdio: [OwnedFd; 3],
    ) -> Result<Execed, Error> {
        exec::exec(&self.settings, &self.reaper, request, supervisor, stdio)
    }

    fn attach(
        &self,
        request: &Attach,
        init: BorrowedFd<'_>,
        streams: AttachedStreams,
    ) -> Result<(), Error> {
        attach::attach(&self.settings, &self.attached, request, init, streams)
    }

    fn swap_file(
        &self,
        target: &Target,
        file: LiveFile,
        init: BorrowedFd<'_>,
    ) -> Result<Swapped, Error> {
        swap::swap_file(&self.settings, target, file, init)
    }

    fn version(&self, runtime: OciRuntime) -> Result<String, Error> {
        calls::version(&self.settings, runtime)
    }

    fn limits(&self) -> Result<Limits, Error> {
        let limits = Limits::of_this_process();
        limits.map_err(|source| Error::Limits { cause: failed(&"read /proc", source) })
    }

    fn can_log_to_journal(&self) -> bool {
        true
    }

    fn load_profile(&self, profile: &Profile) -> Result<(), Error> {
        profiles::load(&self.settings, profile)
    }

    fn unload_profile(&self, name: &ProfileName) -> Result<(), Error> {
        profiles::unload(&self.settings, name)
    }

    fn make_users(&self, map: &UserMap) -> Result<OwnedFd, Error> {
        users::make(map)
    }

    fn cleanup_cgroup(&self, cgroup: &CgroupPath, extent: Extent) -> Result<(), Error> {
        let mut kin = self.reaper.kin();
        view::cgroup_root(self.settings.cgroups)
            .inspect(|root| kin.add_group(root, cgroup))
            .and_then(|root| run(&Step::ClearCgroup { root, path: cgroup.clone(), extent }))
            .map(drop)
            .map_err(|cause| Error::Cleanup { cgroup: cgroup.clone(), cause })
    }

    fn make_cgroup(&self, cgroup: &CgroupPath) -> Result<(), Error> {
        groups::make_for_good(&self.settings, cgroup)
    }

    fn remove_empty_cgroup(&self, cgroup: &CgroupPath) -> Result<(), Error> {
        groups::remove_empty(&self.settings, cgroup)
    }
}
