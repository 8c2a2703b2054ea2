use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::undo::Failure;
use crate::{CgroupPath, ContainerId, LiveFile, OciRuntime, ProfileName, wire};

/// Everything that can go wrong in this crate, by what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable program of this name was found.
    #[error("cannot find a program {name} that only root can change")]
    Find {
        /// Name of the program.
        name: &'static str,
    },
    /// `tare-spawn` cannot be used.
    #[error("cannot use the tare-spawn that listens at {}", socket.display())]
    Connect {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// Nobody can be listened to.
    #[error("cannot take calls at {}", socket.display())]
    Listen {
        /// The socket, or a name for one that was handed over.
        socket: PathBuf,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A container could not be created.
    #[error("cannot create container {id}{}", left(leftovers))]
    Create {
        /// The container.
        id: ContainerId,
        /// Why.
        #[source]
        cause: Cause,
        /// What could not be taken back. Empty: nothing remains.
        leftovers: Vec<Leftover>,
    },
    /// A container could not be started; it is as it was.
    #[error("cannot start container {id}")]
    Start {
        /// The container.
        id: ContainerId,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A container could not be deleted.
    #[error("cannot delete container {id} from its runtime")]
    Delete {
        /// The container.
        id: ContainerId,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A process could not be run in a container.
    #[error("cannot run session {session} in container {id}{}", left(leftovers))]
    Exec {
        /// The container.
        id: ContainerId,
        /// Number of the session.
        session: u32,
        /// Why.
        #[source]
        cause: Cause,
        /// What could not be taken back. Empty: nothing remains.
        leftovers: Vec<Leftover>,
    },
    /// Nobody could be attached to a container.
    #[error("cannot attach to container {id}")]
    Attach {
        /// The container.
        id: ContainerId,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// Another file could not be put into the place of one of a container's.
    #[error("cannot change {} of container {id}{}", file.target(), left(leftovers))]
    SwapFile {
        /// The container.
        id: ContainerId,
        /// The file.
        file: LiveFile,
        /// Why.
        #[source]
        cause: Cause,
        /// What could not be taken back. Empty: nothing remains.
        leftovers: Vec<Leftover>,
    },
    /// A container could not be checkpointed; it goes on.
    #[error("cannot checkpoint container {id}")]
    Checkpoint {
        /// The container.
        id: ContainerId,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A runtime did not tell its version.
    #[error("cannot ask {runtime} for its version")]
    Version {
        /// The runtime.
        runtime: OciRuntime,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// What programs cannot exceed is not known.
    #[error("cannot find out what containers cannot exceed")]
    Limits {
        /// Why.
        #[source]
        cause: Cause,
    },
    /// An AppArmor profile could not be put into the kernel.
    #[error("cannot load the AppArmor profile {name}")]
    LoadProfile {
        /// Its name.
        name: ProfileName,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// An AppArmor profile could not be taken out of the kernel.
    #[error("cannot remove the AppArmor profile {name}")]
    UnloadProfile {
        /// Its name.
        name: ProfileName,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A user namespace could not be made.
    #[error("cannot make a user namespace")]
    MakeUsers {
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A runtime could not be tried out.
    #[error("cannot try out {runtime}{}", left(leftovers))]
    Probe {
        /// The runtime.
        runtime: OciRuntime,
        /// Why.
        #[source]
        cause: Cause,
        /// What could not be taken back. Empty: nothing remains.
        leftovers: Vec<Leftover>,
    },
    /// A control group could not be made.
    #[error("cannot make control group {cgroup}{}", left(leftovers))]
    MakeCgroup {
        /// The group.
        cgroup: CgroupPath,
        /// Why.
        #[source]
        cause: Cause,
        /// What could not be taken back. Empty: nothing remains.
        leftovers: Vec<Leftover>,
    },
    /// This process could not become the one that waits for orphans.
    #[error("cannot look after orphaned processes")]
    AdoptOrphans {
        /// Why.
        #[source]
        cause: Cause,
    },
    /// A control group could not be removed.
    #[error("cannot clean up control group {cgroup}")]
    Cleanup {
        /// The group.
        cgroup: CgroupPath,
        /// Why.
        #[source]
        cause: Cause,
    },
}

fn left(leftovers: &[Leftover]) -> String {
    match leftovers.len() {
        0 => String::new(),
        n => format!(" ({n} undo steps failed too)"),
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cause {
    /// The request is not acceptable; nothing was done.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The OCI runtime said no.
    #[error("the runtime said: {message}")]
    Runtime {
        /// What it said, at most 4 KiB, in one line.
        message: String,
    },
    /// conmon failed before, or without, a word from the runtime.
    #[error("the supervisor failed: {message}")]
    Supervisor {
        /// What it said, at most 4 KiB, in one line.
        message: String,
    },
    /// `apparmor_parser` said no.
    #[error("apparmor_parser said: {message}")]
    Parser {
        /// What it said, at most 4 KiB, in one line.
        message: String,
    },
    /// A program took too long and was killed.
    #[error("gave up after {} s", limit.as_secs())]
    Timeout {
        /// How long it was given.
        limit: Duration,
    },
    /// The container's supervisor, or a process that should live, has ended.
    #[error("the container is not running any more")]
    Gone,
    /// All went well, but it could not be cleaned up.
    #[error("it could not be cleaned up")]
    Uncleaned,
    /// A step of ours failed.
    #[error("cannot {step}")]
    Step {
        /// The step, to be read after "cannot".
        step: String,
        /// The system's answer.
        #[serde(with = "wire::io_error")]
        source: io::Error,
    },
    /// `tare-spawn` did not accept the call; nothing was done.
    #[error("tare-spawn refuses: {0}")]
    Rejected(Rejection),
    /// `tare-spawn` ended, or broke off, before it had answered: what it has done by then is not
    /// known.
    #[error("tare-spawn gave no answer")]
    NoAnswer,
}

/// Why `tare-spawn` does not accept a call, or its caller an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rejection {
    /// The other side is not the user that this one is.
    #[error("only its own user, root, may talk to it")]
    Peer,
    /// The caller has too many calls under way, or all callers have.
    #[error("too many calls at once")]
    Busy,
    /// No version of the protocol is spoken by both.
    #[error("it speaks versions {oldest} to {newest} of the protocol")]
    Version {
        /// The oldest it speaks.
        oldest: u32,
        /// The newest it speaks.
        newest: u32,
    },
    /// It works on another directory.
    #[error("it works on {}", .0.display())]
    RunDir(PathBuf),
    /// More bytes or descriptors than any message has.
    #[error("the message is too long")]
    TooLong,
    /// A message that is none.
    #[error("the message is malformed: {why}")]
    Malformed {
        /// What is wrong with it, in one line.
        why: String,
    },
    /// A verb that it does not have: it is older than its caller.
    #[error("it does not know the verb {verb:?}")]
    UnknownVerb {
        /// The verb, shortened.
        verb: String,
    },
    /// Too few descriptors, too many, or of the wrong kind.
    #[error("the descriptors do not fit the call")]
    Descriptors,
    /// A message that makes no sense at this point.
    #[error("the message is out of turn")]
    OutOfTurn,
}

/// Why a request is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Refusal {
    /// `config.json` or `process.json` is not where it should be.
    #[error("the OCI file is missing")]
    NoConfig,
    /// The incarnation, session or container has been used before.
    #[error("it exists already")]
    Exists,
    /// The log path is relative, or holds a byte that conmon takes for a separator; or what the journal is to
    /// be told has one.
    #[error(
        "the log path must be absolute, without ':' and control characters, and names be names"
    )]
    LogPath,
    /// The bundle directory is not there.
    #[error("the bundle directory is missing")]
    NoBundle,
    /// Two mounts for one place, or none for the root file system.
    #[error("there must be one mount for the root file system and at most one for any place")]
    Places,
    /// The runtime asked for is not installed.
    #[error("the runtime is not installed")]
    NoRuntime,
    /// A map of ids that is empty, or longer than the kernel takes.
    #[error("the maps of ids are empty or too long")]
    IdMaps,
    /// There is nothing to load AppArmor profiles with.
    #[error("apparmor_parser is not installed")]
    NoParser,
    /// More descriptors than [`MAX_KEPT`](crate::MAX_KEPT) for conmon to keep.
    #[error("conmon is to keep too many descriptors")]
    TooManyKept,
    /// So many have attached already: [`MAX_ATTACHED`](crate::MAX_ATTACHED) to this container,
    /// [`MAX_ATTACHED_OF_ONE`](crate::MAX_ATTACHED_OF_ONE) to those of its owner, or too many to all of them.
    #[error("too many have attached")]
    TooManyAttached,
    /// What somebody attaches with is not the right end of a pipe.
    #[error("there must be pipes to attach with")]
    NoPipe,
}

/// Something that is still there because taking it back failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leftover {
    /// The undo step that failed, to be read after "cannot".
    pub undo: String,
    /// The system's answer to it.
    #[serde(with = "wire::io_error")]
    pub source: io::Error,
}

/// What a caller can act on, without matching every [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is at fault; nothing was done.
    Invalid,
    /// A program is missing.
    NotFound,
    /// The runtime refused the container: its configuration is the likely culprit.
    Runtime,
    /// The container has ended in the meantime.
    Gone,
    /// A program took too long.
    Timeout,
    /// Undo was incomplete: someone has to clean up before a retry can work.
    NeedsRepair,
    /// Anything else; only worth logging.
    Other,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        if !self.leftovers().is_empty() {
            return ErrorKind::NeedsRepair;
        }
        match self.cause() {
            None | Some(Cause::Refused(Refusal::NoRuntime | Refusal::NoParser)) => {
                ErrorKind::NotFound
            }
            Some(Cause::Refused(_)) => ErrorKind::Invalid,
            Some(Cause::Runtime { .. }) => ErrorKind::Runtime,
            Some(Cause::Gone) => ErrorKind::Gone,
            Some(Cause::Timeout { .. }) => ErrorKind::Timeout,
            Some(
                Cause::Supervisor { .. }
                | Cause::Parser { .. }
                | Cause::Uncleaned
                | Cause::Step { .. }
                | Cause::Rejected(_)
                | Cause::NoAnswer,
            ) => ErrorKind::Other,
        }
    }

    /// Why it failed; `None` if a program is missing.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Find { .. } => None,
            Self::Connect { cause, .. }
            | Self::Listen { cause, .. }
            | Self::Create { cause, .. }
            | Self::Start { cause, .. }
            | Self::Delete { cause, .. }
            | Self::Exec { cause, .. }
            | Self::Attach { cause, .. }
            | Self::SwapFile { cause, .. }
            | Self::Checkpoint { cause, .. }
            | Self::Version { cause, .. }
            | Self::Limits { cause }
            | Self::LoadProfile { cause, .. }
            | Self::UnloadProfile { cause, .. }
            | Self::MakeUsers { cause }
            | Self::Probe { cause, .. }
            | Self::MakeCgroup { cause, .. }
            | Self::AdoptOrphans { cause }
            | Self::Cleanup { cause, .. } => Some(cause),
        }
    }

    /// Takes the error apart.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Find { .. } => Cause::Refused(Refusal::NoRuntime).into(),
            Self::Create { cause, leftovers, .. }
            | Self::Exec { cause, leftovers, .. }
            | Self::SwapFile { cause, leftovers, .. }
            | Self::Probe { cause, leftovers, .. }
            | Self::MakeCgroup { cause, leftovers, .. } => Failure { cause, leftovers },
            Self::Connect { cause, .. }
            | Self::Listen { cause, .. }
            | Self::Start { cause, .. }
            | Self::Attach { cause, .. }
            | Self::Delete { cause, .. }
            | Self::Checkpoint { cause, .. }
            | Self::Version { cause, .. }
            | Self::Limits { cause }
            | Self::LoadProfile { cause, .. }
            | Self::UnloadProfile { cause, .. }
            | Self::MakeUsers { cause }
            | Self::AdoptOrphans { cause }
            | Self::Cleanup { cause, .. } => cause.into(),
        }
    }

    /// What could not be taken back.
    pub fn leftovers(&self) -> &[Leftover] {
        match self {
            Self::Create { leftovers, .. }
            | Self::Exec { leftovers, .. }
            | Self::SwapFile { leftovers, .. }
            | Self::Probe { leftovers, .. }
            | Self::MakeCgroup { leftovers, .. } => leftovers,
            _ => &[],
        }
    }
}
