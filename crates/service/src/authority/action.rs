//! The polkit actions: one per risk.

/// What may be allowed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Create containers.
    CreateContainer,
    /// Create containers with access to the host.
    CreatePrivilegedContainer,
    /// Start, stop and change one's own containers.
    ManageOwnContainers,
    /// Start, stop and change containers.
    ManageContainers,
    /// Remove containers and their data.
    RemoveContainers,
    /// Run commands in containers.
    ExecContainer,
    /// Run commands in containers with access to the host.
    ExecPrivilegedContainer,
    /// Read what containers have written.
    ReadLogs,
    /// Import images.
    ImportImage,
    /// Cancel jobs of others, and read their logs.
    CancelJob,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::CreateContainer,
        Self::CreatePrivilegedContainer,
        Self::ManageOwnContainers,
        Self::ManageContainers,
        Self::RemoveContainers,
        Self::ExecContainer,
        Self::ExecPrivilegedContainer,
        Self::ReadLogs,
        Self::ImportImage,
        Self::CancelJob,
    ];

    /// Its name in `org.tare.containers1.policy`.
    pub fn id(self) -> &'static str {
        match self {
            Self::CreateContainer => "org.tare.containers1.create-container",
            Self::CreatePrivilegedContainer => "org.tare.containers1.create-privileged-container",
            Self::ManageOwnContainers => "org.tare.containers1.manage-own-containers",
            Self::ManageContainers => "org.tare.containers1.manage-containers",
            Self::RemoveContainers => "org.tare.containers1.remove-containers",
            Self::ExecContainer => "org.tare.containers1.exec-container",
            Self::ExecPrivilegedContainer => "org.tare.containers1.exec-privileged-container",
            Self::ReadLogs => "org.tare.containers1.read-logs",
            Self::ImportImage => "org.tare.containers1.import-image",
            Self::CancelJob => "org.tare.containers1.cancel-job",
        }
    }
}
