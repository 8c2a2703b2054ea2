//! Containers that do not run go, and no others.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use system_tests::{
    Client, Ended, Options, Properties, ROOT, Tared, bin, on_scratch_host, read, started,
};
use zbus::{OwnedFd, OwnedObjectPath, OwnedVariant, Variant};

async fn prune(client: &Client, filter: Options<'_>) -> Vec<String> {
    removed(client, &pruned(client, filter).await).await
}

async fn pruned(client: &Client, filter: Options<'_>) -> Ended {
    let body = (vec!["containers"], filter);
    client.job(ROOT, "Manager", "Prune", &body).await.unwrap()
}

async fn removed(client: &Client, ended: &Ended) -> Vec<String> {
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

#[test]
fn privileged_one_that_cannot_be_removed_is_no_reason_not_to_prune_the_others() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mut all = Vec::new();
        for name in ["a", "b", "c"] {
            all.push(client.create(name, "true").await);
        }
        // Whichever it is: the first that is pruned.
        all.sort_by_key(ToString::to_string);
        let dir = host.scratch().join("s/containers").join(&sorted(&[&all[0]])[0]);
        let stays = dir.join("stays");
        fs::create_dir(&stays).unwrap();
        mount("none", &stays, "tmpfs", MountFlags::empty(), None).unwrap();
        let ended = pruned(&client, Options::new()).await;
        assert_eq!(removed(&client, &ended).await, sorted(&[&all[1], &all[2]]));
        let log = client.call(&ended.job, "Job", "OpenLog", &0_u64).await.unwrap();
        let log = read(log.body().deserialize::<OwnedFd>().unwrap()).await;
        assert!(log.contains("\"priority\":3"), "{log}");
        // Its directory has another name by now.
        let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
        let at = mounts.split(' ').find(|at| at.ends_with("/stays")).unwrap();
        unmount(at, UnmountFlags::empty()).unwrap();
        client.remove(&all[0]).await.done();
        tared.stop();
    });
}
