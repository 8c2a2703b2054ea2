use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

use super::identify;
use super::reaper::{Kin, Reaper};
use super::supervise::{Answer, start_conmon};
use crate::argv::{Programs, exec_log};
use crate::launch::{Fd, Group, Launch};
use crate::message::last_words;
use crate::step::{Done, Step};
use crate::sys::socket;
use crate::undo::{Failure, Undo, failed, run};
use crate::view;
use crate::{Cause, Error, Exec, Execed, Extent, Layout, Refusal, Settings, Started, Streams};

/// How much of the end of a runtime's log is read, in bytes.
const MAX_LOG: u64 = 16 << 10;
/// The device that terminals are made by, and their other side is: `TTYAUX_MAJOR`, 2.
const PTMX: (u32, u32) = (5, 2);

pub(super) fn exec(
    settings: &Settings,
    reaper: &Reaper,
    request: &Exec,
    supervisor: BorrowedFd<'_>,
    stdio: [OwnedFd; 3],
) -> Result<Execed, Error> {
    let stdio = stdio.map(Arc::new);
    let run = || -> Result<Execed, Failure> {
        let programs = plan(settings, request).map_err(Cause::Refused)?;
        let no_thread = |source| failed(&"start a thread", source).into();
        view::on_own_thread_or(
            || {
                let (mut undo, mut kin) = (Undo::default(), reaper.kin());
                let session = Session { programs, request, supervisor };
                let result = session.carry_out(&mut undo, &mut kin, stdio);
                undo.end(result)
            },
            no_thread,
        )
    };
    run().map_err(|Failure { cause, leftovers }| {
        let id = request.target.id.clone();
        Error::Exec { id, session: request.session, cause, leftovers }
    })
}

fn plan<'a>(settings: &'a Settings, request: &'a Exec) -> Result<Programs<'a>, Refusal> {
    let target = &request.target;
    let layout = Layout::new(&settings.run_dir, &target.id, target.incarnation);
    let runtime = settings.program(target.runtime).ok_or(Refusal::NoRuntime)?;
    if !layout.exec_process(request.session).is_file() {
        return Err(Refusal::NoConfig);
    }
    if layout.exec_exit_dir(request.session).exists() {
        return Err(Refusal::Exists);
    }
    Ok(Programs { settings, layout, target, runtime })
}

/// A request that was checked.
struct Session<'a> {
    programs: Programs<'a>,
    request: &'a Exec,
    supervisor: BorrowedFd<'a>,
}

impl Session<'_> {
    /// Runs on a thread that ends, since it moves it into the container's view.
    fn carry_out(
        &self,
        undo: &mut Undo,
        kin: &mut Kin<'_>,
        stdio: [Fd; 3],
    ) -> Result<Execed, Cause> {
        let root = view::cgroup_root(self.programs.settings.cgroups)?;
        undo.run(&Step::MakeDir(self.programs.layout.exec_exit_dir(self.request.session)))?;
        view::enter(self.supervisor)?;
        // conmon and the runtime get a group that can be killed without the container's own conmon.
        let cgroup = self.request.cgroup.session(self.request.session);
        undo.arm(Step::ClearCgroup {
            root: root.clone(),
            path: cgroup.clone(),
            extent: Extent::Whole,
        });
        crate::undo::run(&Step::MakeCgroup { root: root.clone(), path: cgroup.clone() })?;

        // It begins there: one that was outside for a moment would be lost if we were killed in it.
        let group = Some(Group { root: root.clone(), path: cgroup.clone() });
        let launch = |fds| Launch { group, ..self.programs.exec(self.request, stdio, fds) };
        let listener = self.listen(undo)?;
        start_conmon(undo, launch)
            .and_then(|mut conmon| conmon.go_on(undo, Vec::new()))
            .and_then(|answer| self.understand(kin, answer))
            .and_then(|execed| self.with_terminal(undo, execed, listener))
            .inspect_err(|_| {
                kin.add_group(&root, &cgroup);
                self.doom(kin);
            })
    }

    /// What crun had already moved to the container's processes dies among them, some time. While it
    /// is a zombie, the container's first process cannot end.
    fn doom(&self, kin: &mut Kin<'_>) {
        let Exec { cgroup, session, .. } = self.request;
        kin.add_doomed_group(cgroup.session(*session));
        kin.add_doomed_group(cgroup.payload());
    }

    /// Where the runtime can send a terminal, if one is asked for.
    fn listen(&self, undo: &mut Undo) -> Result<Option<Fd>, Cause> {
        if self.request.streams == Streams::Given {
            return Ok(None);
        }
        let path = self.programs.layout.terminal_socket(self.request.session);
        match undo.run(&Step::ListenForTerminal(path))? {
            Done::Fd(listener) => Ok(Some(listener)),
            other => unreachable!("listening gave {other:?}"),
        }
    }

    fn with_terminal(
        &self,
        undo: &mut Undo,
        execed: Execed,
        listener: Option<Fd>,
    ) -> Result<Execed, Cause> {
        match listener.map(|listener| self.terminal(&listener)).transpose() {
            Ok(terminal) => Ok(Execed { terminal, ..execed }),
            Err(cause) => {
                // It runs, and in the container's group, which is not cleared.
                if let Some(Started { pid, pidfd }) = execed.process {
                    undo.arm(Step::Kill { pid, pidfd: Arc::new(pidfd) });
                }
                Err(cause)
            }
        }
    }

    /// The runtime has sent it before it said the pid of the process.
    fn terminal(&self, listener: &OwnedFd) -> Result<OwnedFd, Cause> {
        let sent = socket::sent_terminal(listener);
        let sent = sent.map_err(|source| failed(&"receive a terminal", source))?;
        // What it has opened for one is the container's, and may be anything.
        let none = || Cause::Runtime { message: "sent no terminal".into() };
        let terminal = sent.filter(is_terminal).ok_or_else(none)?;
        run(&Step::RemoveSocket(self.programs.layout.terminal_socket(self.request.session)))?;
        Ok(terminal)
    }

    fn understand(&self, kin: &mut Kin<'_>, answer: Answer) -> Result<Execed, Cause> {
        match answer {
            Answer::Pid(pid) => self.identify(kin, pid),
            Answer::Failed(message) => Err(Cause::Runtime { message }),
            Answer::Silent => Err(Cause::Runtime { message: log_words(&exec_log(&self.dir())) }),
        }
    }

    fn dir(&self) -> PathBuf {
        self.programs.layout.exec(self.request.session)
    }

    fn identify(&self, kin: &mut Kin<'_>, pid: u32) -> Result<Execed, Cause> {
        let exit_file = self.programs.layout.exec_exit_file(self.request.session);
        let supervisor = identify::supervisor(kin, &self.dir().join("conmon.pid"))?;
        let process = match &supervisor {
            Some(supervisor) => identify::child_of(kin, supervisor.pid, pid, &exit_file)?,
            None => None,
        };
        // A conmon that ends by itself has waited for its child and told how that ended.
        if process.is_none() && !exit_file.exists() {
            self.doom(kin);
        }
        Ok(Execed { supervisor, process, terminal: None })
    }
}

/// Whether this is the side of a terminal that is not the process's. The kernel knows it by itself: a
/// filesystem that is asked may never answer.
fn is_terminal(fd: &OwnedFd) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(fd, c"", flags, StatxFlags::TYPE).is_ok_and(|stat| {
        let device = (stat.stx_rdev_major, stat.stx_rdev_minor);
        FileType::from_raw_mode(stat.stx_mode.into()).is_char_device() && device == PTMX
    })
}

/// The last error in the log of a runtime.
fn log_words(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(MAX_LOG)))?;
        let mut end = Vec::new();
        file.take(MAX_LOG).read_to_end(&mut end)?;
        Ok(end)
    };
    last_words(&read().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_other_side_of_a_terminal_is_one() {
        let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
        assert!(is_terminal(&open("/dev/ptmx")));
        for path in ["/dev/null", "/proc/self/stat", "/"] {
            assert!(!is_terminal(&open(path)), "{path}");
        }
    }
}
