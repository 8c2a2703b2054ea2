//! Roots of containers, mounted on the host for callers without descriptors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::StatVfsMountFlags;
use system_tests::{Client, Refused, Tared, bin, on_scratch_host};
use zbus::OwnedObjectPath;

use super::started;

/// Flags of `MountRootfs`.
const READ_ONLY: u64 = 1;
const KEEP: u64 = 2;

async fn mount(client: &Client, path: &OwnedObjectPath, flags: u64) -> Result<String, Refused> {
    let reply = client.call(path, "Container", "MountRootfs", &flags).await?;
    Ok(reply.body().deserialize().unwrap())
}

async fn unmount(client: &Client, path: &OwnedObjectPath) -> Result<(), Refused> {
    client.call(path, "Container", "UnmountRootfs", &0_u64).await.map(drop)
}

/// What of the host's mounts has this in its path.
fn mounted(place: &str) -> usize {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(place)).count()
}

async fn gone(place: &str) {
    for _ in 0..2000 {
        if mounted(place) == 0 && !Path::new(place).exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{place} is still there");
}

#[test]
fn privileged_a_root_is_mounted_as_often_as_it_is_asked_for() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "echo hello > /file; exec sleep 1000").await;
        while client.exec(&path, "cat /file").await.stdout != "hello\n" {}
        for flags in [0, KEEP, 4 | READ_ONLY] {
            assert_eq!(mount(&client, &path, flags).await.unwrap_err().short(), "InvalidArgs");
        }
        assert_eq!(unmount(&client, &path).await.unwrap_err().short(), "InvalidState");

        let place = mount(&client, &path, READ_ONLY).await.unwrap();
        let at = |name: &str| Path::new(&place).join(name);
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "hello\n");
        let error = fs::write(at("other"), "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        let flags = rustix::fs::statvfs(&*place).unwrap().f_flag;
        assert!(flags.contains(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV), "{flags:?}");
        // Nobody else gets there.
        let above = Path::new(&place).parent().unwrap();
        assert_eq!(fs::metadata(above).unwrap().permissions().mode() & 0o7777, 0o700);
        let all = fs::metadata(above.parent().unwrap()).unwrap();
        assert_eq!(all.permissions().mode() & 0o7777, 0o711);

        assert_eq!(mount(&client, &path, READ_ONLY).await.unwrap(), place, "the same once more");
        assert_eq!(mounted(&place), 1);
        unmount(&client, &path).await.unwrap();
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "hello\n", "one still needs it");

        // While it is used it stays, and whoever uses it has that.
        let open = fs::File::open(at("file")).unwrap();
        let busy = unmount(&client, &path).await.unwrap_err();
        assert_eq!(busy.short(), "MountFailed", "{busy:?}");
        assert_eq!(mounted(&place), 1);
        drop(open);
        unmount(&client, &path).await.unwrap();
        assert_eq!(mounted(&place), 0);
        assert!(!above.exists());
        assert_eq!(unmount(&client, &path).await.unwrap_err().short(), "InvalidState");
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_a_mounted_root_goes_with_its_caller_unless_it_is_kept() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "exec sleep 1000").await;
        let place = mount(&client, &path, READ_ONLY).await.unwrap();
        // Not even who has something open is in the way.
        let open = fs::File::open(Path::new(&place).join("bin/busybox")).unwrap();
        drop(client);
        gone(&place).await;
        drop(open);

        let client = tared.client().await;
        assert_eq!(mount(&client, &path, READ_ONLY | KEEP).await.unwrap(), place);
        mount(&client, &path, READ_ONLY).await.unwrap();
        drop(client);
        let client = tared.client().await;
        // The one that was kept is its user's, whoever of them calls.
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(mounted(&place), 1);
        unmount(&client, &path).await.unwrap();
        gone(&place).await;
        assert_eq!(unmount(&client, &path).await.unwrap_err().short(), "InvalidState");

        let tarectl = |arguments: &[&str]| {
            let mut command = Command::new(bin("tarectl"));
            command.args(["--address", tared.address()]).args(arguments);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(tarectl(&["container", "mount", "c"]).trim_end(), place);
        assert!(Path::new(&place).join("bin/busybox").exists());
        tarectl(&["container", "unmount", "c"]);
        assert_eq!(mounted(&place), 0);

        // The container takes all of it along.
        mount(&client, &path, READ_ONLY | KEEP).await.unwrap();
        client.remove(&path).await.done();
        assert_eq!(mounted(&place), 0);
        assert!(!Path::new(&place).parent().unwrap().exists());
        tared.stop();
    });
}

#[test]
fn privileged_a_mounted_root_outlives_the_daemon_and_what_was_half_made_does_not() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "exec sleep 1000").await;
        let place = mount(&client, &path, READ_ONLY | KEEP).await.unwrap();
        tared.kill9();
        drop(client);
        assert!(Path::new(&place).join("bin/busybox").exists());
        // What somebody had begun for another user.
        let own = Path::new(&place).parent().unwrap();
        let stray = own.to_str().unwrap().rsplit_once('-').unwrap().0.to_owned() + "-7";
        fs::create_dir_all(Path::new(&stray).join("root")).unwrap();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert!(!Path::new(&stray).exists());
        assert!(Path::new(&place).join("bin/busybox").exists());
        assert_eq!(mounted(&place), 1);
        unmount(&client, &path).await.unwrap();
        assert_eq!(mounted(&place), 0);

        // One whose caller has left, and its bus with it, while nobody looked.
        mount(&client, &path, READ_ONLY).await.unwrap();
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        gone(&place).await;
        let client = tared.client().await;
        mount(&client, &path, READ_ONLY).await.unwrap();
        client.remove(&path).await.done();
        assert_eq!(mounted(&place), 0);
        tared.stop();
    });
}
