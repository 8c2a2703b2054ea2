//! Where containers are in the host's control groups.

use std::fs;

use system_tests::world::cgroup2;
use system_tests::{ERROR, Options, Tared, failure, on_scratch_host};
use zbus::Variant;

fn below(parent: &str) -> Options<'_> {
    Options::from([
        ("Command", Variant::from(vec!["sleep", "1000"])),
        ("CgroupParent", Variant::from(parent)),
    ])
}

#[test]
fn privileged_a_container_is_in_the_group_that_is_asked_for() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let parent = format!("/tare-test-{}", std::process::id());
        let dir = cgroup2().join(&parent[1..]);
        let path = client.create_with("c", below(&parent)).await.unwrap();
        assert!(client.container(&path).await.get::<bool>("Privileged"));
        let absent = client.start(&path).await;
        let invalid = format!("{ERROR}.InvalidSpec");
        assert_eq!(failure(&absent), invalid, "it is not there");
        assert!(!dir.exists(), "and not made: nobody would take it away");

        fs::create_dir(&dir).unwrap();
        client.start(&path).await.done();
        let group = client.container(&path).await.text("CGroupPath");
        assert!(group.starts_with(&format!("{parent}/tare-")), "{group}");
        let payload = cgroup2().join(&group[1..]).join("payload/cgroup.procs");
        assert_ne!(fs::read_to_string(&payload).unwrap(), "");
        assert_eq!(client.exec(&path, "echo hello").await.stdout, "hello\n");
        // Another daemon finds it there.
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(client.container(&path).await.text("State"), "running");
        client.stop(&path).await.done();
        assert!(!payload.exists());
        client.start(&path).await.done();
        client.remove(&path).await.done();
        let left: Vec<_> = fs::read_dir(&dir).unwrap().flatten().collect();
        assert!(left.iter().all(|it| !it.path().is_dir()), "{left:?}");
        fs::remove_dir(&dir).unwrap();

        let args = "org.freedesktop.DBus.Error.InvalidArgs";
        for (wrong, name) in [("batch.slice", &*invalid), ("relative", args), ("/a/../b", args)] {
            let refused = client.create_with("c", below(wrong)).await.unwrap_err();
            assert_eq!(refused.name, name, "{wrong}");
            assert!(refused.message.contains("'CgroupParent'"), "{refused:?}");
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_container_logs_into_a_journal_only_where_it_is_a_unit() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let to = |driver: &'static str| {
            Options::from([
                ("Command", Variant::from(vec!["echo", "hi"])),
                ("LogDriver", Variant::from(driver)),
            ])
        };
        let refused = client.create_with("c", to("journald")).await.unwrap_err();
        assert_eq!(refused.name, format!("{ERROR}.InvalidSpec"));
        assert!(refused.message.contains("'LogDriver'"), "{refused:?}");
        let refused = client.create_with("c", to("none")).await.unwrap_err();
        assert_eq!(refused.name, "org.freedesktop.DBus.Error.InvalidArgs");

        let path = client.create_with("c", to("k8s-file")).await.unwrap();
        client.start(&path).await.done();
        client.exit(&path).await;
        assert!(client.logs(&path, Options::new()).await.contains(r#""msg":"hi""#));
        client.remove(&path).await.done();
        tared.stop();
    });
}
