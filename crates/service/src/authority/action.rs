//! The polkit actions: one per risk.

/// Says what each action is, and its name in `org.tare.containers1.policy`, in one place.
macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What may be allowed or not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Action {
            $($(#[$doc])* $variant,)*
        }

        impl Action {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in `org.tare.containers1.policy`.
            pub fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("org.tare.containers1.", $name),)*
                }
            }
        }
    };
}

actions! {
    /// Create containers.
    CreateContainer = "create-container",
    /// Create containers with access to the host.
    CreatePrivilegedContainer = "create-privileged-container",
    /// Start, stop and change one's own containers.
    ManageOwnContainers = "manage-own-containers",
    /// Start, stop and change containers.
    ManageContainers = "manage-containers",
    /// Look into containers: environment, labels, processes.
    InspectContainers = "inspect-containers",
    /// Remove containers and their data.
    RemoveContainers = "remove-containers",
    /// Run commands in containers.
    ExecContainer = "exec-container",
    /// Run commands in containers with access to the host.
    ExecPrivilegedContainer = "exec-privileged-container",
    /// Copy files into containers and out of them.
    TransferFiles = "transfer-files",
    /// Read what containers have written.
    ReadLogs = "read-logs",
    /// Take checkpoints of containers, look at them and remove them.
    CheckpointContainer = "checkpoint-container",
    /// Have containers go on from checkpoints.
    RestoreContainer = "restore-container",
    /// Import images.
    ImportImage = "import-image",
    /// Pull images.
    PullImage = "pull-image",
    /// Export images.
    ExportImages = "export-images",
    /// Read all about images.
    InspectImages = "inspect-images",
    /// Tag and remove images.
    ManageImages = "manage-images",
    /// Manage networks, and who is on them.
    ManageNetworks = "manage-networks",
    /// Read and write what is in volumes.
    AccessVolumeData = "access-volume-data",
    /// Manage volumes.
    ManageVolumes = "manage-volumes",
    /// Manage what containers may know and nobody is told again.
    ManageSecrets = "manage-secrets",
    /// Cancel jobs of others, and read their logs.
    CancelJob = "cancel-job",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging");

    fn known() -> BTreeSet<String> {
        Action::ALL.iter().map(|action| action.id().to_string()).collect()
    }

    /// What polkit does not know, nobody but root may do.
    #[test]
    fn the_policy_has_these_actions_and_no_others() {
        let path = format!("{PACKAGING}/polkit/org.tare.containers1.policy");
        let policy = std::fs::read_to_string(path).unwrap();
        let quoted =
            |line: &str| Some(line.split_once("<action id=\"")?.1.split_once('"')?.0.into());
        let written: BTreeSet<String> = policy.lines().filter_map(quoted).collect();
        assert_eq!(written, known());
    }

    #[test]
    fn the_contract_names_these_actions_and_no_others() {
        let mut named = BTreeSet::new();
        for entry in std::fs::read_dir(format!("{PACKAGING}/dbus")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for after in text.split("org.tare.containers1.").skip(1) {
                let end = after.find(|c: char| c != '-' && !c.is_ascii_lowercase());
                named.insert(format!("org.tare.containers1.{}", &after[..end.unwrap()]));
            }
        }
        assert_eq!(named, known());
    }
}
