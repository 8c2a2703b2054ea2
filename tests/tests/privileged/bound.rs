//! Containers that go with whoever made them.

use std::time::{Duration, Instant};

use system_tests::{Client, Options, Tared, on_scratch_host};
use zbus::Variant;

/// `Remove`.
const KILL_FIRST: u64 = 1;
const WITH_VOLUMES: u64 = 2;

fn bound() -> Options<'static> {
    Options::from([
        ("Command", Variant::from(vec!["sleep", "1000"])),
        ("BindToCaller", Variant::from(true)),
        (
            "Volumes",
            vec![std::collections::HashMap::from([("Target", Variant::from("/v"))])].into(),
        ),
    ])
}

/// Waits until there are only these.
async fn names_become(client: &Client, wanted: &[&str]) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let rows = client.list("ListContainers").await;
        let mut names: Vec<String> = rows.iter().map(|row| row.get("Name")).collect();
        names.sort();
        if names == wanted {
            return;
        }
        assert!(Instant::now() < end, "there are {names:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn privileged_a_container_goes_when_its_caller_leaves() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let (client, other) = (tared.client().await, tared.client().await);
        client.import_busybox().await;
        let kept = client.create("kept", "sleep 1000").await;
        let mine = client.create_with("mine", bound()).await.unwrap();
        let running = other.create_with("running", bound()).await.unwrap();
        other.start(&running).await.done();
        other.create_with("made", bound()).await.unwrap();
        // It cannot go before the one that is in its network.
        let of_other = Options::from([("NetworkMode", "container:running".into())]);
        let sharer =
            other.create_with("sharer", bound().into_iter().chain(of_other).collect()).await;
        other.start(&sharer.unwrap()).await.done();
        // That it is bound to has no say over its name.
        client.call(&running, "Container", "Rename", &("renamed", 0_u64)).await.unwrap();
        assert_eq!(client.list("ListVolumes").await.len(), 4);
        drop(other);
        names_become(&client, &["kept", "mine"]).await;
        assert_eq!(client.list("ListVolumes").await.len(), 1, "with what was made for them alone");
        for path in [kept, mine] {
            let flags = KILL_FIRST | WITH_VOLUMES;
            client.job(&path, "Container", "Remove", &flags).await.unwrap().done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_container_goes_when_its_caller_left_while_nobody_looked() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create_with("c", bound()).await.unwrap();
        client.start(&path).await.done();
        client.create("kept", "true").await;
        drop(client);
        // Its bus goes with it.
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        names_become(&client, &["kept"]).await;
        let kept: zbus::OwnedObjectPath = client.manager("GetContainer", &"kept").await.unwrap();
        client.remove(&kept).await.done();
        tared.stop();
    });
}
