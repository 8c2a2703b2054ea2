//! Limits of containers, changed while they run. What they do to processes is seen in emulated
//! machines: this host counts nothing but huge pages.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use system_tests::{Client, ERROR, Options, Tared, on_scratch_host};
use zbus::{OwnedObjectPath, Variant};

use super::started;

const MB: u64 = 1 << 20;

fn pages(bytes: u64) -> Variant<'static> {
    vec![("2MB", bytes)].into()
}

async fn update(
    client: &Client,
    path: &OwnedObjectPath,
    options: impl IntoIterator<Item = (&'static str, Variant<'static>)>,
) -> Result<(), String> {
    let options: Options<'_> = options.into_iter().collect();
    client.call(path, "Container", "Update", &options).await.map(drop).map_err(|error| error.name)
}

/// What the kernel has for a container that runs.
async fn in_force(client: &Client, path: &OwnedObjectPath) -> String {
    let group = client.container(path).await.text("CGroupPath");
    let root = PathBuf::from("/sys/fs/cgroup/unified").join(group.trim_start_matches('/'));
    fs::read_to_string(root.join("payload/hugetlb.2MB.max")).unwrap().trim().to_owned()
}

async fn limits(client: &Client, path: &OwnedObjectPath) -> BTreeMap<String, Variant<'static>> {
    client.container(path).await.get("Limits")
}

#[test]
fn privileged_limits_change_while_a_container_runs_and_stay() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let options = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("HugepageLimits", pages(8 * MB)),
        ]);
        let path = client.create_with("c", options).await.unwrap();
        client.start(&path).await.done();
        assert_eq!(in_force(&client, &path).await, (8 * MB).to_string());

        let more = [("HugepageLimits", pages(4 * MB)), ("RestartPolicy", "on-failure:3".into())];
        update(&client, &path, more).await.unwrap();
        assert_eq!(in_force(&client, &path).await, (4 * MB).to_string());
        let now = client.container(&path).await;
        assert_eq!(now.text("RestartPolicy"), "on-failure:3");
        let shown = limits(&client, &path).await;
        assert_eq!(shown["HugepageLimits"], pages(4 * MB));
        assert_eq!(shown["RestartPolicy"], Variant::from("on-failure:3"));
        assert!(!shown.contains_key("Memory"), "{shown:?}");

        // They outlive the daemon, and are those of the next start.
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(limits(&client, &path).await["HugepageLimits"], pages(4 * MB));
        assert_eq!(in_force(&client, &path).await, (4 * MB).to_string());
        client.stop(&path).await.done();
        update(&client, &path, [("HugepageLimits", pages(u64::MAX))]).await.unwrap();
        client.start(&path).await.done();
        assert_eq!(in_force(&client, &path).await, "max");
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_limits_change_all_or_not_at_all() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        update(&client, &path, [("HugepageLimits", pages(4 * MB))]).await.unwrap();
        let args = "org.freedesktop.DBus.Error.InvalidArgs".to_owned();
        let before = limits(&client, &path).await;
        for (options, error) in [
            // This host cannot count memory.
            (vec![("Memory", (64 * MB).into())], format!("{ERROR}.InvalidSpec")),
            (vec![("MemorySwap", (64 * MB).into())], format!("{ERROR}.InvalidSpec")),
            (vec![("Memory", 1_u64.into())], args.clone()),
            (vec![("RestartPolicy", "sometimes".into())], args.clone()),
            (vec![("Env", vec!["A=1"].into())], format!("{ERROR}.UnknownOption")),
            // The kernel refuses: there are no pages of that size.
            (
                vec![("HugepageLimits", vec![("2MB", MB), ("3MB", MB)].into())],
                format!("{ERROR}.Internal"),
            ),
        ] {
            let shown = format!("{options:?}");
            let options = options.into_iter().chain([("StopTimeoutUSec", 1_u64.into())]);
            assert_eq!(update(&client, &path, options).await.unwrap_err(), error, "{shown}");
            assert_eq!(in_force(&client, &path).await, (4 * MB).to_string(), "{shown}");
            assert_eq!(limits(&client, &path).await, before, "{shown}");
        }
        client.remove(&path).await.done();

        let goes = Options::from([("AutoRemove", true.into())]);
        let path = client.create_with("goes", goes).await.unwrap();
        let again = [("RestartPolicy", "always".into())];
        assert_eq!(update(&client, &path, again).await.unwrap_err(), args);
        client.remove(&path).await.done();
        tared.stop();
    });
}
