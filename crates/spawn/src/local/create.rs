use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::reaper::{Kin, Reaper};
use super::supervise::{Answer, run_conmon};
use super::{groups, identify};
use crate::argv::Programs;
use crate::launch::Fd;
use crate::step::Step;
use crate::undo::{Failure, Undo, failed};
use crate::view;
use crate::{
    Cause, Create, Created, Error, Force, Layout, Place, PlacedMount, Refusal, Started, Target,
};

/// A request that was checked.
struct Plan<'a> {
    request: &'a Create,
    programs: Programs<'a>,
    mounts: Vec<(Place, Fd)>,
}

pub(super) fn create(
    settings: &crate::Settings,
    reaper: &Reaper,
    request: &Create,
    mounts: Vec<PlacedMount>,
) -> Result<Created, Error> {
    let target = request.target();
    let make = || -> Result<Created, Failure> {
        let plan = plan(settings, request, &target, mounts).map_err(Cause::Refused)?;
        let no_thread = |source| failed(&"start a thread", source).into();
        view::on_own_thread_or(
            || {
                let (mut undo, mut kin) = (Undo::default(), reaper.kin());
                let result = plan.carry_out(&mut undo, &mut kin);
                undo.end(result)
            },
            no_thread,
        )
    };
    make().map_err(|Failure { cause, leftovers }| Error::Create {
        id: request.id.clone(),
        cause,
        leftovers,
    })
}

/// Checks everything that can be checked before the first effect.
fn plan<'a>(
    settings: &'a crate::Settings,
    request: &'a Create,
    target: &'a Target,
    mounts: Vec<PlacedMount>,
) -> Result<Plan<'a>, Refusal> {
    let layout = Layout::new(&settings.run_dir, &target.id, target.incarnation);
    let runtime = settings.program(target.runtime).ok_or(Refusal::NoRuntime)?;
    if !is_log_path(&request.log_path) {
        return Err(Refusal::LogPath);
    }
    if !are_places(&mounts) {
        return Err(Refusal::Places);
    }
    // Taking back deletes what the runtime knows by this id: it must not be somebody else's.
    if layout.exit_dir().exists() || layout.runtime_state(target.runtime).exists() {
        return Err(Refusal::Exists);
    }
    if !layout.new_config_json().is_file() {
        return Err(Refusal::NoConfig);
    }
    let mounts = mounts.into_iter().map(|it| (it.place, Arc::<OwnedFd>::new(it.mount))).collect();
    Ok(Plan { request, programs: Programs { settings, layout, target, runtime }, mounts })
}

fn is_log_path(path: &Path) -> bool {
    let fits = |byte: &u8| *byte != b':' && !byte.is_ascii_control();
    path.is_absolute() && path.as_os_str().as_bytes().iter().all(fits)
}

fn are_places(mounts: &[PlacedMount]) -> bool {
    let count = |place| mounts.iter().filter(|mount| mount.place == place).count();
    count(Place::Rootfs) == 1 && count(Place::Shm) <= 1
}

impl Plan<'_> {
    /// Runs on a thread that ends, since it moves it into the container's view.
    fn carry_out(&self, undo: &mut Undo, kin: &mut Kin<'_>) -> Result<Created, Cause> {
        let cgroups = self.programs.settings.cgroups;
        let root = view::cgroup_root(cgroups)?;
        self.make_dirs(undo)?;
        view::make(cgroups, &root)?;
        self.place_mounts(undo)?;
        self.prepare_cgroups(undo, &root)?;
        self.supervise(undo, kin, &root)
            .inspect_err(|_| kin.add_doomed_group(&root, &self.request.cgroup))
    }

    fn supervise(&self, undo: &mut Undo, kin: &mut Kin<'_>, root: &Fd) -> Result<Created, Cause> {
        let supervisor = self.request.cgroup.supervisor();
        let launch = |fds| self.programs.create(self.request, fds);
        let layout = &self.programs.layout;
        let (from, to) = (layout.new_config_json(), layout.config_json());
        match run_conmon(undo, root, &supervisor, Some(Step::Rename { from, to }), launch)? {
            Answer::Pid(pid) => self.identify(kin, pid),
            Answer::Failed(message) => Err(Cause::Runtime { message }),
            Answer::Silent => Err(silent()),
        }
    }

    fn make_dirs(&self, undo: &mut Undo) -> Result<(), Cause> {
        let layout = &self.programs.layout;
        undo.run(&Step::EnsureDir(layout.runtime_root(self.request.runtime)))?;
        undo.run(&Step::MakeDir(layout.exit_dir()))?;
        for (place, _) in &self.mounts {
            undo.run(&Step::MakeMountPoint(layout.place(*place)))?;
        }
        Ok(())
    }

    fn place_mounts(&self, undo: &mut Undo) -> Result<(), Cause> {
        for (place, mount) in &self.mounts {
            let at = self.programs.layout.place(*place);
            undo.run(&Step::PlaceMount { mount: mount.clone(), place: *place, at })?;
        }
        Ok(())
    }

    /// Makes the supervisor's group, and arms what takes back conmon's and the runtime's doings:
    /// kill conmon and the runtime first, then have the runtime forget, then kill what remains.
    fn prepare_cgroups(&self, undo: &mut Undo, root: &Fd) -> Result<(), Cause> {
        let own = &self.request.cgroup;
        groups::make(undo, root, own)?;
        undo.arm(Step::ClearCgroup { root: root.clone(), path: own.payload() });
        undo.arm(Step::Call(self.programs.delete(Force::Kill)));
        undo.arm(Step::ClearCgroup { root: root.clone(), path: own.supervisor() });
        let path = own.supervisor();
        crate::undo::run(&Step::MakeCgroup { root: root.clone(), path }).map(drop)
    }

    fn identify(&self, kin: &mut Kin<'_>, pid: u32) -> Result<Created, Cause> {
        let pid_file = self.programs.layout.supervisor_pid();
        let supervisor: Started = identify::supervisor(kin, &pid_file)?.ok_or_else(silent)?;
        let init = identify::child_of(kin, supervisor.pid, pid)?.ok_or(Cause::Gone)?;
        Ok(Created { supervisor, init })
    }
}

fn silent() -> Cause {
    Cause::Supervisor { message: "conmon ended early".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Place::{Rootfs, Shm};

    #[test]
    fn log_paths_that_conmon_would_misread_are_refused() {
        for (path, want) in [
            ("/var/log/c", true),
            ("var/log/c", false),
            ("/var/log:c", false),
            ("/var/log\nc", false),
            ("", false),
        ] {
            assert_eq!(is_log_path(Path::new(path)), want, "{path:?}");
        }
    }

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
        ] {
            let mounts: Vec<_> = places.iter().map(|place| mount(*place)).collect();
            assert_eq!(are_places(&mounts), want, "{places:?}");
        }
    }
}
