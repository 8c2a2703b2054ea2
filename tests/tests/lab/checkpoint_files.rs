//! What checkpoints have of the files of containers, and other containers that go on with these.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use system_tests::Ring::System;
use system_tests::{Client, ERROR, Ended, Options, ROOT, failure, in_lab, run, started};
use zbus::{Fd, OwnedObjectPath, Variant};

use crate::checkpoints::{COUNTS, checkpoint, counts, files, made, restore, state, taken};

/// Changes its files, has one of its shared memory open, and counts.
const CHANGES: &str = "echo kept > /dev/shm/kept; exec 4< /dev/shm/kept; echo early > /early; \
                       rm -r /root; chmod 711 /etc; sleep 1000 & ";

fn script() -> String {
    format!("{CHANGES}{COUNTS}")
}

/// A checkpoint after which the container goes on.
async fn meanwhile(client: &Client, path: &OwnedObjectPath, more: Options<'_>) -> OwnedObjectPath {
    let mut options = Options::from([("LeaveRunning", true.into())]);
    options.extend(more);
    taken(client, &checkpoint(client, path, options).await).await
}

async fn says(client: &Client, path: &OwnedObjectPath, script: &str) -> String {
    let said = client.exec(path, script).await;
    assert_eq!(said.code, 0, "{script}: {said:?}");
    said.stdout
}

async fn end(client: &Client, path: &OwnedObjectPath) {
    let seen = client.messages().len();
    client.call(path, "Container", "Kill", &("init", 9, 0_u64)).await.unwrap();
    client.exit_after(seen, path).await;
}

fn dir(checkpoint: &OwnedObjectPath) -> PathBuf {
    Path::new("/var/lib/tare/checkpoints").join(checkpoint.as_str().rsplit('/').next().unwrap())
}

/// The names in an archive of a checkpoint.
fn names(checkpoint: &OwnedObjectPath, archive: &str) -> Vec<String> {
    let archive = dir(checkpoint).join(archive);
    let listed = run("tar", &["-tf", archive.to_str().unwrap()]);
    listed.lines().map(Into::into).collect()
}

#[test]
fn lab_what_went_with_a_container_is_there_again_and_what_it_wrote_since_stays() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let path = started(&client, "c", &script()).await;
        counts(&path, |it| it > 5).await;
        let from = meanwhile(&client, &path, Options::new()).await;
        assert!(client.properties(&from, "Checkpoint").await.get::<bool>("RootfsIncluded"));
        assert_eq!(names(&from, "shm.tar"), ["./", "kept"]);
        let changed = names(&from, "changes.tar");
        for name in [".wh.root", "early", "etc/"] {
            assert!(changed.iter().any(|it| it == name), "{name}: {changed:?}");
        }

        says(&client, &path, "echo late > /late; echo late > /dev/shm/late").await;
        end(&client, &path).await;
        restore(&client, &path, &from).await.done();
        let said =
            says(&client, &path, "cat /early /late /dev/shm/* /proc/1/fd/4; ls /dev/shm").await;
        assert_eq!(said, "early\nlate\nkept\nkept\nkept\n");
        let now = counts(&path, |it| it > 5).await;
        counts(&path, |it| it > now).await;

        let less = meanwhile(&client, &path, Options::from([("Rootfs", false.into())])).await;
        assert!(!client.properties(&less, "Checkpoint").await.get::<bool>("RootfsIncluded"));
        assert!(dir(&less).join("shm.tar").exists() && !dir(&less).join("changes.tar").exists());
        end(&client, &path).await;
        client.remove(&path).await.done();
        assert_eq!(files(), Vec::<String>::new());
    });
}

#[test]
fn lab_while_something_is_copied_into_a_container_no_checkpoint_is_taken() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let path = started(&client, "c", COUNTS).await;
        let (reader, writer) = std::io::pipe().unwrap();
        let fd = Fd::from(std::os::fd::AsFd::as_fd(&reader));
        let reply = client.call(&path, "Container", "CopyIn", &(fd, "/tmp", Options::new())).await;
        let copying: OwnedObjectPath = reply.unwrap().body().deserialize().unwrap();
        drop(reader);
        while client.properties(&copying, "Job").await.text("Stage") != "copying" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let refused = checkpoint(&client, &path, Options::new()).await;
        assert_eq!(failure(&refused), format!("{ERROR}.InvalidState"));
        assert_eq!(state(&client, &path).await, "running");
        assert_eq!(files(), Vec::<String>::new());
        drop(writer);
        client.ended(&copying).await;
        end(&client, &path).await;
        client.remove(&path).await.done();
    });
}

async fn restore_as(
    client: &Client,
    from: &OwnedObjectPath,
    name: &str,
    options: Options<'_>,
) -> Ended {
    client.job(from, "Checkpoint", "RestoreAs", &(name, options)).await.unwrap()
}

/// How many containers there are.
async fn number(client: &Client) -> usize {
    client.list("ListContainers").await.len()
}

#[test]
fn lab_several_containers_go_on_at_once_from_where_one_was() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let first = started(&client, "first", &script()).await;
        counts(&first, |it| it > 50).await;
        let from = meanwhile(&client, &first, Options::new()).await;
        let taken_at = counts(&first, |it| it > 0).await;
        // All of that comes after it.
        says(&client, &first, "echo late > /late; echo late > /early; mkdir /root").await;

        let [one, two, three] = ["one", "two", "three"];
        let copies = tokio::join!(
            restore_as(&client, &from, one, Options::new()),
            restore_as(&client, &from, two, Options::new()),
            restore_as(&client, &from, three, Options::new()),
        );
        let mut addresses = BTreeSet::from([address(&client, &first).await]);
        let hostname = says(&client, &first, "hostname").await;
        let mut all = vec![first.clone()];
        for (name, copy) in [one, two, three].into_iter().zip([copies.0, copies.1, copies.2]) {
            let path = made(&client, &copy, "Container").await;
            let shown = client.container(&path).await;
            assert_eq!((shown.text("Name"), shown.text("State")), (name.into(), "running".into()));
            let now = counts(&path, |it| it > 0).await;
            assert!((50..taken_at + 500).contains(&now), "from {taken_at} to {now}");
            counts(&path, |it| it > now).await;
            let said = says(
                &client,
                &path,
                "cat /early /dev/shm/kept /proc/1/fd/4; ls -d /late /root; \
                                             stat -c %a /etc; hostname; cat /etc/hostname",
            )
            .await;
            assert_eq!(said, format!("early\nkept\nkept\n711\n{hostname}{hostname}"), "{name}");
            let hosts = says(&client, &path, "cat /etc/hosts").await;
            let own = address(&client, &path).await;
            assert!(hosts.lines().any(|line| line.starts_with(&*own)), "{own}: {hosts}");
            let groups = groups(shown.get("PID"));
            let group = shown.text("CGroupPath");
            assert!(groups.iter().all(|it| it.contains(&group)), "{group}: {groups:?}");
            let mac = says(&client, &path, "cat /sys/class/net/eth0/address").await;
            addresses.insert(own);
            addresses.insert(mac);
            all.push(path);
        }
        // Images, two archives and figures: what was made for the others is gone.
        assert_eq!(std::fs::read_dir(dir(&from)).unwrap().count(), 4);
        assert_eq!(addresses.len(), 1 + 2 * 3, "{addresses:?}");
        // What one writes no other sees, and the first one has lost nothing.
        says(&client, &all[1], "echo mine > /early").await;
        assert_eq!(says(&client, &all[2], "cat /early").await, "early\n");
        assert_eq!(says(&client, &first, "cat /early /late").await, "late\nlate\n");

        refusals(&client, &first, &from).await;
        // They end one by one, and the first one with its checkpoints.
        while !all.is_empty() {
            let ended = all.remove(0);
            end(&client, &ended).await;
            client.remove(&ended).await.done();
            for path in &all {
                let now = counts(path, |it| it > 0).await;
                counts(path, |it| it > now).await;
            }
        }
        assert_eq!(files(), Vec::<String>::new());
    });
}

/// The control groups of a process and of its children; some of these end at once.
fn groups(pid: u32) -> Vec<String> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let of = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    let pid = pid.to_string();
    [&*pid].into_iter().chain(children.split_whitespace()).filter_map(of).collect()
}

async fn address(client: &Client, path: &OwnedObjectPath) -> String {
    let own = says(client, path, "ip -4 -o addr show dev eth0").await;
    let own = own.split_whitespace().find(|word| word.contains('/')).unwrap();
    own.split('/').next().unwrap().to_owned()
}

/// What does not become a container leaves none.
async fn refusals(client: &Client, first: &OwnedObjectPath, from: &OwnedObjectPath) {
    let before = number(client).await;
    let taken = restore_as(client, from, "two", Options::new()).await;
    assert_eq!(failure(&taken), format!("{ERROR}.NameInUse"));
    let without = meanwhile(client, first, Options::from([("Rootfs", false.into())])).await;
    let body = ("four", Options::new());
    let refused = client.call(&without, "Checkpoint", "RestoreAs", &body).await.unwrap_err();
    assert_eq!(refused.name, format!("{ERROR}.CheckpointIncompatible"));
    has_volumes(client).await;
    // An archive that has not all of it, as after a fault of the disk.
    let archive = dir(from).join("changes.tar");
    let file = std::fs::OpenOptions::new().write(true).open(archive).unwrap();
    file.set_len(700).unwrap();
    let cut = restore_as(client, from, "four", Options::new()).await;
    assert_eq!(cut.result, "failed", "{cut:?}");
    // CRIU has not all that it needs.
    let whole = meanwhile(client, first, Options::new()).await;
    std::fs::remove_file(dir(&whole).join("images/pages-1.img")).unwrap();
    let failed = restore_as(client, &whole, "four", Options::new()).await;
    assert_eq!(failure(&failed), format!("{ERROR}.RestoreFailed"));
    assert_eq!(number(client).await, before);
    let upper = std::fs::read_dir("/var/lib/tare/containers").unwrap().count();
    assert_eq!(upper, before, "no root is left");
}

/// Two containers that each have a volume alone are not made of one; a volume with a name is for both.
async fn has_volumes(client: &Client) {
    let volume = |name: Option<&'static str>| {
        let mut volume = HashMap::from([("Target", Variant::from("/data"))]);
        volume.extend(name.map(|name| ("Name", name.into())));
        let command = vec!["sh", "-c", COUNTS];
        Options::from([("Command", command.into()), ("Volumes", vec![volume].into())])
    };
    let mut all = Vec::new();
    for (name, volume) in [("own", volume(None)), ("shared", volume(Some("data")))] {
        let path = client.create_with(name, volume).await.unwrap();
        client.start(&path).await.done();
        let from = meanwhile(client, &path, Options::new()).await;
        let copy = client.call(&from, "Checkpoint", "RestoreAs", &("", Options::new())).await;
        if name == "own" {
            assert_eq!(copy.unwrap_err().name, format!("{ERROR}.CheckpointIncompatible"));
        } else {
            let ended = client.ended(&copy.unwrap().body().deserialize().unwrap()).await;
            let copy = made(client, &ended, "Container").await;
            assert!(client.container(&copy).await.text("Name").starts_with("busybox-"));
            says(client, &path, "echo both > /data/file").await;
            assert_eq!(says(client, &copy, "cat /data/file").await, "both\n");
            all.push(copy);
        }
        all.push(path);
    }
    for path in all {
        client.job(&path, "Container", "Remove", &3_u64).await.unwrap().done();
    }
    let volume = client.call(ROOT, "Manager", "GetVolume", &"data").await.unwrap();
    let volume: OwnedObjectPath = volume.body().deserialize().unwrap();
    client.job(&volume, "Volume", "Remove", &0_u64).await.unwrap().done();
}

#[test]
fn lab_people_have_another_container_go_on_by_their_words() {
    in_lab(System, async |lab| {
        lab.client().await.import_busybox().await;
        let tarectl = |arguments: &[&str]| run("tarectl", arguments);
        tarectl(&["run", "--name", "c", "--publish", "8765:80", "busybox", "sh", "-c", COUNTS]);
        tarectl(&["checkpoint", "--leave-running", "c"]);
        let id = tarectl(&["restore", "--name", "d", "--publish", "8766:80", "c"]);
        assert_eq!(id.trim().len(), 64, "{id}");
        assert_eq!(tarectl(&["ps"]).matches("running").count(), 2);
        tarectl(&["rm", "--force", "c", "d"]);
    });
}
