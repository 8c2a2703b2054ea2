//! Volumes that are limited, where the filesystem counts what they hold.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;

use system_tests::Ring::Machine;
use system_tests::archive::files_tar;
use system_tests::image::file_of;
use system_tests::{Client, Options, failure, in_lab, run};
use zbus::{Fd, OwnedObjectPath, Variant};

const STATE: &str = "/var/lib/tare";
const DISK: &str = "/var/tmp/disk";
const MIB: u64 = 1 << 20;

/// A disk for what the service keeps, on which projects are counted.
struct Disk {
    /// What the bridge has from before: the service that finds no networks on the disk gives it one more.
    addresses: Vec<String>,
}

fn addresses() -> Vec<String> {
    let all = run("ip", &["-o", "address", "show"]);
    let of_bridge = all.lines().filter(|line| line.contains(" tare0 "));
    of_bridge.filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect()
}

impl Disk {
    fn new() -> Self {
        let addresses = addresses();
        run("systemctl", &["stop", "tared.service"]);
        run("truncate", &["--size=256M", DISK]);
        let counts = ["-q", "-O", "quota,project", "-E", "quotatype=prjquota", DISK];
        run("mkfs.ext4", &counts);
        run("mount", &["-o", "loop,prjquota", DISK, STATE]);
        run("systemctl", &["start", "tared.service"]);
        Self { addresses }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("systemctl", &["stop", "tared.service"]);
        run("umount", &[STATE]);
        fs::remove_file(DISK).unwrap();
        for more in addresses().iter().filter(|it| !self.addresses.contains(it)) {
            run("ip", &["address", "delete", more, "dev", "tare0"]);
        }
        run("systemctl", &["start", "tared.service"]);
    }
}

async fn create(client: &Client, name: &str) -> OwnedObjectPath {
    let options = Options::from([("SizeLimit", MIB.into())]);
    client.manager("CreateVolume", &(name, options)).await.unwrap()
}

/// The number by which the filesystem counts it.
fn project(name: &str) -> u32 {
    let said = run("lsattr", &["-pd", &format!("{STATE}/volumes/{name}/_data")]);
    said.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn vm_volumes_hold_what_they_may_and_no_more() {
    in_lab(Machine, async |lab| {
        let _disk = Disk::new();
        let client = lab.client().await;
        client.import_busybox().await;
        let volume = create(&client, "v").await;
        assert_eq!(client.properties(&volume, "Volume").await.get::<u64>("SizeLimit"), MIB);
        let row = |name: &'static str, target: &'static str| {
            HashMap::from([
                ("Name".to_owned(), Variant::from(name)),
                ("Target".to_owned(), target.into()),
            ])
        };
        let options = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            // Networks are of the other disk.
            ("NetworkMode", "none".into()),
            ("Volumes", vec![row("v", "/v"), row("open", "/open")].into()),
        ]);
        let path = client.create_with("c", options).await.unwrap();
        client.start(&path).await.done();
        let write = "dd if=/dev/zero bs=64k count=64 of=";
        let full = client.exec(&path, &format!("{write}/v/big")).await;
        assert!(full.code != 0 && full.stderr.contains("quota"), "{full:?}");
        let open = client.exec(&path, &format!("{write}/open/big")).await;
        assert_eq!(open.code, 0, "one without a limit has none: {open:?}");
        let seen = client.exec(&path, "df -k /v | tail -n 1").await.stdout;
        assert_eq!(seen.split_whitespace().nth(1), Some("1024"), "{seen}");
        let reply = client.call(&volume, "Volume", "GetUsage", &0_u64).await.unwrap();
        let usage: u64 = reply.body().deserialize().unwrap();
        assert!((MIB - 64 * 1024..=MIB).contains(&usage), "{usage}");
        client.remove(&path).await.done();

        // Whoever writes in the service's name is held to it, too.
        let into = create(&client, "into").await;
        assert_ne!(project("into"), project("v"));
        let archive = file_of(&files_tar(&[("big", &vec![1; 2 << 20])]));
        let body = (Fd::from(archive.as_fd()), Options::new());
        let ended = client.job(&into, "Volume", "Import", &body).await.unwrap();
        assert!(failure(&ended).ends_with(".NoSpace"), "{ended:?}");

        // Its number is free again, and so is given to the first that comes to a new store.
        let before = project("v");
        for volume in [volume, into] {
            client.job(&volume, "Volume", "Remove", &0_u64).await.unwrap().done();
        }
        run("systemctl", &["restart", "tared.service"]);
        let again = create(&client, "again").await;
        assert_eq!(project("again"), before);
        client.job(&again, "Volume", "Remove", &0_u64).await.unwrap().done();
    });
}
