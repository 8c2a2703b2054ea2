//! What can go wrong: one variant for each operation.

use crate::capability::CapabilitySet;
use crate::facts::KernelVersion;
use crate::namespace::NamespaceKind;
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
    /// Containers share a namespace in a circle.
    #[error("containers share a namespace in a circle, in which {container} is")]
    Cycle {
        /// One of them.
        container: String,
    },
    /// A namespace of another container is to be joined, and that one does not run.
    #[error("cannot join the {kind} namespace of container {container}: it has to be running")]
    Namespace {
        /// Which namespace.
        kind: NamespaceKind,
        /// Whose.
        container: String,
    },
    /// The kernel of the host is too old.
    #[error("{what} needs Linux {}.{}", needed.major, needed.minor)]
    Kernel {
        /// What was asked for.
        what: &'static str,
        /// From which version on it can be had.
        needed: KernelVersion,
    },
    /// An init was asked for, and the host has none.
    #[error("option 'Init' needs catatonit, which this host lacks")]
    Init,
    /// A time zone that neither the image nor the host has.
    #[error("neither the image nor the host has the time zone \"{zone}\"")]
    Timezone {
        /// The zone as asked for.
        zone: String,
    },
    /// A secret cannot be an environment entry.
    #[error("the secret {name} is no text, or too long, for an environment entry")]
    Secret {
        /// Its name.
        name: String,
    },
    /// The file of an OCI hook is broken.
    #[error("cannot use the hook {file}")]
    Hook {
        /// Name of the file.
        file: String,
        /// What is wrong in it.
        source: Cause,
    },
    /// A CDI device cannot be had, or a CDI file is broken.
    #[error("cannot use the CDI device \"{device}\"")]
    Cdi {
        /// The device, if one was looked for.
        device: String,
        /// What is wrong.
        source: Cause,
    },
    /// Whoever calls has not found out what is needed.
    #[error("{what} is not in the placement")]
    Placement {
        /// What is missing.
        what: String,
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
            Self::NoCommand
            | Self::User { .. }
            | Self::Option { .. }
            | Self::Cycle { .. }
            | Self::Namespace { .. }
            | Self::Timezone { .. }
            | Self::Secret { .. } => ErrorKind::Request,
            Self::SeccompProfile { .. }
            | Self::Capabilities { .. }
            | Self::Ulimit { .. }
            | Self::Controller { .. }
            | Self::AppArmor { .. }
            | Self::Kernel { .. }
            | Self::Init
            | Self::Hook { .. }
            | Self::Cdi { .. } => ErrorKind::Host,
            Self::ContainerConfig { .. } | Self::Encode { .. } | Self::Placement { .. } => {
                ErrorKind::Internal
            }
        }
    }

    pub(crate) fn image(source: impl Into<Cause>) -> Self {
        Self::ImageConfig { source: plain(source.into()) }
    }

    pub(crate) fn seccomp(source: impl Into<Cause>) -> Self {
        Self::SeccompProfile { source: plain(source.into()) }
    }

    pub(crate) fn hook(file: &str, source: Cause) -> Self {
        Self::Hook { file: file.to_owned(), source: plain(source) }
    }

    pub(crate) fn container_config(source: impl Into<Cause>) -> Self {
        Self::ContainerConfig { source: source.into() }
    }

    pub(crate) fn encode(source: impl Into<Cause>) -> Self {
        Self::Encode { source: source.into() }
    }
}

/// An error that is one plain line: some quote what was read, which may hold anything.
fn plain(source: Cause) -> Cause {
    let mut texts = Vec::new();
    let mut next: Option<&dyn std::error::Error> = Some(&*source);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    let text = texts.join(": ");
    if text.contains(char::is_control) { text.escape_debug().to_string().into() } else { source }
}

fn list(set: CapabilitySet) -> String {
    set.iter().map(|capability| capability.to_string()).collect::<Vec<_>>().join(", ")
}
