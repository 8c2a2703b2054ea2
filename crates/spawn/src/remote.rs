//! The spawner that has `tare-spawn` fork.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::Timeout;
use rustix::process::geteuid;

use crate::sys::socket::{self, Packet, Received};
use crate::undo::{Failure, failed};
use crate::wire::{
    self, ATTACHES, Answer, CHECKPOINTS, Call, Hello, JOURNALS, KEEPS, OLDEST, OWNERS, Reply,
    TERMINALS, USERS, VERSION, Welcome,
};
use crate::{
    Attach, AttachedStreams, Cause, CgroupPath, Checkpoint, ContainerId, Create, Created, Deleted,
    Dumped, Error, Exec, Execed, Extent, Force, Limits, LiveFile, Log, OciRuntime, PlacedMount,
    Prepared, Profile, ProfileName, Rejection, Spawner, Started, Stdin, Streams, Swapped, Target,
    UserMap,
};

/// How long `tare-spawn` may be away: for a restart, or because it is only now being started.
const ABSENCE: Duration = Duration::from_secs(5);
/// First and longest pause between two tries to reach it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// Longer than any call takes, with all that it takes back.
const ANSWER: Duration = Duration::from_secs(300);

/// Has the `tare-spawn` that listens on a socket start programs: in the place of this process, which
/// may be sandboxed, for programs inherit nothing of it.
///
/// Each call has a connection of its own. So `tare-spawn` can be restarted at any time: a call that
/// it has not begun waits for it, and one that it has begun is carried through before it ends. If it
/// is killed, calls that can be repeated are, and others fail with
/// [`Cause::NoAnswer`](crate::Cause::NoAnswer). Containers that run do not notice.
#[derive(Clone, Debug)]
pub struct Remote {
    socket: PathBuf,
    run_dir: PathBuf,
}

impl Remote {
    /// A spawner that uses the `tare-spawn` at `socket`, if that works on `run_dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`].
    pub fn connect(socket: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let remote = Self { socket: socket.into(), run_dir: run_dir.into() };
        match remote.reach() {
            Ok(_connection) => Ok(remote),
            Err(cause) => Err(Error::Connect { socket: remote.socket, cause }),
        }
    }

    /// A connection on which both have greeted; waits for `tare-spawn` if it is away.
    fn reach(&self) -> Result<Connection, Cause> {
        let end = Instant::now() + ABSENCE;
        let mut pause = PAUSES.0;
        loop {
            match Connection::open(&self.socket, &self.run_dir) {
                Err(cause) if is_absence(&cause) && Instant::now() < end => thread::sleep(pause),
                result => return result,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn ask(&self, call: &Call, fds: &[BorrowedFd<'_>]) -> Result<(Answer, Vec<OwnedFd>), Failure> {
        match self.reach()?.ask(call, fds) {
            Err(Failure { cause: Cause::NoAnswer, .. }) if call.is_repeatable() => {
                self.reach()?.ask(call, fds)
            }
            result => result,
        }
    }

    fn ask_plainly(&self, call: &Call, fds: &[BorrowedFd<'_>]) -> Result<Answer, Failure> {
        self.ask(call, fds).map(|(answer, _)| answer)
    }
}

/// Whether `tare-spawn` is not there, or went away before it had heard anything.
fn is_absence(cause: &Cause) -> bool {
    match cause {
        Cause::Step { source, .. } => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        }
        Cause::NoAnswer => true,
        _ => false,
    }
}

/// A connection to `tare-spawn`.
#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// The one that counts on it.
    version: u32,
}

impl Connection {
    fn open(path: &Path, run_dir: &Path) -> Result<Self, Cause> {
        let reach = |source| failed(&format_args!("reach {}", path.display()), source);
        let socket = socket::connect_to(path, ABSENCE).map_err(reach)?;
        socket::set_timeout(&socket, Timeout::Recv, ANSWER).map_err(reach)?;
        // Who listens is who was there when the socket was made, be it the service manager.
        if socket::peer_uid(&socket).map_err(reach)? != geteuid().as_raw() {
            return Err(Cause::Rejected(Rejection::Peer));
        }
        let connection = Self { socket, version: OLDEST };
        match connection.say(&Hello { oldest: OLDEST, newest: VERSION }, &[])? {
            (Reply::Welcome(welcome), _) => {
                check(welcome, run_dir).map(|version| Self { version, ..connection })
            }
            (Reply::Rejected(rejection), _) => Err(Cause::Rejected(rejection)),
            _ => Err(Cause::Rejected(Rejection::OutOfTurn)),
        }
    }

    /// An error if `verb` has come with a later version than the one that counts.
    fn check_version(&self, since: u32, verb: &str) -> Result<(), Cause> {
        if self.version >= since {
            return Ok(());
        }
        Err(Cause::Rejected(Rejection::UnknownVerb { verb: verb.into() }))
    }

    fn ask(&self, call: &Call, fds: &[BorrowedFd<'_>]) -> Result<(Answer, Vec<OwnedFd>), Failure> {
        match self.say(call, fds)? {
            (Reply::Done(answer), fds) => Ok((answer, fds)),
            (Reply::Failed(failure), _) => Err(failure),
            (Reply::Rejected(rejection), _) => Err(Cause::Rejected(rejection).into()),
            (Reply::Welcome(_), _) => Err(out_of_turn()),
        }
    }

    fn say(
        &self,
        message: &impl serde::Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), Cause> {
        let text =
            wire::encode(message).map_err(|source| failed(&"put this into words", source))?;
        match socket::send(&self.socket, &text, fds) {
            // It may have said why before it went away.
            Err(error) if is_end(&error) => {}
            sent => sent.map_err(|source| failed(&"ask tare-spawn", source))?,
        }
        match socket::receive(&self.socket).map_err(unheard)? {
            Received::Packet(Packet { text, fds }) => {
                Ok((wire::decode(&text).map_err(Cause::Rejected)?, fds))
            }
            Received::Closed => Err(Cause::NoAnswer),
            Received::TooLong => Err(Cause::Rejected(Rejection::TooLong)),
        }
    }
}

/// The version that counts.
fn check(welcome: Welcome, run_dir: &Path) -> Result<u32, Cause> {
    if !(OLDEST..=VERSION).contains(&welcome.version) {
        let (oldest, newest) = (welcome.version, welcome.version);
        return Err(Cause::Rejected(Rejection::Version { oldest, newest }));
    }
    if welcome.run_dir != run_dir {
        return Err(Cause::Rejected(Rejection::RunDir(welcome.run_dir)));
    }
    Ok(welcome.version)
}

/// Whether the other side has gone.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn unheard(source: io::Error) -> Cause {
    match source.kind() {
        // What a socket with a time limit says.
        io::ErrorKind::WouldBlock => Cause::Timeout { limit: ANSWER },
        _ => failed(&"hear tare-spawn", source),
    }
}

/// What this `tare-spawn` does not do yet.
fn out_of_turn() -> Failure {
    Cause::Rejected(Rejection::OutOfTurn).into()
}

/// A container that waits in `tare-spawn`, which takes it back when the connection ends.
#[derive(Debug)]
struct Waits {
    connection: Connection,
    id: ContainerId,
    supervisor: Started,
}

impl Prepared for Waits {
    fn supervisor(&self) -> &Started {
        &self.supervisor
    }

    fn create(self: Box<Self>, mounts: Vec<PlacedMount>) -> Result<Created, Error> {
        let call = Call::Create { places: mounts.iter().map(|mount| mount.place).collect() };
        let fds: Vec<_> = mounts.iter().map(|mount| mount.mount.as_fd()).collect();
        let created = self.connection.ask(&call, &fds).and_then(|(answer, fds)| {
            let mut fds = fds.into_iter();
            match (answer, fds.next(), fds.next()) {
                (Answer::Created { supervisor, init }, Some(conmon), Some(first)) => Ok(Created {
                    supervisor: Started { pid: supervisor, pidfd: conmon },
                    init: Started { pid: init, pidfd: first },
                }),
                _ => Err(out_of_turn()),
            }
        });
        created.map_err(|Failure { cause, leftovers }| Error::Create {
            id: self.id.clone(),
            cause,
            leftovers,
        })
    }
}

/// A container that stands still, and which `tare-spawn` lets go on when the connection ends.
#[derive(Debug)]
struct StandsStill {
    connection: Connection,
    id: ContainerId,
}

impl Dumped for StandsStill {
    fn commit(self: Box<Self>) -> Result<(), Error> {
        let answer = self.connection.ask(&Call::Commit {}, &[]).map(|(answer, _)| answer);
        nothing(answer)
            .map_err(|Failure { cause, .. }| Error::Checkpoint { id: self.id.clone(), cause })
    }
}

impl Spawner for Remote {
    fn prepare(&self, request: &Create, kept: Vec<OwnedFd>) -> Result<Box<dyn Prepared>, Error> {
        let prepare = || -> Result<Waits, Failure> {
            let connection = self.reach()?;
            if request.stdin == Stdin::Terminal {
                connection.check_version(ATTACHES, "create with a terminal")?;
            }
            if request.restore.is_some() {
                connection.check_version(CHECKPOINTS, "prepare with a checkpoint")?;
            }
            if matches!(request.log, Log::Journal(_)) {
                connection.check_version(JOURNALS, "prepare with the journal")?;
            }
            let kept: Vec<_> = kept.iter().map(AsFd::as_fd).collect();
            let kept = if connection.version >= KEEPS { &kept[..] } else { &[] };
            let (answer, mut fds) = connection.ask(&Call::Prepare(request.clone()), kept)?;
            let (Answer::Prepared { supervisor: pid }, Some(pidfd)) = (answer, fds.pop()) else {
                return Err(out_of_turn());
            };
            Ok(Waits { connection, id: request.id.clone(), supervisor: Started { pid, pidfd } })
        };
        match prepare() {
            Ok(waits) => Ok(Box::new(waits)),
            Err(Failure { cause, leftovers }) => {
                Err(Error::Create { id: request.id.clone(), cause, leftovers })
            }
        }
    }

    fn start(&self, target: &Target, supervisor: BorrowedFd<'_>) -> Result<(), Error> {
        let answer = self.ask_plainly(&Call::Start(target.clone()), &[supervisor]);
        nothing(answer)
            .map_err(|Failure { cause, .. }| Error::Start { id: target.id.clone(), cause })
    }

    fn delete(
        &self,
        target: &Target,
        supervisor: Option<BorrowedFd<'_>>,
        force: Force,
    ) -> Result<Deleted, Error> {
        let call = Call::Delete { target: target.clone(), force };
        let answer = self.ask_plainly(&call, supervisor.as_slice());
        let deleted = answer.and_then(|answer| match answer {
            Answer::Deleted(deleted) => Ok(deleted),
            _ => Err(out_of_turn()),
        });
        deleted.map_err(|Failure { cause, .. }| Error::Delete { id: target.id.clone(), cause })
    }

    fn checkpoint(
        &self,
        request: &Checkpoint,
        supervisor: BorrowedFd<'_>,
        images: OwnedFd,
    ) -> Result<Box<dyn Dumped>, Error> {
        let id = request.target.id.clone();
        let dump = || -> Result<Connection, Failure> {
            let connection = self.reach()?;
            connection.check_version(CHECKPOINTS, "checkpoint")?;
            let call = Call::Checkpoint(request.clone());
            let answer = connection.ask(&call, &[supervisor, images.as_fd()]);
            nothing(answer.map(|(answer, _)| answer)).map(|()| connection)
        };
        match dump() {
            Ok(connection) => Ok(Box::new(StandsStill { connection, id })),
            Err(Failure { cause, .. }) => Err(Error::Checkpoint { id, cause }),
        }
    }

    fn exec(
        &self,
        request: &Exec,
        supervisor: BorrowedFd<'_>,
        stdio: [OwnedFd; 3],
    ) -> Result<Execed, Error> {
        let [input, output, error] = stdio.each_ref().map(AsFd::as_fd);
        let call = Call::Exec(request.clone());
        let asked = match request.streams {
            Streams::Given => self.ask(&call, &[supervisor, input, output, error]),
            Streams::Terminal => self.reach().map_err(Failure::from).and_then(|connection| {
                connection.check_version(TERMINALS, "exec with a terminal")?;
                connection.ask(&call, &[supervisor, input, output, error])
            }),
        };
        asked.and_then(|(answer, fds)| execed(&answer, fds)).map_err(
            |Failure { cause, leftovers }| {
                let (id, session) = (request.target.id.clone(), request.session);
                Error::Exec { id, session, cause, leftovers }
            },
        )
    }

    fn attach(
        &self,
        request: &Attach,
        init: BorrowedFd<'_>,
        streams: AttachedStreams,
    ) -> Result<(), Error> {
        let given = streams.each_ref().map(Option::is_some);
        let pipes = streams.iter().flatten().map(AsFd::as_fd);
        let fds: Vec<_> = std::iter::once(init).chain(pipes).collect();
        let answer = self.reach().map_err(Failure::from).and_then(|connection| {
            connection.check_version(ATTACHES, "attach")?;
            let owner = request.owner.filter(|_| connection.version >= OWNERS);
            let attach = Attach { owner, ..request.clone() };
            connection.ask(&Call::Attach { attach, streams: given }, &fds).map(|(answer, _)| answer)
        });
        nothing(answer)
            .map_err(|Failure { cause, .. }| Error::Attach { id: request.target.id.clone(), cause })
    }

    fn swap_file(
        &self,
        target: &Target,
        file: LiveFile,
        init: BorrowedFd<'_>,
    ) -> Result<Swapped, Error> {
        let answer = self.ask_plainly(&Call::SwapFile { target: target.clone(), file }, &[init]);
        let swapped = answer.and_then(|answer| match answer {
            Answer::Swapped(swapped) => Ok(swapped),
            _ => Err(out_of_turn()),
        });
        swapped.map_err(|Failure { cause, leftovers }| Error::SwapFile {
            id: target.id.clone(),
            file,
            cause,
            leftovers,
        })
    }

    fn version(&self, runtime: OciRuntime) -> Result<String, Error> {
        let version =
            self.ask_plainly(&Call::Version { runtime }, &[]).and_then(|answer| match answer {
                Answer::Version(version) => Ok(version),
                _ => Err(out_of_turn()),
            });
        version.map_err(|Failure { cause, .. }| Error::Version { runtime, cause })
    }

    fn limits(&self) -> Result<Limits, Error> {
        let limits = self.ask_plainly(&Call::Limits {}, &[]).and_then(|answer| match answer {
            Answer::Limits(limits) => Ok(limits),
            _ => Err(out_of_turn()),
        });
        limits.map_err(|Failure { cause, .. }| Error::Limits { cause })
    }

    fn can_log_to_journal(&self) -> bool {
        self.reach().is_ok_and(|connection| connection.version >= JOURNALS)
    }

    fn load_profile(&self, profile: &Profile) -> Result<(), Error> {
        let name = profile.name().clone();
        nothing(self.ask_plainly(&Call::LoadProfile { profile: profile.clone() }, &[]))
            .map_err(|Failure { cause, .. }| Error::LoadProfile { name, cause })
    }

    fn unload_profile(&self, name: &ProfileName) -> Result<(), Error> {
        let name = name.clone();
        nothing(self.ask_plainly(&Call::UnloadProfile { name: name.clone() }, &[]))
            .map_err(|Failure { cause, .. }| Error::UnloadProfile { name, cause })
    }

    fn make_users(&self, map: &UserMap) -> Result<OwnedFd, Error> {
        let make = || -> Result<OwnedFd, Failure> {
            let connection = self.reach()?;
            connection.check_version(USERS, "make-users")?;
            match connection.ask(&Call::MakeUsers(map.clone()), &[])? {
                (Answer::Users, mut fds) => fds.pop().ok_or_else(out_of_turn),
                _ => Err(out_of_turn()),
            }
        };
        make().map_err(|Failure { cause, .. }| Error::MakeUsers { cause })
    }

    fn cleanup_cgroup(&self, cgroup: &CgroupPath, extent: Extent) -> Result<(), Error> {
        let cgroup = cgroup.clone();
        nothing(self.ask_plainly(&Call::CleanupCgroup { cgroup: cgroup.clone(), extent }, &[]))
            .map_err(|Failure { cause, .. }| Error::Cleanup { cgroup, cause })
    }

    fn make_cgroup(&self, cgroup: &CgroupPath) -> Result<(), Error> {
        let cgroup = cgroup.clone();
        nothing(self.ask_plainly(&Call::MakeCgroup { cgroup: cgroup.clone() }, &[]))
            .map_err(|Failure { cause, leftovers }| Error::MakeCgroup { cgroup, cause, leftovers })
    }

    fn remove_empty_cgroup(&self, cgroup: &CgroupPath) -> Result<(), Error> {
        let cgroup = cgroup.clone();
        nothing(self.ask_plainly(&Call::RemoveEmptyCgroup { cgroup: cgroup.clone() }, &[]))
            .map_err(|Failure { cause, .. }| Error::Cleanup { cgroup, cause })
    }
}

fn nothing(answer: Result<Answer, Failure>) -> Result<(), Failure> {
    match answer? {
        Answer::Nothing => Ok(()),
        _ => Err(out_of_turn()),
    }
}

fn execed(answer: &Answer, fds: Vec<OwnedFd>) -> Result<Execed, Failure> {
    let Answer::Execed { supervisor, process } = *answer else { return Err(out_of_turn()) };
    let mut fds = fds.into_iter();
    let mut started = |pid: Option<u32>| match pid {
        None => Ok(None),
        Some(pid) => fds.next().map(|pidfd| Some(Started { pid, pidfd })).ok_or_else(out_of_turn),
    };
    let (supervisor, process) = (started(supervisor)?, started(process)?);
    Ok(Execed { supervisor, process, terminal: fds.next() })
}
