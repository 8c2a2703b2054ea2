//! Creating a container, in two parts: conmon is started and waits, and is let go when all that the
//! container needs is there.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::reaper::{Kin, Reaper};
use super::supervise::{Answer, Waiting, start_conmon};
use super::{groups, identify};
use crate::argv::Programs;
use crate::launch::Fd;
use crate::step::Step;
use crate::sys::is_directory;
use crate::undo::{Failure, Undo, failed};
use crate::view;
use crate::{
    Cause, Create, Created, Error, Extent, Extras, Force, Layout, MAX_KEPT, Place, PlacedMount,
    Prepared, Refusal, Settings, Started, Stdin, Target,
};

/// A container whose conmon waits.
#[derive(Debug)]
pub(super) struct Waiter {
    undo: Undo,
    conmon: Waiting,
    supervisor: Started,
    plan: Plan,
}

/// A request that was checked.
#[derive(Debug)]
struct Plan {
    settings: Arc<Settings>,
    reaper: Arc<Reaper>,
    request: Create,
    target: Target,
}

pub(super) fn prepare(
    settings: &Arc<Settings>,
    reaper: &Arc<Reaper>,
    request: &Create,
    kept: Vec<OwnedFd>,
) -> Result<Waiter, Error> {
    let make = || -> Result<Waiter, Failure> {
        let plan = plan(settings, reaper, request).map_err(Cause::Refused)?;
        if kept.len() > MAX_KEPT {
            return Err(Cause::Refused(Refusal::TooManyKept).into());
        }
        view::on_own_thread_or(|| plan.wait_for_word(kept), no_thread)
    };
    make().map_err(|failure| not_created(request, failure))
}

impl Prepared for Waiter {
    fn supervisor(&self) -> &Started {
        &self.supervisor
    }

    fn create(self: Box<Self>, mounts: Vec<PlacedMount>) -> Result<Created, Error> {
        let Self { mut undo, mut conmon, plan, .. } = *self;
        let create = || {
            let mut kin = plan.reaper.kin();
            let result = plan.carry_out(&mut undo, &mut kin, &mut conmon, mounts);
            undo.end(result)
        };
        view::on_own_thread_or(create, no_thread)
            .map_err(|failure| not_created(&plan.request, failure))
    }
}

fn no_thread(source: std::io::Error) -> Failure {
    failed(&"start a thread", source).into()
}

fn not_created(request: &Create, Failure { cause, leftovers }: Failure) -> Error {
    Error::Create { id: request.id.clone(), cause, leftovers }
}

/// Checks everything that can be checked before the first effect.
fn plan(settings: &Arc<Settings>, reaper: &Arc<Reaper>, request: &Create) -> Result<Plan, Refusal> {
    let plan = Plan {
        settings: settings.clone(),
        reaper: reaper.clone(),
        request: request.clone(),
        target: request.target(),
    };
    let layout = plan.layout();
    settings.program(request.runtime).ok_or(Refusal::NoRuntime)?;
    if !request.log.is_acceptable() {
        return Err(Refusal::LogPath);
    }
    if !layout.bundle().is_dir() {
        return Err(Refusal::NoBundle);
    }
    // Taking back deletes what the runtime knows by this id: it must not be somebody else's.
    if layout.exit_dir().exists() || layout.runtime_state(request.runtime).exists() {
        return Err(Refusal::Exists);
    }
    Ok(plan)
}

/// Images are there if they are needed, and only then.
fn are_places(mounts: &[PlacedMount], restore: Option<Extras>) -> bool {
    let places: HashSet<_> = mounts.iter().map(|mount| mount.place).collect();
    places.contains(&Place::Rootfs)
        && places.contains(&Place::Images) == restore.is_some()
        && places.len() == mounts.len()
}

impl Plan {
    fn layout(&self) -> Layout<'_> {
        Layout::new(&self.settings.run_dir, &self.request.id, self.request.incarnation)
    }

    fn programs(&self) -> Result<Programs<'_>, Cause> {
        let runtime = self.settings.program(self.request.runtime);
        let runtime = runtime.ok_or(Cause::Refused(Refusal::NoRuntime))?;
        let (settings, layout, target) = (&*self.settings, self.layout(), &self.target);
        Ok(Programs { settings, layout, target, runtime })
    }

    /// Runs on a thread that ends, since it gives it a view of its own.
    fn wait_for_word(self, kept: Vec<OwnedFd>) -> Result<Waiter, Failure> {
        let mut undo = Undo::default();
        match self.start_conmon(&mut undo, kept) {
            Ok((conmon, supervisor)) => Ok(Waiter { undo, conmon, supervisor, plan: self }),
            Err(cause) => undo.end(Err(cause)),
        }
    }

    fn start_conmon(
        &self,
        undo: &mut Undo,
        kept: Vec<OwnedFd>,
    ) -> Result<(Waiting, Started), Cause> {
        let (programs, layout) = (self.programs()?, self.layout());
        let cgroups = self.settings.cgroups;
        undo.run(&Step::EnsureDir(layout.runtime_root(self.request.runtime)))?;
        undo.run(&Step::MakeDir(layout.exit_dir()))?;
        if self.request.stdin == Stdin::Terminal {
            undo.run(&Step::MakeDir(layout.console_dir()))?;
        }
        view::make(cgroups, &view::cgroup_root(cgroups)?)?;
        let conmon = start_conmon(undo, |fds| {
            let mut launch = programs.create(&self.request, fds);
            launch.fds.extend(kept.into_iter().map(Fd::new));
            launch
        })?;
        let pidfd = conmon.pidfd().try_clone();
        let pidfd = pidfd.map_err(|source| failed(&"copy a descriptor", source))?;
        let supervisor = Started { pid: conmon.pid(), pidfd };
        Ok((conmon, supervisor))
    }

    /// Runs on a thread that ends, since it moves it into the container's view.
    fn carry_out(
        &self,
        undo: &mut Undo,
        kin: &mut Kin<'_>,
        conmon: &mut Waiting,
        mounts: Vec<PlacedMount>,
    ) -> Result<Created, Cause> {
        if !are_places(&mounts, self.request.restore) {
            return Err(Cause::Refused(Refusal::Places));
        }
        if !self.layout().new_config_json().is_file() {
            return Err(Cause::Refused(Refusal::NoConfig));
        }
        view::enter(conmon.pidfd().as_fd()).map_err(|cause| conmon.early_end().unwrap_or(cause))?;
        self.place_mounts(undo, mounts)?;
        let root = view::cgroup_root(self.settings.cgroups)?;
        self.prepare_cgroups(undo, &root)?;
        let created = self.supervise(undo, kin, conmon, &root).and_then(|created| {
            self.forget_console()?;
            Ok(created)
        });
        created.inspect_err(|_| {
            kin.add_group(&root, &self.request.cgroup);
            kin.add_doomed_group(self.request.cgroup.clone());
        })
    }

    /// The terminal has come; undoing this would find nothing, which is fine.
    fn forget_console(&self) -> Result<(), Cause> {
        if self.request.stdin != Stdin::Terminal {
            return Ok(());
        }
        crate::undo::run(&Step::RemoveDir(self.layout().console_dir())).map(drop)
    }

    fn place_mounts(&self, undo: &mut Undo, mounts: Vec<PlacedMount>) -> Result<(), Cause> {
        for PlacedMount { place, mount } in mounts {
            let at = self.layout().place(place);
            let directory = is_directory(&mount);
            let directory = directory.map_err(|source| failed(&"look at a mount", source))?;
            undo.run(&if directory {
                Step::MakeMountPoint(at.clone())
            } else {
                Step::MakeMountFile(at.clone())
            })?;
            undo.run(&Step::PlaceMount { mount: Arc::<OwnedFd>::new(mount), place, at })?;
        }
        Ok(())
    }

    /// Makes the supervisor's group, and arms what takes back conmon's and the runtime's doings:
    /// kill conmon and the runtime first, then have the runtime forget, then kill what remains.
    fn prepare_cgroups(&self, undo: &mut Undo, root: &Fd) -> Result<(), Cause> {
        let own = &self.request.cgroup;
        groups::make(undo, root, own)?;
        undo.arm(Step::ClearCgroup {
            root: root.clone(),
            path: own.payload(),
            extent: Extent::Whole,
        });
        undo.arm(Step::Call(self.programs()?.delete(Force::Kill)));
        undo.arm(Step::ClearCgroup {
            root: root.clone(),
            path: own.supervisor(),
            extent: Extent::Whole,
        });
        let path = own.supervisor();
        crate::undo::run(&Step::MakeCgroup { root: root.clone(), path }).map(drop)
    }

    fn supervise(
        &self,
        undo: &mut Undo,
        kin: &mut Kin<'_>,
        conmon: &mut Waiting,
        root: &Fd,
    ) -> Result<Created, Cause> {
        let (root, path, pid) = (root.clone(), self.request.cgroup.supervisor(), conmon.pid());
        // It was started before its group could be there: systemd makes a scope of a process.
        let join = Step::JoinCgroup { root, path, pid };
        let (from, to) = (self.layout().new_config_json(), self.layout().config_json());
        match conmon.go_on(undo, vec![join, Step::Rename { from, to }])? {
            Answer::Pid(pid) => self.identify(kin, pid),
            Answer::Failed(message) => Err(Cause::Runtime { message }),
            Answer::Silent => Err(silent()),
        }
    }

    fn identify(&self, kin: &mut Kin<'_>, pid: u32) -> Result<Created, Cause> {
        let pid_file = self.layout().supervisor_pid();
        let supervisor: Started = identify::supervisor(kin, &pid_file)?.ok_or_else(silent)?;
        let exit_file = self.layout().exit_file();
        let init = identify::child_of(kin, supervisor.pid, pid, &exit_file)?.ok_or(Cause::Gone)?;
        Ok(Created { supervisor, init })
    }
}

fn silent() -> Cause {
    Cause::Supervisor { message: "conmon ended early".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Place::{Images, Mount, Rootfs, Shm};

    #[test]
    fn there_is_one_root_and_no_place_twice() {
        let mount =
            |place| PlacedMount { place, mount: std::fs::File::open("/dev/null").unwrap().into() };
        for (places, want) in [
            (&[Rootfs][..], true),
            (&[Shm, Rootfs], true),
            (&[], false),
            (&[Shm], false),
            (&[Rootfs, Rootfs], false),
            (&[Rootfs, Shm, Shm], false),
            (&[Rootfs, Mount(0), Mount(1)], true),
            (&[Rootfs, Mount(1), Mount(1)], false),
        ] {
            let mounts: Vec<_> = places.iter().map(|place| mount(*place)).collect();
            assert_eq!(are_places(&mounts, None), want, "{places:?}");
        }
        let images = || vec![mount(Rootfs), mount(Images)];
        assert!(are_places(&images(), Some(Extras::default())));
        assert!(!are_places(&images(), None), "nothing is restored");
        assert!(!are_places(&[mount(Rootfs)], Some(Extras::default())), "from nothing");
    }
}
