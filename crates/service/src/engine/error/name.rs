//! What each error is called on the bus.

use super::Error;

/// `ENOSPC`.
const NO_SPACE: i32 = rustix::io::Errno::NOSPC.raw_os_error();

impl Error {
    #[expect(clippy::too_many_lines, reason = "a line for each")]
    /// The last part of its name on the bus, below `org.tare.Containers1.Error`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Storage(source) | Self::Mount { source, .. }
                if source.kind() == tare_storage::ErrorKind::NoSpace =>
            {
                "NoSpace"
            }
            Self::NoSuchContainer(_) => "NoSuchContainer",
            Self::AmbiguousName(_) => "AmbiguousName",
            Self::NameInUse(_)
            | Self::VolumeExists(_)
            | Self::SecretExists(_)
            | Self::NetworkExists(_)
            | Self::InterfaceInUse(_)
            | Self::AliasInUse { .. } => "NameInUse",
            Self::InvalidName { .. } | Self::NameLikeAnId(_) => "InvalidName",
            Self::InvalidReference { .. } | Self::ShortName { .. } => "InvalidReference",
            Self::NoSuchImage(_) => "NoSuchImage",
            Self::ImageInUse { .. } | Self::ImageNamed { .. } => "ImageInUse",
            Self::NoSuchJob(_) => "NoSuchJob",
            Self::NoSuchNetwork(_) => "NoSuchNetwork",
            Self::NoSuchVolume(_) => "NoSuchVolume",
            Self::NoSuchSecret(_) => "NoSuchSecret",
            Self::SecretInUse { .. } => "SecretInUse",
            Self::NoSuchCheckpoint(_) => "NoSuchCheckpoint",
            Self::NotCheckpointable { .. } => "NotCheckpointable",
            Self::Checkpoint { .. } => "CheckpointFailed",
            Self::Restore { .. } => "RestoreFailed",
            Self::OtherCheckpoint { .. } | Self::NotCopyable { .. } => "CheckpointIncompatible",
            Self::VolumeInUse { .. } => "VolumeInUse",
            Self::NetworkInUse { .. } | Self::DefaultNetwork(_) => "NetworkInUse",
            Self::InvalidNetwork(_)
            | Self::InvalidConnection { .. }
            | Self::InvalidPorts(_)
            | Self::NoParent(_)
            | Self::NoHostAddress(_)
            | Self::TooManyNetworks(_)
            | Self::TooManyServers { .. }
            | Self::ServerUnheard(_)
            | Self::ServerIsOurs { .. }
            | Self::TooManyLabels { .. }
            | Self::NoOwnNetwork
            | Self::NothingToShare { .. }
            | Self::Unreachable
            | Self::SourcePath(_)
            | Self::OpenSource { .. }
            | Self::TwoMacs
            | Self::GivenValue(..)
            | Self::PathsOfOthers(_)
            | Self::EnvFile(_)
            | Self::ReadEnvFile(_)
            | Self::NoSourcePath(_)
            | Self::PinSource { .. }
            | Self::RemovedAtEnd(_)
            | Self::NotAPidfd => "InvalidArgs",
            Self::PortInUse { .. } => "PortInUse",
            Self::AddressInUse { .. } | Self::AddressOfHost { .. } | Self::MacInUse { .. } => {
                "AddressInUse"
            }
            Self::SubnetOverlap { .. } => "SubnetOverlap",
            Self::SubordinateIdsExhausted
            | Self::CategoriesExhausted
            | Self::TooManyJobs(_)
            | Self::TooManyStreams(_)
            | Self::TooManyAttached(_)
            | Self::TooManyMounted { .. } => "LimitsExceeded",
            Self::NotCancelable(_) => "NotCancelable",
            Self::Canceled => "Canceled",
            Self::InvalidState { .. }
            | Self::RootNotMounted(_)
            | Self::NoTerminal
            | Self::NoInput(_)
            | Self::Changed(_)
            | Self::SourceMoved(_)
            | Self::NamespacesShared { .. }
            | Self::VolumeChanged(_)
            | Self::AlreadyConnected { .. }
            | Self::NotConnected { .. }
            | Self::NotPublished { .. } => "InvalidState",
            Self::NotRunning(_) | Self::EndedMeanwhile | Self::SessionEnded => "NotRunning",
            Self::NoSuchPath => "NoSuchPath",
            Self::FreezeTimeout(_) => "Timeout",
            Self::NoContainerForProcess => "NoContainerForPID",
            Self::InvalidSpec(_)
            | Self::NoCommand
            | Self::NoDevice(_)
            | Self::HostFiles { .. }
            | Self::CgroupParent(_)
            | Self::NoJournal
            | Self::NoSubordinateIds(_)
            | Self::IdsTakenBack(_)
            | Self::PrecreateHook
            | Self::ShownTarget { .. }
            | Self::NoNamespace { .. } => "InvalidSpec",
            Self::Pull { source, .. } | Self::Push { source, .. } => source.name(),
            Self::Blocked { .. } => "RegistryBlocked",
            Self::Registries(_) | Self::NoQuota => "InvalidConfiguration",
            Self::PlatformMissing { .. } => "PlatformMissing",
            Self::SignatureRejected { .. } => "SignatureRejected",
            Self::WriteArchive(source) if source.raw_os_error() == Some(NO_SPACE) => "NoSpace",
            Self::InvalidArchive(_)
            | Self::WriteArchive(_)
            | Self::SeveralImages(_)
            | Self::NotForImages => "InvalidArchive",
            Self::Mount { .. }
            | Self::MountImage { .. }
            | Self::Unmount { .. }
            | Self::MountTarget { .. }
            | Self::HostMoved { .. }
            | Self::NoSubPath { .. }
            | Self::NoImagePath { .. }
            | Self::Unsupported { .. }
            | Self::Users(_)
            | Self::TooManyMounts(_) => "MountFailed",
            Self::RemoveNetwork { .. }
            | Self::Network { .. }
            | Self::AddressesExhausted(_)
            | Self::NamespaceChanged(_)
            | Self::AddressElsewhere { .. }
            | Self::NoSubnet { .. } => "NetworkFailed",
            Self::CommandNotFound { .. } => "CommandNotFound",
            Self::CommandNotExecutable { .. } => "CommandNotExecutable",
            Self::Runtime { .. }
            | Self::NoRuntime
            | Self::NoCriu
            | Self::OtherNamespace { .. }
            | Self::ClocksNotSet(_)
            | Self::NoSupervisor(_)
            | Self::StillThere(_) => "RuntimeFailed",
            Self::NoSpace(_) => "NoSpace",
            Self::ShuttingDown => "ShuttingDown",
            Self::Storage(_)
            | Self::Process { .. }
            | Self::Teardown { .. }
            | Self::Database(_)
            | Self::Host { .. }
            | Self::LookInside(_)
            | Self::Bug(_) => "Internal",
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_name_is_in_the_contract() {
        let contract =
            include_str!("../../../../../packaging/dbus/org.tare.Containers1.Manager.xml");
        let (_, list) = contract.split_once("Errors are org.tare.Containers1.Error.*").unwrap();
        let (list, _) = list.split_once("Beside them").unwrap();
        let known: Vec<&str> = list.split([' ', ',', '.', '\n']).collect();
        let (own, _) = include_str!("name.rs").split_once("mod tests").unwrap();
        let names: Vec<&str> = own.split('"').skip(1).step_by(2).collect();
        assert!(names.len() > 40, "{names:?}");
        for name in names.into_iter().filter(|name| name.starts_with(char::is_uppercase)) {
            let is_of_dbus = ["InvalidArgs", "LimitsExceeded", "Timeout"].contains(&name);
            assert!(is_of_dbus || known.contains(&name), "{name} is not told");
        }
    }
}
