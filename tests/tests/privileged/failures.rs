//! What fails is undone.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use system_tests::{Options, Tared, on_scratch_host};

use super::{ERROR, failure, started};

#[test]
fn privileged_a_start_that_fails_leaves_nothing() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        // Bridge and table come with the first start, and stay as long as the daemon.
        let first = started(&client, "first", "true").await;
        client.remove(&first).await.done();
        let before = host.world_at_rest();
        for (about, options, error) in [
            ("no such program", command("/nonexistent"), "CommandNotFound"),
            ("no such program in PATH", command("nonexistent"), "CommandNotFound"),
            ("no program", command("/etc/passwd"), "CommandNotExecutable"),
            ("a directory", command("/etc"), "CommandNotExecutable"),
            ("unknown user", runs_true_as("nobody-here"), "InvalidSpec"),
            ("unknown group", runs_true_as("root:nobody-here"), "InvalidSpec"),
        ] {
            let path = client.create_with("broken", options).await.unwrap();
            let ended = client.start(&path).await;
            assert_eq!(failure(&ended), format!("{ERROR}.{error}"), "{about}: {ended:?}");
            let properties = client.container(&path).await;
            assert_eq!(properties.text("State"), "exited", "{about}");
            assert_eq!(properties.text("ExitReason"), "start-failed", "{about}");
            client.remove(&path).await.done();
            host.settles_to(&before);
        }
        tared.stop();
    });
}

#[test]
fn privileged_an_exec_leaves_nothing_whether_it_fails_or_not() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        // Bridge and table come with the first start, and stay as long as the daemon.
        let first = started(&client, "first", "true").await;
        client.remove(&first).await.done();
        let empty = host.world_at_rest();
        let path = started(&client, "c", "sleep 1000").await;
        let before = host.world_at_rest();
        // Long enough to be found and watched.
        client.exec(&path, "sleep 0.3").await;
        host.settles_to(&before);
        for (about, argv, options, error) in [
            ("no such program", "/nonexistent", Options::new(), "CommandNotFound"),
            ("no such program in PATH", "nonexistent", Options::new(), "CommandNotFound"),
            ("no program", "/etc/passwd", Options::new(), "CommandNotExecutable"),
            ("unknown user", "true", user("nobody-here"), "InvalidSpec"),
        ] {
            let refused = client.exec_argv(&path, &[argv], options, b"").await.unwrap_err();
            assert_eq!(refused.name, format!("{ERROR}.{error}"), "{about}: {refused:?}");
            host.settles_to(&before);
        }
        assert_eq!(client.container(&path).await.text("State"), "running");
        client.remove(&path).await.done();
        // Though those who ran something in it can still look at how that ended.
        host.settles_to(&empty);
        tared.stop();
    });
}

/// Wherever the disk is full: of what is kept for ever, or of what dies with the boot.
#[test]
fn privileged_an_end_on_a_full_disk_is_written_down_when_there_is_space() {
    for full in ["s", "r"] {
        on_scratch_host(async |host| {
            let disk = host.path(full);
            fs::create_dir(&disk).unwrap();
            mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=64m,mode=0755"))
                .unwrap();
            let mut tared = Tared::start(host);
            let client = tared.client().await;
            client.import_busybox().await;
            let path = started(&client, "c", "sleep 1000").await;
            let body = ("all", 9_i32, 0_u64);
            let filler = fill(&disk);
            client.call(&path, "Container", "Kill", &body).await.unwrap();
            while !tared.log().contains("no space left") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            fs::remove_file(filler).unwrap();
            while client.container(&path).await.text("State") != "exited" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let properties = client.container(&path).await;
            assert_eq!(properties.get::<i32>("ExitCode"), 137, "{properties:?}");
            assert_eq!(client.exit(&path).await.signal, 9);
            client.remove(&path).await.done();
            tared.stop();
            unmount(&disk, UnmountFlags::empty()).unwrap();
        });
    }
}

/// What is wanted gone goes, also where its end cannot be written down.
#[test]
fn privileged_on_a_full_disk_containers_are_stopped_and_removed() {
    for full in ["s", "r"] {
        on_scratch_host(async |host| {
            let disk = host.path(full);
            fs::create_dir(&disk).unwrap();
            mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=64m,mode=0755"))
                .unwrap();
            let mut tared = Tared::start(host);
            let client = tared.client().await;
            client.import_busybox().await;
            let path = started(&client, "c", "sleep 1000").await;
            if full == "s" {
                // What it wrote itself is the space that its removal makes.
                client.exec(&path, "cat /dev/zero > /filler").await;
            } else {
                fill(&disk);
            }
            client.remove(&path).await.done();
            assert_eq!(client.list("ListContainers").await.len(), 0);
            let _ = fs::remove_file(disk.join("filler"));
            tared.stop();
            unmount(&disk, UnmountFlags::empty()).unwrap();
        });
    }
}

/// A file that takes all the space there is.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::create(&path).unwrap();
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    path
}

fn command(program: &str) -> Options<'_> {
    Options::from([("Command", vec![program].into())])
}

fn user(name: &str) -> Options<'_> {
    Options::from([("User", name.into())])
}

fn runs_true_as(name: &str) -> Options<'_> {
    command("true").into_iter().chain(user(name)).collect()
}
