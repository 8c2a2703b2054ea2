//! Running further processes in a container.

use std::fs::{self, DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use tare_runtime::ContainerName;
use tare_spawn::{Execed, Incarnation as Number, Layout};
use tare_specgen::{ExecRequest, RootfsFacts, exec_process};
use tare_storage::{Access, NewFile, Rootfs, write_files};

use super::blocking::brief;
use super::clock::Usec;
use super::container::{Container, Running};
use super::process::{runtime_error, target};
use super::records::sessions;
use super::start::{MAX_ACCOUNTS, file_name};
use super::view;
use super::{Engine, Error, spawn_id};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

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
        let record = recorded(&running, &session, by.uid);
        let (stdio, pipes) = open(stdio)?;
        self.write_session(&record).await?;
        let number = session.number;
        match self.spawn_exec(&container, &running, session, request, stdio).await {
            Ok(execed) => {
                self.session_begun(&container, record, execed).await;
                Ok(Executed { number, pipes })
            }
            Err(error) => {
                self.forget_session(&record).await;
                let has_ended = running.init.has_ended() && !matches!(error, Error::InvalidSpec(_));
                // Whatever failed, that is why.
                Err(if has_ended { Error::NotRunning(container.row.name.clone()) } else { error })
            }
        }
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
            let process = process_json(&name, &session, &running, &request)?;
            write_session(&session, process)?;
            let exec = tare_spawn::Exec {
                target: target(&running.record),
                session: session.number,
                cgroup: running.record.cgroup.clone(),
            };
            spawner.exec(&exec, supervisor.as_fd(), stdio).map_err(|source| {
                let _ = fs::remove_dir_all(session.layout().exec(session.number));
                runtime_error("run a process in", &name, source)
            })
        })
        .await
    }
}

/// What is written down of a session before it is begun.
fn recorded(running: &Running, session: &Session, uid: u32) -> sessions::Session {
    sessions::Session {
        v: 1,
        container: running.record.container.clone(),
        number: session.number,
        incarnation: running.record.number,
        started: Usec::now(),
        started_by_uid: uid,
        stage: sessions::Stage::Beginning,
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
            let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
            Ok((null.into(), None))
        }
        Stdio::Pipe => {
            let (reader, writer) = std::io::pipe().map_err(failed)?;
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
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
    let file =
        NewFile { name: file_name("process.json")?, content: process, access: Access::Private };
    let dir = File::open(dir).map_err(failed)?;
    write_files(dir.as_fd(), &[file]).map_err(Error::Storage)
}
