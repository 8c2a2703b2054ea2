//! Running further processes in a container.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tare_runtime::identity::Identity;
use tare_runtime::{ContainerName, exit};
use tare_spawn::{Execed, Incarnation as Number, Layout};
use tare_specgen::{ExecRequest, RootfsFacts, exec_process};
use tare_storage::{Access, NewFile, Rootfs, write_files};

use super::blocking::brief;
use super::clock::Usec;
use super::container::{Container, Running};
use super::end::how;
use super::events::Event;
use super::start::{MAX_ACCOUNTS, file_name, runtime_error, target};
use super::view::{self, ExecSession};
use super::watched::Watched;
use super::{Engine, Error, spawn_id};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::effects;

/// An exec session that has ended is seen for this long.
const LINGER: Duration = Duration::from_secs(60);
/// How long conmon may take to write the exit code after the process has ended.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(10);

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
    id: tare_spawn::ContainerId,
    incarnation: Number,
    number: u32,
}

impl Session {
    fn layout(&self) -> Layout<'_> {
        Layout::new(&self.run_dir, &self.id, self.incarnation)
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
        let (Exec { container, request, stdio }, by) = request.into_parts();
        let container = self.container(&container.id)?;
        let (running, session) = self.session(&container).await?;
        // Its end waits until this is done, one way or the other.
        let _in_use = running.in_use.read().await;
        let number = session.number;
        let (stdio, pipes) = open(stdio)?;
        let execed = self.spawn_exec(&container, &running, session, request, stdio).await;
        let execed = execed.map_err(|error| match error {
            Error::InvalidSpec(_) => error,
            // Whatever failed, that is why.
            _ if running.init.has_ended() => Error::NotRunning(container.row.name.clone()),
            _ => error,
        })?;
        self.show_session(&container, &running, number, execed, by.uid);
        Ok(Executed { number, pipes })
    }

    async fn session(&self, container: &Container) -> Result<(Running, Session), Error> {
        let mut life = container.lock().await?;
        let running =
            life.running.clone().ok_or_else(|| Error::NotRunning(container.row.name.clone()))?;
        life.session += 1;
        let session = Session {
            run_dir: self.instance.run_dir().into(),
            id: spawn_id(&running.record.container),
            incarnation: Number(running.record.number),
            number: life.session,
        };
        Ok((running, session))
    }

    async fn spawn_exec(
        &self,
        container: &Container,
        running: &Running,
        session: Session,
        request: ExecRequest,
        stdio: [OwnedFd; 3],
    ) -> Result<Execed, Error> {
        let supervisor = running.supervisor(&container.row.name)?.pidfd();
        let (spawner, name, running) =
            (self.spawner.clone(), container.row.name.clone(), running.clone());
        brief(move || {
            let exec = tare_spawn::Exec {
                target: target(&running.record),
                session: session.number,
                cgroup: running.record.cgroup.clone(),
            };
            let execute = || {
                let process = process_json(&name, &session, &running, &request)?;
                write_session(&session, process)?;
                spawner
                    .exec(&exec, supervisor.as_fd(), stdio)
                    .map_err(|source| runtime_error("run a process in", &name, source))
            };
            execute().inspect_err(|_| {
                // What stays goes with the container.
                let _ = effects::remove_dir(&session.layout().exec(session.number));
            })
        })
        .await
    }

    fn show_session(
        &self,
        container: &Arc<Container>,
        running: &Running,
        number: u32,
        execed: Execed,
        uid: u32,
    ) {
        let identity =
            execed.process.as_ref().and_then(|process| Identity::of(process.pidfd.as_fd()).ok());
        let session = Arc::new(ExecSession {
            container: container.row.id.clone(),
            number,
            pid: identity.map_or(0, |identity| identity.pid),
            pidfd_id: identity.map_or(0, |identity| identity.pidfd_inode),
            exit: None,
            started: Usec::now(),
            started_by_uid: uid,
        });
        self.events.tell(Event::ProcessAdded(session.clone()));
        container.show(|view| view.processes.push(number));
        self.watch_session(container.clone(), running.clone(), session, execed);
    }

    fn watch_session(
        &self,
        container: Arc<Container>,
        running: Running,
        session: Arc<ExecSession>,
        execed: Execed,
    ) {
        let engine = self.clone();
        tokio::spawn(async move {
            let exit = engine.session_end(&running, &session, execed).await;
            let new = Arc::new(ExecSession { pid: 0, exit: Some(exit), ..(*session).clone() });
            engine.events.tell(Event::ProcessExited { old: session, new: new.clone(), exit });
            engine.clean_session(&running, new.number).await;
            // The container may end meanwhile, and nothing of it is to be held.
            drop(running);
            tokio::time::sleep(LINGER).await;
            container.show(|view| view.processes.retain(|number| *number != new.number));
            engine.events.tell(Event::ProcessRemoved(new.container.clone(), new.number));
        });
    }

    /// Waits for the end of a session. What it was watched by goes with this, and not after the
    /// time for which it is seen.
    async fn session_end(
        &self,
        running: &Running,
        session: &ExecSession,
        execed: Execed,
    ) -> view::Exit {
        let watch = |started: tare_spawn::Started| Watched::new(started.pidfd).ok();
        let process = execed.process.and_then(watch);
        if let Some(process) = &process {
            process.ended().await;
        }
        if let Some(supervisor) = execed.supervisor.and_then(watch) {
            let _ = tokio::time::timeout(SUPERVISOR_TIMEOUT, supervisor.ended()).await;
        }
        self.session_exit(running, session, process.as_ref())
    }

    fn session_exit(
        &self,
        running: &Running,
        session: &ExecSession,
        process: Option<&Watched>,
    ) -> view::Exit {
        let id = spawn_id(&running.record.container);
        let layout = Layout::new(self.instance.run_dir(), &id, Number(running.record.number));
        let dir = layout.exec_exit_dir(session.number);
        let file = exit::read_exit_file(&dir, &running.record.container).ok().flatten();
        how(file, process.and_then(|fd| exit::exit_info(fd.as_fd()).ok().flatten()))
    }

    /// The session's group and files; those of a container that has ended meanwhile are gone.
    async fn clean_session(&self, running: &Running, number: u32) {
        let (spawner, group) = (self.spawner.clone(), running.record.cgroup.session(number));
        let id = spawn_id(&running.record.container);
        let dir =
            Layout::new(self.instance.run_dir(), &id, Number(running.record.number)).exec(number);
        let work = move || {
            if let Err(error) = spawner.cleanup_cgroup(&group) {
                tracing::warn!("{error}");
            }
            if let Err(error) = effects::remove_dir(&dir) {
                tracing::warn!("cannot remove {}: {error}", dir.display());
            }
            Ok(())
        };
        let _: Result<(), Error> = brief(work).await;
    }
}

fn open(stdio: [Stdio; 3]) -> Result<([OwnedFd; 3], [Option<OwnedFd>; 3]), Error> {
    let [input, output, errors] = stdio;
    let (input, to_input) = open_one(input, Direction::In)?;
    let (output, from_output) = open_one(output, Direction::Out)?;
    let (errors, from_errors) = open_one(errors, Direction::Out)?;
    Ok(([input, output, errors], [to_input, from_output, from_errors]))
}

#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

/// The process's end, and the caller's if there is one.
fn open_one(stdio: Stdio, direction: Direction) -> Result<(OwnedFd, Option<OwnedFd>), Error> {
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
    running: &Running,
    request: &ExecRequest,
) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Host { what: "read the configuration of a container", source };
    let config = fs::read(session.layout().config_json()).map_err(failed)?;
    // The root as the container's own process sees it, whatever is mounted on it since.
    let pid = running.record.init.map_or(0, |init| init.pid);
    let root = File::open(format!("/proc/{pid}/root")).map_err(failed)?;
    // If it has not ended by now, that was its own root and not that of a later process.
    if running.init.has_ended() {
        return Err(Error::NotRunning(name.clone()));
    }
    let rootfs = Rootfs::from_fd(OwnedFd::from(root));
    let read = |path| rootfs.read_file(path, MAX_ACCOUNTS).map_err(Error::Storage);
    let mut facts = RootfsFacts::default();
    facts.passwd = read("/etc/passwd")?;
    facts.group = read("/etc/group")?;
    exec_process(&config, &facts, request).map_err(Error::InvalidSpec)
}

fn write_session(session: &Session, process: Vec<u8>) -> Result<(), Error> {
    let failed = |source| Error::Host { what: "write the files of an exec session", source };
    let layout = session.layout();
    let dir = layout.exec(session.number);
    effects::make_dir(&dir, 0o700).map_err(failed)?;
    let file =
        NewFile { name: file_name("process.json")?, content: process, access: Access::Private };
    let dir = File::open(dir).map_err(failed)?;
    write_files(dir.as_fd(), &[file]).map_err(Error::Storage)
}
