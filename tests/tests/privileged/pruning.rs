//! Containers that do not run go, and no others.

use std::collections::HashMap;
use std::process::Command;

use system_tests::{Client, Options, Properties, ROOT, Tared, bin, on_scratch_host, started};
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

async fn prune(client: &Client, filter: Options<'_>) -> Vec<String> {
    let body = (vec!["containers"], filter);
    let ended = client.job(ROOT, "Manager", "Prune", &body).await.unwrap();
    ended.done();
    let output = client.properties(&ended.job, "Job").await.get::<Variant<'static>>("Output");
    let output: HashMap<String, OwnedVariant> = output.try_into().unwrap();
    let mut removed = Properties(output).get::<Vec<String>>("Removed");
    removed.sort();
    removed
}

fn sorted(paths: &[&OwnedObjectPath]) -> Vec<String> {
    let id = |path: &&OwnedObjectPath| path.as_str().rsplit('/').next().unwrap().to_owned();
    let mut ids: Vec<_> = paths.iter().map(id).collect();
    ids.sort();
    ids
}

#[test]
fn privileged_containers_that_do_not_run_are_pruned_and_no_others() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let runs = started(&client, "runs", "exec sleep 1000").await;
        let paused = started(&client, "paused", "exec sleep 1000").await;
        client.call(&paused, "Container", "Pause", &0_u64).await.unwrap();
        let ended = started(&client, "ended", "exit 3").await;
        client.exit(&ended).await;
        let labels = HashMap::from([("a", "b")]);
        let labelled = Options::from([
            ("Command", vec!["true"].into()),
            ("Labels", Variant::from(labels.clone())),
        ]);
        let labelled = client.create_with("labelled", labelled).await.unwrap();
        // One that is in the network of another one, be they removed in whatever order.
        let in_its = Options::from([
            ("Command", vec!["true"].into()),
            ("NetworkMode", "container:ended".into()),
        ]);
        let sidecar = client.create_with("sidecar", in_its).await.unwrap();

        assert_eq!(prune(&client, Options::from([("Until", 1_u64.into())])).await, [""; 0]);
        let dry = Options::from([("DryRun", true.into())]);
        assert_eq!(prune(&client, dry).await, sorted(&[&ended, &labelled, &sidecar]));
        assert_eq!(client.list("ListContainers").await.len(), 5, "nothing is removed yet");
        let with = Options::from([("Labels", Variant::from(labels))]);
        assert_eq!(prune(&client, with).await, sorted(&[&labelled]));
        let tarectl = Command::new(bin("tarectl"))
            .args(["--address", tared.address(), "container", "prune"])
            .output()
            .unwrap();
        assert!(tarectl.status.success(), "{tarectl:?}");
        let said = String::from_utf8(tarectl.stdout).unwrap();
        for id in sorted(&[&ended, &sidecar]) {
            assert!(said.contains(&id), "{said}");
        }
        assert_eq!(client.list("ListContainers").await.len(), 2);
        for path in [&runs, &paused] {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}
