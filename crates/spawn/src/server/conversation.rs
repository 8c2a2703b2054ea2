//! One connection: a greeting, a call, its answer.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::Timeout;

use super::Inner;
use crate::sys::socket::{self, Packet, Peer, Received};
use crate::wire::{self, Answer, Call, Hello, OLDEST, Reply, VERSION, Welcome};
use crate::{
    Attach, Checkpoint, ContainerId, Create, Created, Error, Exec, Execed, Place, PlacedMount,
    Rejection, Started,
};

/// How long a caller may take to make ready what a container needs while its conmon waits.
const PREPARATION: Duration = Duration::from_secs(120);

/// How long a caller may take to take what else belongs to a checkpoint while a container stands still.
const CAPTURE: Duration = Duration::from_secs(240);

/// A connection.
pub(super) struct Conversation<'a> {
    pub(super) inner: &'a Inner,
    pub(super) socket: &'a OwnedFd,
    pub(super) peer: &'a Peer,
}

/// Why a conversation ends early.
enum Stop {
    /// The other side has gone.
    Gone,
    /// What it said is not accepted.
    Rejected(Rejection),
    /// The connection failed.
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Tells why nobody listens.
pub(super) fn refuse(socket: &OwnedFd, rejection: Rejection) -> io::Result<()> {
    tracing::warn!("refused a call: {rejection}");
    let text = wire::encode(&Reply::Rejected(rejection))?;
    match socket::send(socket, &text, &[]) {
        // It is not there to hear it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

impl Conversation<'_> {
    /// Has the conversation, to its end.
    pub(super) fn hold(&self) {
        let ended = match self.talk() {
            Ok(()) | Err(Stop::Gone) => Ok(()),
            Err(Stop::Rejected(rejection)) => refuse(self.socket, rejection),
            Err(Stop::Failed(error)) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(peer = self.peer.pid.as_raw_nonzero(), "a call broke off: {error}");
        }
    }

    fn talk(&self) -> Result<(), Stop> {
        socket::set_timeout(self.socket, Timeout::Send, self.inner.patience)?;
        self.greet()?;
        let (call, fds) = self.hear(self.inner.patience)?;
        self.answer(call, fds)
    }

    fn greet(&self) -> Result<(), Stop> {
        let Packet { text, fds } = self.receive(self.inner.patience)?;
        let hello: Hello = wire::decode(&text)?;
        if !fds.is_empty() {
            return Err(Rejection::Descriptors.into());
        }
        let version = hello.newest.min(VERSION);
        if version < hello.oldest.max(OLDEST) {
            return Err(Rejection::Version { oldest: OLDEST, newest: VERSION }.into());
        }
        let welcome = Welcome { version, run_dir: self.inner.run_dir.clone() };
        self.say(&Reply::Welcome(welcome), &[])
    }

    fn answer(&self, call: Call, fds: Vec<OwnedFd>) -> Result<(), Stop> {
        let spawner = &self.inner.spawner;
        match call {
            Call::Prepare(request) => self.alone(&request.id, || self.create(&request, fds)),
            Call::Create { .. } | Call::Commit {} => Err(Rejection::OutOfTurn.into()),
            Call::Start(target) => {
                let conmon = pidfd(fds.first())?;
                self.alone(&target.id, || self.done(spawner.start(&target, conmon.as_fd())))
            }
            Call::Delete { target, force } => {
                let conmon = fds.first().map(|fd| pidfd(Some(fd))).transpose()?;
                let delete = || spawner.delete(&target, conmon.map(AsFd::as_fd), force);
                self.alone(&target.id, || self.reply(delete(), |it| (Answer::Deleted(it), vec![])))
            }
            Call::SwapFile { target, file } => {
                let init = pidfd(fds.first())?;
                let swap = || spawner.swap_file(&target, file, init.as_fd());
                self.alone(&target.id, || self.reply(swap(), |it| (Answer::Swapped(it), vec![])))
            }
            Call::Checkpoint(request) => {
                self.alone(&request.target.id, || self.checkpoint(&request, fds))
            }
            Call::Exec(request) => self.shared(&request.target.id, || self.exec(&request, fds)),
            Call::Attach { attach, streams } => {
                self.shared(&attach.target.id, || self.attach(&attach, streams, fds))
            }
            Call::Version { runtime } => {
                self.reply(spawner.version(runtime), |it| (Answer::Version(it), vec![]))
            }
            Call::Limits {} => self.reply(spawner.limits(), |it| (Answer::Limits(it), vec![])),
            Call::LoadProfile { profile } => self.done(spawner.load_profile(&profile)),
            Call::UnloadProfile { name } => self.done(spawner.unload_profile(&name)),
            Call::MakeUsers(map) => {
                self.reply(spawner.make_users(&map), |users| (Answer::Users, vec![users]))
            }
            Call::CleanupCgroup { cgroup, extent } => {
                self.done(spawner.cleanup_cgroup(&cgroup, extent))
            }
            Call::MakeCgroup { cgroup } => self.done(spawner.make_cgroup(&cgroup)),
            Call::RemoveEmptyCgroup { cgroup } => self.done(spawner.remove_empty_cgroup(&cgroup)),
        }
    }

    /// Both parts of creating a container. If the caller goes away between them, or says something
    /// else, what was prepared is dropped, and so taken back.
    fn create(&self, request: &Create, kept: Vec<OwnedFd>) -> Result<(), Stop> {
        let prepared = match self.inner.spawner.prepare(request, kept) {
            Ok(prepared) => prepared,
            Err(error) => return self.failed(error),
        };
        let Started { pid, pidfd } = prepared.supervisor();
        self.say(&Reply::Done(Answer::Prepared { supervisor: *pid }), &[pidfd])?;
        let (Call::Create { places }, fds) = self.hear(PREPARATION)? else {
            return Err(Rejection::OutOfTurn.into());
        };
        self.reply(prepared.create(placed(places, fds)), |Created { supervisor, init }| {
            let pids = Answer::Created { supervisor: supervisor.pid, init: init.pid };
            (pids, vec![supervisor.pidfd, init.pidfd])
        })
    }

    /// Both parts of a checkpoint. If the caller goes away between them, or says something else, what
    /// was dumped is dropped, and so the container goes on.
    fn checkpoint(&self, request: &Checkpoint, fds: Vec<OwnedFd>) -> Result<(), Stop> {
        let [conmon, images] = <[OwnedFd; 2]>::try_from(fds).map_err(|_| Rejection::Descriptors)?;
        let conmon = pidfd(Some(&conmon))?;
        let dumped = match self.inner.spawner.checkpoint(request, conmon.as_fd(), images) {
            Ok(dumped) => dumped,
            Err(error) => return self.failed(error),
        };
        self.say(&Reply::Done(Answer::Nothing), &[])?;
        match self.hear(CAPTURE)? {
            (Call::Commit {}, _) => self.done(dumped.commit()),
            _ => Err(Rejection::OutOfTurn.into()),
        }
    }

    fn exec(&self, request: &Exec, fds: Vec<OwnedFd>) -> Result<(), Stop> {
        let [conmon, input, output, error] =
            <[OwnedFd; 4]>::try_from(fds).map_err(|_| Rejection::Descriptors)?;
        let conmon = pidfd(Some(&conmon))?;
        let execed = self.inner.spawner.exec(request, conmon.as_fd(), [input, output, error]);
        self.reply(execed, |Execed { supervisor, process, terminal }| {
            let pid = |started: &Option<Started>| started.as_ref().map(|started| started.pid);
            let pids = Answer::Execed { supervisor: pid(&supervisor), process: pid(&process) };
            let pidfds = [supervisor, process].into_iter().flatten().map(|started| started.pidfd);
            (pids, pidfds.chain(terminal).collect())
        })
    }

    fn attach(&self, request: &Attach, given: [bool; 3], fds: Vec<OwnedFd>) -> Result<(), Stop> {
        let mut fds = fds.into_iter();
        let init = fds.next();
        let init = pidfd(init.as_ref())?;
        let streams = given.map(|given| given.then(|| fds.next()).flatten());
        self.done(self.inner.spawner.attach(request, init.as_fd(), streams))
    }

    fn alone(&self, id: &ContainerId, work: impl FnOnce() -> Result<(), Stop>) -> Result<(), Stop> {
        self.inner.locks.alone(id, || self.unless_gone(work))
    }

    fn shared(
        &self,
        id: &ContainerId,
        work: impl FnOnce() -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.inner.locks.shared(id, || self.unless_gone(work))
    }

    /// What a caller wanted that has ended is not done: its successor may have cleaned up by now.
    fn unless_gone(&self, work: impl FnOnce() -> Result<(), Stop>) -> Result<(), Stop> {
        if self.peer.is_gone(self.socket)? { Err(Stop::Gone) } else { work() }
    }

    fn done(&self, result: Result<(), Error>) -> Result<(), Stop> {
        self.reply(result, |()| (Answer::Nothing, vec![]))
    }

    fn reply<T>(
        &self,
        result: Result<T, Error>,
        answer: impl FnOnce(T) -> (Answer, Vec<OwnedFd>),
    ) -> Result<(), Stop> {
        match result {
            Ok(value) => {
                let (answer, fds) = answer(value);
                self.say(&Reply::Done(answer), &fds.iter().collect::<Vec<_>>())
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&self, error: Error) -> Result<(), Stop> {
        self.say(&Reply::failed(error.into_failure()), &[])
    }

    fn say(&self, reply: &Reply, fds: &[&OwnedFd]) -> Result<(), Stop> {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        match socket::send(self.socket, &wire::encode(reply)?, &fds) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Stop::Gone),
            result => Ok(result?),
        }
    }

    fn hear(&self, limit: Duration) -> Result<(Call, Vec<OwnedFd>), Stop> {
        let Packet { text, fds } = self.receive(limit)?;
        let call = Call::parse(&text)?;
        if !call.descriptors().contains(&fds.len()) {
            return Err(Rejection::Descriptors.into());
        }
        Ok((call, fds))
    }

    fn receive(&self, limit: Duration) -> Result<Packet, Stop> {
        socket::set_timeout(self.socket, Timeout::Recv, limit)?;
        match socket::receive(self.socket)? {
            Received::Packet(packet) => Ok(packet),
            Received::Closed => Err(Stop::Gone),
            Received::TooLong => Err(Rejection::TooLong.into()),
        }
    }
}

/// The descriptor that must be a process's.
fn pidfd(fd: Option<&OwnedFd>) -> Result<&OwnedFd, Rejection> {
    fd.filter(|fd| socket::is_pidfd(fd)).ok_or(Rejection::Descriptors)
}

fn placed(places: Vec<Place>, mounts: Vec<OwnedFd>) -> Vec<PlacedMount> {
    places.into_iter().zip(mounts).map(|(place, mount)| PlacedMount { place, mount }).collect()
}
