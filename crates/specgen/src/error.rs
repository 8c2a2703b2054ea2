//! What can go wrong: one variant for each operation.

use crate::capability::CapabilitySet;
use crate::rlimit::RlimitKind;
use crate::text::InvalidText;
use crate::user::UnknownAccount;

/// The cause of an error, as text and chain only.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why no configuration can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image's configuration is broken or hostile.
    #[error("cannot use the configuration of the image")]
    ImageConfig {
        /// What is wrong in it.
        source: Cause,
    },
    /// The seccomp profile is broken.
    #[error("cannot use the seccomp profile")]
    SeccompProfile {
        /// What is wrong in it.
        source: Cause,
    },
    /// Neither the request nor the image names a program.
    #[error("no command: neither the request nor the image names one")]
    NoCommand,
    /// The user is not in the container's account files.
    #[error("cannot find out who \"{user}\" is")]
    User {
        /// The user as asked for.
        user: String,
        /// What is missing.
        source: UnknownAccount,
    },
    /// A capability was asked for by name that this host cannot give.
    #[error("this host cannot give {}", list(*missing))]
    Capabilities {
        /// Those that the host lacks.
        missing: CapabilitySet,
    },
    /// A resource limit was asked for that is above the host's hard limit.
    #[error("{kind} of {wanted} is above the {allowed} that this host allows")]
    Ulimit {
        /// Which limit.
        kind: RlimitKind,
        /// The hard value asked for.
        wanted: u64,
        /// The host's hard limit.
        allowed: u64,
    },
    /// An option does not go together with the others.
    #[error("option '{option}' {rule}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What is the matter, and what is allowed.
        rule: &'static str,
    },
    /// A limit was asked for that this host cannot keep.
    #[error("option '{option}' needs the cgroup controller {controller}, which this host lacks")]
    Controller {
        /// Which limit.
        option: &'static str,
        /// The controller that is missing.
        controller: String,
    },
    /// An AppArmor profile was asked for that cannot be had.
    #[error("cannot confine the container by the AppArmor profile \"{name}\"")]
    AppArmor {
        /// The profile as asked for.
        name: String,
        /// What is missing.
        source: InvalidText,
    },
    /// The config.json of a container cannot be read.
    #[error("cannot read the container's own config.json")]
    ContainerConfig {
        /// What is wrong in it.
        source: Cause,
    },
    /// A document cannot be written as JSON.
    #[error("cannot write the configuration as JSON")]
    Encode {
        /// What stood in the way.
        source: Cause,
    },
}

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request, perhaps together with the image, asks for what cannot be.
    Request,
    /// The image.
    Image,
    /// The host: it cannot give what was asked for, or its own files are broken.
    Host,
    /// Nobody: a fault of this crate or of who stored its output.
    Internal,
}

impl Error {
    /// Who has to change something.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::ImageConfig { .. } => ErrorKind::Image,
            Self::NoCommand | Self::User { .. } | Self::Option { .. } => ErrorKind::Request,
            Self::SeccompProfile { .. }
            | Self::Capabilities { .. }
            | Self::Ulimit { .. }
            | Self::Controller { .. }
            | Self::AppArmor { .. } => ErrorKind::Host,
            Self::ContainerConfig { .. } | Self::Encode { .. } => ErrorKind::Internal,
        }
    }

    pub(crate) fn image(source: impl Into<Cause>) -> Self {
        Self::ImageConfig { source: source.into() }
    }

    pub(crate) fn seccomp(source: impl Into<Cause>) -> Self {
        Self::SeccompProfile { source: source.into() }
    }

    pub(crate) fn container_config(source: impl Into<Cause>) -> Self {
        Self::ContainerConfig { source: source.into() }
    }

    pub(crate) fn encode(source: impl Into<Cause>) -> Self {
        Self::Encode { source: source.into() }
    }
}

fn list(set: CapabilitySet) -> String {
    set.iter().map(|capability| capability.to_string()).collect::<Vec<_>>().join(", ")
}
