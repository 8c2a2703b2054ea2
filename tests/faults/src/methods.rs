//! All operations there are, and every method of the contract: what does it, or why nothing does.

/// Calls a macro with all operations: what the module of its tests is called, the operation, whether each
/// kind of fault has a test of its own, as is worth it where there are many effects, or where a container
/// keeps something of a fault until it ends, and whether it is tried with the installed service as well, or
/// why not. Tests are made of this list alone, so
/// that every operation is tried with every fault there is.
#[macro_export]
macro_rules! all_operations {
    ($then:ident) => {
        $then! {
            create: $crate::operations::Create, apart, "not yet: most of its steps are the store's";
            start: $crate::operations::Start, apart, installed;
            exec: $crate::operations::Exec, together, installed;
            clean_up: $crate::operations::CleanUp, together, "as stop";
            stop: $crate::operations::Stop, apart, installed;
            remove: $crate::operations::Remove, apart, installed;
            kill: $crate::operations::Kill, together, "one signal, and then as stop";
            pause: $crate::operations::Pause, together, "one file, and nobody else";
            resume: $crate::operations::Resume, together, "one file, and nobody else";
            rename: $crate::operations::Rename, together, "not yet";
            update: $crate::operations::UpdateContainer, together, "rows alone";
            exec_on_terminal: $crate::operations::ExecOnTerminal, together, "as exec, with a terminal";
            kill_session: $crate::operations::KillSession, together, "one signal, and then as exec";
            connect: $crate::operations::Connect, apart, "not yet";
            disconnect: $crate::operations::Disconnect, apart, "not yet";
            publish: $crate::operations::Publish, together, "sockets and rows, and nobody else";
            unpublish: $crate::operations::Unpublish, apart, "sockets and rows, and nobody else";
            create_network: $crate::operations::CreateNetwork, together, installed;
            remove_network: $crate::operations::RemoveNetwork, apart, "not yet";
            update_network: $crate::operations::UpdateNetwork, apart, "not yet";
            import: $crate::operations::Import, together, "the store alone";
            tag: $crate::operations::Tag, together, "rows alone";
            untag: $crate::operations::Untag, together, "rows alone";
            export_images: $crate::operations::ExportImages, together, "the store alone";
            copy_in: $crate::operations::CopyIn, together, "the store alone";
            commit: $crate::operations::Commit, together, "the store alone";
            copy_out: $crate::operations::CopyOut, together, "the store alone";
            export: $crate::operations::Export, together, "the store alone";
            open_root: $crate::operations::OpenRoot, together, "the store alone";
            mount_root: $crate::operations::MountRoot, together, "the store, and one mount";
            unmount_root: $crate::operations::UnmountRoot, together, "the store, and one mount";
            get_changes: $crate::operations::GetChanges, together, "the store alone";
            create_secret: $crate::operations::CreateSecret, together, "rows alone";
            replace_secret: $crate::operations::ReplaceSecret, together, "rows alone";
            remove_secret: $crate::operations::RemoveSecret, together, "rows alone";
            create_volume: $crate::operations::CreateVolume, together, "the store alone";
            import_volume: $crate::operations::ImportVolume, together, "the store alone";
            remove_image: $crate::operations::RemoveImage, together, "the store alone";
            prune_images: $crate::operations::PruneImages, together, "the store alone";
            export_volume: $crate::operations::ExportVolume, together, "the store alone";
            prune_volumes: $crate::operations::PruneVolumes, together, "the store alone";
            remove_volume: $crate::operations::RemoveVolume, together, "the store alone";
        }
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use system_tests::contract::Interfaces;

    use crate::operations::Operation;

    /// Methods that no operation does, and why.
    const OTHERS: &[(&str, &[&str])] = &[
        (
            "nothing changes but what the caller gets",
            &[
                "Checkpoint.Inspect",
                "Container.GetProcesses",
                "Container.GetStats",
                "Container.Inspect",
                "Container.OpenLogs",
                "Container.OpenPIDFD",
                "Container.OpenStats",
                "Container.WaitFD",
                "Image.GetHistory",
                "Image.Inspect",
                "Image.OpenRootDirectory",
                "Job.OpenLog",
                "Manager.GenerateSpec",
                "Manager.GetContainer",
                "Manager.GetContainerByPID",
                "Manager.GetContainerByPIDFD",
                "Manager.GetEvents",
                "Manager.GetImage",
                "Manager.GetJob",
                "Manager.GetNetwork",
                "Manager.GetSecret",
                "Manager.GetStats",
                "Manager.GetVolume",
                "Manager.InspectContainer",
                "Manager.ListCheckpoints",
                "Manager.ListContainers",
                "Manager.ListImages",
                "Manager.ListJobs",
                "Manager.ListNetworks",
                "Manager.ListSecrets",
                "Manager.ListVolumes",
                "Network.Inspect",
                "Process.OpenPIDFD",
                "Process.WaitFD",
                "Volume.GetUsage",
                "Volume.Inspect",
            ],
        ),
        (
            "another method does the same, with what this one looks up first",
            &[
                "Image.Export",
                "Manager.CheckpointContainer",
                "Manager.KillContainer",
                "Manager.RemoveContainer",
                "Manager.RestartContainer",
                "Manager.StartContainer",
                "Manager.StopContainer",
            ],
        ),
        (
            "every operation that hangs is canceled, and so every step of one is where that finds it",
            &["Job.Cancel", "Manager.CancelJob"],
        ),
        (
            "a stop and then a start, by the steps of the two, each of which is tried; it would take as long \
             as both together",
            &["Container.Restart"],
        ),
        ("not tried from here yet: they take a registry", &["Image.Push", "Manager.PullImage"]),
        (
            "not tried from here yet: the steps are those of others, each of which is tried",
            &["Container.Prepare", "Manager.RunContainer"],
        ),
        (
            "not tried from here yet: one call of the kernel, of which nothing stays",
            &["Container.Resize", "Process.Resize"],
        ),
        (
            "not tried from here yet: a connection and a thread, which nobody waits for",
            &["Container.Attach"],
        ),
        (
            "not tried from here yet: it takes a CRIU, which the host that runs these need not have",
            &[
                "Checkpoint.Remove",
                "Checkpoint.RestoreAs",
                "Container.Checkpoint",
                "Container.Restore",
            ],
        ),
        ("who is told is in memory alone", &["Manager.Subscribe", "Manager.Unsubscribe"]),
        ("a job is in memory alone", &["Job.Forget"]),
    ];

    macro_rules! methods {
        ($($name:ident: $operation:ty, $how:ident, $where:tt;)+) => {
            [$((<$operation>::NAME, <$operation>::METHODS)),+]
        };
    }

    fn contract() -> BTreeSet<String> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/dbus");
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|it| it == "xml"));
        let interfaces = files.flat_map(|it| Interfaces::parse(&fs::read_to_string(it).unwrap()).0);
        let methods = interfaces.flat_map(|(interface, members)| {
            let short = interface.rsplit('.').next().unwrap().to_owned();
            let names =
                members.into_keys().filter_map(|it| Some(it.strip_prefix("method ")?.to_owned()));
            names.map(|name| format!("{short}.{name}")).collect::<Vec<_>>()
        });
        methods.collect()
    }

    #[test]
    fn every_method_is_tried_with_every_fault_or_says_why_not() {
        let operations = all_operations!(methods);
        let driven = operations.iter().flat_map(|(_, methods)| methods.iter());
        let driven: BTreeSet<String> = driven.map(|it| (*it).to_owned()).collect();
        let others: Vec<&str> = OTHERS.iter().flat_map(|(_, methods)| *methods).copied().collect();
        let others_once: BTreeSet<String> = others.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(others.len(), others_once.len(), "one is there twice");
        let contract = contract();
        assert!(contract.contains("Container.Start"), "{contract:?}");
        let both: Vec<_> = driven.intersection(&others_once).collect();
        assert!(both.is_empty(), "tried, and yet among those that are not: {both:?}");
        let known: BTreeSet<String> = driven.union(&others_once).cloned().collect();
        let missing: Vec<_> = contract.difference(&known).collect();
        assert!(missing.is_empty(), "no operation does these, and nothing says why: {missing:?}");
        let gone: Vec<_> = known.difference(&contract).collect();
        assert!(gone.is_empty(), "there are no such methods: {gone:?}");
    }
}
