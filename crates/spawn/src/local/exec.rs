use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
use crate::{Cause, Error, Exec, Execed, Extent, Layout, Refusal, Settings, Streams};

/// How much of the end of a runtime's log is read, in bytes.
const MAX_LOG: u64 = 16 << 10;

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
            .and_then(|execed| self.with_terminal(execed, listener))
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

    /// The runtime has sent it before it said the pid of the process.
    fn with_terminal(&self, execed: Execed, listener: Option<Fd>) -> Result<Execed, Cause> {
        let Some(listener) = listener else { return Ok(execed) };
        let sent = socket::sent_terminal(&listener);
        let sent = sent.map_err(|source| failed(&"receive a terminal", source))?;
        let none = || Cause::Runtime { message: "sent no terminal".into() };
        let terminal = Some(sent.ok_or_else(none)?);
        let path = self.programs.layout.terminal_socket(self.request.session);
        run(&Step::RemoveSocket(path))?;
        Ok(Execed { terminal, ..execed })
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
