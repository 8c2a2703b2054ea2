//! What is changed about a container.

use system_tests::{Client, Options, Tared, on_scratch_host};
use zbus::OwnedObjectPath;

use super::started;

/// Everything about a container but its id can be changed while it runs.
#[test]
fn privileged_a_container_that_runs_can_be_renamed() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "old", "sleep 1000").await;
        let other = client.create("other", "true").await;
        let rename = async |client: &Client, name: &str| {
            client.call(&path, "Container", "Rename", &(name, 0_u64)).await.map(drop)
        };
        for (name, error) in [
            ("other", "Error.NameInUse"),
            ("-rf", "Error.InvalidName"),
            ("0123456789ab", "Error.InvalidName"),
        ] {
            let refused = rename(&client, name).await.unwrap_err();
            assert!(refused.name.ends_with(error), "{name}: {refused:?}");
            assert_eq!(client.container(&path).await.text("Name"), "old");
        }
        rename(&client, "old").await.expect("it is called so already");
        rename(&client, "new").await.unwrap();
        assert_eq!(client.container(&path).await.text("Name"), "new");
        let found: OwnedObjectPath = client.manager("GetContainer", &"new").await.unwrap();
        assert_eq!(found, path);
        let gone = client.manager::<_, OwnedObjectPath>("GetContainer", &"old").await;
        assert!(gone.unwrap_err().name.ends_with("NoSuchContainer"));
        client.remove(&client.create("old", "true").await).await.done();

        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        let after = client.container(&path).await;
        assert_eq!((after.text("Name"), after.text("State")), ("new".into(), "running".into()));
        assert_eq!(client.exec(&path, "exit 3").await.code, 3);
        for path in [path, other] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

/// Who did what is found in the journal: once, and with what came of it.
#[test]
fn privileged_every_call_that_changes_something_leaves_one_record() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create("web", "sleep 1000").await;
        client.create_with("web", Options::new()).await.unwrap_err();
        let kill = ("init", 9_i32, 0_u64);
        client.call(&path, "Container", "Kill", &kill).await.unwrap_err();
        let start = client.start(&path).await;
        start.done();
        client.container(&path).await;
        client.list("ListContainers").await;
        let job = client.stop(&path).await;
        client.call(&job.job, "Job", "Forget", &0_u64).await.unwrap();
        client.remove(&path).await.done();
        tared.stop();

        let log = tared.log();
        let records: Vec<_> = log.lines().filter(|line| line.contains("caller_uid=")).collect();
        let wanted = [
            ("import ", "result=\"begun\""),
            ("create ", "result=\"done\""),
            ("create ", "result=\"NameInUse\""),
            ("kill ", "result=\"NotRunning\""),
            ("start ", "result=\"begun\""),
            ("stop ", "result=\"begun\""),
            ("forget a job ", "result=\"done\""),
            ("remove ", "result=\"begun\""),
        ];
        assert_eq!(records.len(), wanted.len(), "{records:#?}");
        for (record, (verb, result)) in records.iter().zip(wanted) {
            assert!(record.contains(&format!("INFO {verb}")), "{verb}: {record}");
            assert!(record.contains(result), "{verb}: {record}");
        }
    });
}
