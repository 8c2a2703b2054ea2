//! What the service answers.

use zbus::{DBusError, OwnedObjectPath};

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For programs.
    pub name: String,
    /// For people.
    pub message: String,
}

impl Refused {
    /// The last part of its name.
    pub fn short(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// The error of a call.
    ///
    /// # Panics
    ///
    /// If it is not one that was replied.
    pub(crate) fn from_reply(error: &zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) => {
                Self { name: name.to_string(), message: message.clone().unwrap_or_default() }
            }
            zbus::Error::FDO(error) => Self {
                name: error.name().to_string(),
                message: error.description().unwrap_or_default().into(),
            },
            other => panic!("no reply: {other}"),
        }
    }
}

/// The end of a job, as `JobRemoved` tells it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The job.
    pub job: OwnedObjectPath,
    /// What it did.
    pub kind: String,
    /// To what.
    pub object: OwnedObjectPath,
    /// How: `done`, `failed`, `canceled`.
    pub result: String,
    /// Why not.
    pub error_name: String,
    /// The same for people.
    pub error_message: String,
}

impl Ended {
    /// Checks that the job was done.
    ///
    /// # Panics
    ///
    /// If it was not.
    pub fn done(&self) {
        assert_eq!(self.result, "done", "{self:?}");
    }
}

/// What a process in a container did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The session.
    pub process: OwnedObjectPath,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code, as the `Exited` signal has it.
    pub code: i32,
}

/// The end of a container, as its `Exited` signal tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code.
    pub code: i32,
    /// Signal.
    pub signal: i32,
    /// Why.
    pub reason: String,
}
