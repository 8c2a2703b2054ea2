//! What checkpoints have of the files of containers, and what becomes of these.

use std::path::{Path, PathBuf};
use std::time::Duration;

use system_tests::Ring::System;
use system_tests::{Client, ERROR, Options, failure, in_lab, run, started};
use zbus::{Fd, OwnedObjectPath};

use crate::checkpoints::{COUNTS, checkpoint, counts, files, restore, state, taken};

/// Changes its files, has one of its shared memory open, and counts.
const CHANGES: &str = "echo kept > /dev/shm/kept; exec 4< /dev/shm/kept; echo early > /early; \
                       rm -r /root; chmod 711 /etc; ";

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
