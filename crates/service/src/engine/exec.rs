//! Running further processes in a container.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use tare_runtime::{ContainerName, terminal};
use tare_spawn::{Cause, Execed, Extent, Layout, Streams};
use tare_specgen::{ExecRequest, RootfsFacts, TerminalSize, exec_process};
use tare_storage::{Access, NewFile, Rootfs, write_files};
use tokio::sync::OwnedRwLockReadGuard;

use super::blocking::brief;
use super::bundle::{MAX_ACCOUNTS, file_name};
use super::clock::Usec;
use super::container::{Container, Pace, Running};
use super::process::runtime_error;
use super::records::Version;
use super::records::volatile::{self, SessionKey, SessionStage};
use super::view;
use super::watched::Watched;
use super::{Engine, Error};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::effects;

/// A process to be run in a container.
#[derive(Debug)]
pub struct Exec {
    /// In which container.
    pub container: Arc<view::Container>,
    /// What.
    pub request: ExecRequest,
    /// Its standard input, output and error.
    pub stdio: [Stdio; 3],
}

/// One of the three standard files of a process.
#[derive(Debug)]
pub enum Stdio {
    /// `/dev/null`.
    Null,
    /// This file.
    Given(OwnedFd),
    /// A pipe, whose other end goes to the caller.
    Pipe,
}

/// A process that runs in a container.
#[derive(Debug)]
pub struct Executed {
    /// Number of its session.
    pub number: u32,
    /// The callers' ends of its pipes: standard input, output and error.
    pub pipes: [Option<OwnedFd>; 3],
    /// The other side of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
}

impl Ask for Exec {
    fn question(&self, by: &Caller) -> Question {
        let action = if self.container.privileged {
            Action::ExecPrivilegedContainer
        } else {
            Action::ExecContainer
        };
        Question::about(action, &self.container, by).with("verb", "exec")
    }
}

/// What the files of a session need to know.
struct Session {
    run_dir: std::path::PathBuf,
    running: Arc<Running>,
    number: u32,
}

impl Session {
    fn layout(&self) -> Layout<'_> {
        self.running.layout(&self.run_dir)
    }
}

impl Engine {
    /// Runs a process in a container that runs; returns when it has been executed.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::CommandNotFound`], [`Error::CommandNotExecutable`],
    /// [`Error::InvalidSpec`] for an unknown user, [`Error::Runtime`].
    pub async fn exec(&self, request: Authorized<Exec>) -> Result<Executed, Error> {
        let (Exec { container: asked, request, stdio }, by) = request.into_parts();
        let container = self.container(&asked.id)?;
        // Its end waits until this is done, one way or the other.
        let (session, _in_use) = self.session(&container, &asked).await?;
        let (running, number) = (session.running.clone(), session.number);
        let record = recorded(&container, &session, by.uid, &request);
        let (stdio, pipes) = open(stdio)?;
        self.write_session(&record).await?;
        match self.spawn_exec(&container, session, request, stdio).await {
            Ok(mut execed) => {
                let terminal = execed.terminal.take();
                self.session_begun(&container, record, execed).await;
                Ok(Executed { number, pipes, terminal })
            }
            Err(error) => {
                self.forget_session(&record.key).await;
                let has_ended = running.init.has_ended() && !matches!(error, Error::InvalidSpec(_));
                // Whatever failed, that is why.
                Err(if has_ended { Error::NotRunning(container.name()) } else { error })
            }
        }
    }

    /// Runs a process in a container that is not shown; what there is of it.
    pub(super) async fn begin_unseen(
        &self,
        container: &Arc<Container>,
        request: ExecRequest,
        stdio: [OwnedFd; 3],
    ) -> Result<(volatile::Session, (Option<Watched>, Option<Arc<Watched>>)), Error> {
        let (session, _in_use) = self.session(container, &container.view()).await?;
        let mut record = recorded(container, &session, 0, &request);
        record.unseen = true;
        self.write_session(&record).await?;
        match self.spawn_exec(container, session, request, stdio).await {
            Ok(execed) => {
                let (supervisor, process) = self.session_recorded(&mut record, execed).await;
                Ok((record, (supervisor, process.map(Arc::new))))
            }
            Err(error) => {
                self.forget_session(&record.key).await;
                Err(error)
            }
        }
    }

    async fn session(
        &self,
        container: &Container,
        asked: &view::Container,
    ) -> Result<(Session, OwnedRwLockReadGuard<()>), Error> {
        let mut life = container.lock_unchanged(asked).await?;
        let running = life.running().cloned();
        let running = running.ok_or_else(|| Error::NotRunning(container.name()))?;
        if life.pace(running.number()) != Some(Pace::Free) {
            return Err(container.wrong_state("to be running"));
        }
        life.session += 1;
        let in_use = running.in_use.clone().read_owned().await;
        let run_dir = self.instance.run_dir().into();
        Ok((Session { run_dir, running, number: life.session }, in_use))
    }

    async fn spawn_exec(
        &self,
        container: &Container,
        session: Session,
        request: ExecRequest,
        stdio: [OwnedFd; 3],
    ) -> Result<Execed, Error> {
        let supervisor = session.running.supervisor(&container.name())?.pidfd();
        let (spawner, name) = (self.spawner.clone(), container.name());
        brief(move || {
            let exec = tare_spawn::Exec {
                target: session.running.target.clone(),
                session: session.number,
                cgroup: session.running.cgroup.clone(),
                streams: match request.terminal {
                    Some(_) => Streams::Terminal,
                    None => Streams::Given,
                },
            };
            let execute = || {
                let process = process_json(&name, &session, &request)?;
                write_files_of(&session, process)?;
                let execed = spawner.exec(&exec, supervisor.as_fd(), stdio).inspect(|execed| {
                    set_size(execed, &request);
                });
                execed.map_err(|source| {
                    if !is_taken_back(&source) {
                        let group = exec.cgroup.session(exec.session);
                        if let Err(error) = spawner.cleanup_cgroup(&group, Extent::Whole) {
                            tracing::warn!("{error}");
                        }
                    }
                    runtime_error("run a process in", &name, source)
                })
            };
            execute().inspect_err(|_| {
                // What stays goes with the container, or the daemon.
                let _ = effects::remove_file(&session.layout().terminal_socket(session.number));
                let _ = effects::remove_dir(&session.layout().exec(session.number));
            })
        })
        .await
    }
}

/// Whether whoever could not run a process has said that nothing of it is left.
fn is_taken_back(error: &tare_spawn::Error) -> bool {
    let unsaid = matches!(error.cause(), Some(Cause::NoAnswer | Cause::Timeout { .. }));
    !unsaid && error.leftovers().is_empty()
}

/// What is written down of a session before it is begun.
fn recorded(
    container: &Container,
    session: &Session,
    uid: u32,
    request: &ExecRequest,
) -> volatile::Session {
    volatile::Session {
        v: Version,
        key: SessionKey { container: container.id.clone(), number: session.number },
        incarnation: session.running.number(),
        started: Usec::now(),
        started_by_uid: uid,
        unseen: false,
        terminal: request.terminal.is_some(),
        stage: SessionStage::Beginning,
    }
}

/// Some runtimes do not do it. Whoever has the terminal can do it too, so that it fails is no more than
/// said.
fn set_size(execed: &Execed, request: &ExecRequest) {
    let (Some(terminal), Some(size)) = (&execed.terminal, request.terminal) else { return };
    if size != TerminalSize::default()
        && let Err(error) = terminal::set_size(terminal, size.rows, size.columns)
    {
        tracing::warn!("{error}");
    }
}

/// The standard files of a process that nobody talks to.
pub(super) fn nothing_to_read() -> Result<[OwnedFd; 3], Error> {
    Ok(open([Stdio::Null, Stdio::Null, Stdio::Null])?.0)
}

fn open(stdio: [Stdio; 3]) -> Result<([OwnedFd; 3], [Option<OwnedFd>; 3]), Error> {
    let [input, output, errors] = stdio;
    let (input, to_input) = open_one(input, Direction::In)?;
    let (output, from_output) = open_one(output, Direction::Out)?;
    let (errors, from_errors) = open_one(errors, Direction::Out)?;
    Ok(([input, output, errors], [to_input, from_output, from_errors]))
}

/// Which way a container's standard file goes.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    /// It reads.
    In,
    /// It writes.
    Out,
}

/// The process's end, and the caller's if there is one.
pub(super) fn open_one(
    stdio: Stdio,
    direction: Direction,
) -> Result<(OwnedFd, Option<OwnedFd>), Error> {
    let failed = |source| Error::Host { what: "make a pipe", source };
    match stdio {
        Stdio::Given(fd) => Ok((fd, None)),
        Stdio::Null => {
            let null = effects::open_null().map_err(failed)?;
            Ok((null.into(), None))
        }
        Stdio::Pipe => {
            let (reader, writer) = effects::pipe().map_err(failed)?;
            Ok(match direction {
                Direction::In => (reader.into(), Some(writer.into())),
                Direction::Out => (writer.into(), Some(reader.into())),
            })
        }
    }
}

fn process_json(
    name: &ContainerName,
    session: &Session,
    request: &ExecRequest,
) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Host { what: "read the configuration of a container", source };
    let config = fs::read(session.layout().config_json()).map_err(failed)?;
    let root = root_of(name, session.running.pid)?;
    // If it has not ended by now, that was its own root and not that of a later process.
    if session.running.init.has_ended() {
        return Err(Error::NotRunning(name.clone()));
    }
    let rootfs = Rootfs::from_fd(OwnedFd::from(root));
    let read = |path| rootfs.read_file(path, MAX_ACCOUNTS).map_err(Error::Storage);
    let mut facts = RootfsFacts::default();
    // Nobody is looked up else, and what is there now could keep everybody out, also who sees whether all is well.
    if request.user.is_some() {
        facts.passwd = read("/etc/passwd")?;
        facts.group = read("/etc/group")?;
    }
    exec_process(&config, &facts, request).map_err(Error::InvalidSpec)
}

/// The root as the container's own process sees it, whatever is mounted on it since.
pub(super) fn root_of(name: &ContainerName, pid: u32) -> Result<File, Error> {
    File::open(format!("/proc/{pid}/root")).map_err(|source| {
        // A process that ends has no root any more before anybody is told of its end.
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::SRCH) => Error::NotRunning(name.clone()),
            _ => Error::Host { what: "open the root of a container", source },
        }
    })
}

fn write_files_of(session: &Session, process: Vec<u8>) -> Result<(), Error> {
    let failed = |source| Error::Host { what: "write the files of an exec session", source };
    let layout = session.layout();
    let dir = layout.exec(session.number);
    effects::make_dir(&dir, 0o700).map_err(failed)?;
    let (name, access) = (file_name("process.json")?, Access::Private);
    let file = NewFile { name, content: process, access, label: None };
    let dir = File::open(dir).map_err(failed)?;
    write_files(dir.as_fd(), &[file]).map_err(Error::Storage)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    #[test]
    fn what_has_ended_does_not_run() {
        let name: ContainerName = "c".parse().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&child)), ended).unwrap();
        let error = root_of(&name, child.id()).unwrap_err();
        assert!(matches!(error, Error::NotRunning(_)), "a zombie: {error:?}");
        child.wait().unwrap();
        let error = root_of(&name, child.id()).unwrap_err();
        assert!(matches!(error, Error::NotRunning(_)), "gone: {error:?}");
        root_of(&name, std::process::id()).unwrap();
    }
}
