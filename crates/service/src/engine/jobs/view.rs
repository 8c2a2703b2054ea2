//! Jobs as others see them.

use serde::Deserialize;

use crate::engine::clock::Usec;
use crate::engine::events::Event;
use crate::engine::object::{Change, ObjectId, Seen};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum JobKind {
    /// Import an image from an archive.
    ImportImage,
    /// Create a container and start it.
    RunContainer,
    /// Pull an image from a registry.
    PullImage,
    /// Put an image into a registry.
    PushImage,
    /// Write images as an archive.
    ExportImages,
    /// Remove what nobody needs.
    Prune,
    /// Remove an image.
    RemoveImage,
    /// Make a container ready to run.
    PrepareContainer,
    /// Start a container.
    StartContainer,
    /// Stop a container.
    StopContainer,
    /// Stop a container, and start it again.
    RestartContainer,
    /// Take down what there is of a container that does not run.
    CleanupContainer,
    /// Remove a container.
    RemoveContainer,
    /// Remove a volume.
    RemoveVolume,
    /// Write the root of a container as an archive.
    ExportContainer,
    /// Make an image of a container.
    CommitContainer,
    /// Unpack an archive in a container.
    CopyIn,
    /// Write files of a container as an archive.
    CopyOut,
    /// Write the content of a volume as an archive.
    ExportVolume,
    /// Unpack an archive in a volume.
    ImportVolume,
    /// Take a checkpoint of a container.
    CheckpointContainer,
    /// Have a container go on from a checkpoint.
    RestoreContainer,
    /// Remove a checkpoint.
    RemoveCheckpoint,
}

impl JobKind {
    /// The word for it on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImportImage => "import-image",
            Self::RunContainer => "run-container",
            Self::PullImage => "pull-image",
            Self::PushImage => "push-image",
            Self::ExportImages => "export-images",
            Self::Prune => "prune",
            Self::RemoveImage => "remove-image",
            Self::PrepareContainer => "prepare-container",
            Self::CleanupContainer => "cleanup-container",
            Self::StartContainer => "start-container",
            Self::StopContainer => "stop-container",
            Self::RestartContainer => "restart-container",
            Self::RemoveContainer => "remove-container",
            Self::RemoveVolume => "remove-volume",
            Self::ExportContainer => "export-container",
            Self::CommitContainer => "commit-container",
            Self::CopyIn => "copy-in",
            Self::CopyOut => "copy-out",
            Self::ExportVolume => "export-volume",
            Self::ImportVolume => "import-volume",
            Self::CheckpointContainer => "checkpoint-container",
            Self::RestoreContainer => "restore-container",
            Self::RemoveCheckpoint => "remove-checkpoint",
        }
    }
}

/// What a job produced, by the names of the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output(pub Vec<(&'static str, Produced)>);

/// One thing a job produced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Produced {
    /// A thing that is here now.
    Object(ObjectId),
    /// Things that are here now.
    Objects(Vec<ObjectId>),
    /// A name of one.
    Text(String),
    /// Names of things.
    Texts(Vec<String>),
    /// A number of bytes.
    Bytes(u64),
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Others of the same user have to end first.
    Waiting,
    /// At work.
    Running,
    /// Asked to stop, and not there yet.
    Canceling,
    /// Over.
    Finished,
}

impl JobState {
    /// The word for it on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Finished => "finished",
        }
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Done,
    /// Canceled, with no residue.
    Canceled,
    /// Not.
    Failed {
        /// Last part of the D-Bus error name.
        name: &'static str,
        /// A sentence every local user may read.
        message: String,
    },
}

impl Outcome {
    /// The word for it on the bus.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Canceled => "canceled",
            Self::Failed { .. } => "failed",
        }
    }
}

/// A job, as every local user may see it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// Counts up.
    pub id: u32,
    /// What it does.
    pub kind: JobKind,
    /// On what; `None` if that does not exist yet.
    pub object: Option<ObjectId>,
    /// For whom.
    pub started_by_uid: u32,
    /// Since when.
    pub created: Usec,
    /// How far.
    pub state: JobState,
    /// The part of the work it is at; a word of its kind.
    pub stage: &'static str,
    /// Bytes of this stage that are done.
    pub bytes_done: u64,
    /// Bytes of this stage; 0: unknown.
    pub bytes_total: u64,
    /// Whether it can still be canceled.
    pub cancelable: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What it produced.
    pub output: Output,
}

/// One line of a job's log.
#[derive(Clone, Debug, Default)]
pub struct LogLine {
    /// When.
    pub time: Usec,
    /// As in syslog: 3 error, 4 warning, 6 information.
    pub priority: u8,
    /// What; may name paths, so it is for the one who started the job, and for administrators.
    pub message: String,
}

impl Seen for JobView {
    fn id(&self) -> ObjectId {
        ObjectId::Job(self.id)
    }

    fn event(change: Change<Self>) -> Event {
        Event::Job(change)
    }
}

#[cfg(test)]
impl JobView {
    pub(super) fn sample() -> Self {
        Self {
            id: 1,
            kind: JobKind::ImportImage,
            object: None,
            started_by_uid: 7,
            created: Usec(1),
            state: JobState::Running,
            stage: "",
            bytes_done: 0,
            bytes_total: 0,
            cancelable: true,
            outcome: None,
            output: Output::default(),
        }
    }
}
