//! The configurations of containers beside those that podman writes for the same options.

mod cases;
mod differences;
mod fields;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;
use system_tests::Ring::System;
use system_tests::image::busybox_tar;
use system_tests::{Client, Options, in_lab, run};
use zbus::{OwnedObjectPath, Variant};

use cases::{Case, cases};
use differences::{DIFFERENCES, Difference};
use fields::{Fields, fields};

/// Where podman's containers keep their configuration goes by this name in what is compared.
const ITS_ID: &str = "ID";
const COMMAND: [&str; 2] = ["sleep", "1000"];

/// podman, with the image; what it has made goes with this.
struct Podman {
    image: &'static str,
}

impl Podman {
    fn new() -> Self {
        let archive = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        fs::write(archive.path(), busybox_tar()).unwrap();
        let image = "same";
        run("podman", &["import", "--quiet", archive.path().to_str().unwrap(), image]);
        Self { image }
    }

    /// The configuration of a container.
    fn config(&self, case: &Case) -> Value {
        let network: &[&str] = if case.has_network() { &[] } else { &["--network", "none"] };
        // There is nothing to limit them by.
        let always = ["create", "--pids-limit", "0"];
        let arguments = [&always, network, case.podman, &[self.image], &COMMAND].concat();
        let id = run("podman", &arguments).trim().to_owned();
        run("podman", &["init", &id]);
        let path = run("podman", &["inspect", "--format", "{{.OCIConfigPath}}", &id]);
        let config = fs::read_to_string(path.trim()).unwrap();
        run("podman", &["rm", "--force", "--time", "0", &id]);
        let config = config.replace(&id, ITS_ID).replace(&id[..12], ITS_ID);
        serde_json::from_str(&config).unwrap()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let image = ["rmi", "--force", self.image];
        for arguments in [&image[..], &["volume", "rm", "--force", "podmans"]] {
            let _ = Command::new("podman").args(arguments).output();
        }
        // What it keeps mounted for the next time.
        let kept = "/var/lib/containers/storage/overlay";
        let _ = rustix::mount::unmount(kept, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Case {
    fn has_network(&self) -> bool {
        self.tare.contains_key("NetworkMode")
    }

    fn options(&self) -> Options<'static> {
        let mut options = self.tare.clone();
        options.insert("Command", COMMAND.to_vec().into());
        if !self.has_network() {
            options.insert("NetworkMode", "none".into());
        }
        options
    }
}

/// The configuration that Tare would make.
async fn config(client: &Client, case: &Case) -> Value {
    let body = ("busybox", case.options(), 0_u64);
    let made: (String, Vec<String>, String) = client.manager("GenerateSpec", &body).await.unwrap();
    let id = "0".repeat(64);
    let config = made.0.replace(&id, ITS_ID).replace(&id[..12], ITS_ID);
    serde_json::from_str(&config).unwrap()
}

/// Where two configurations are different, as `path: theirs -> ours`.
fn compare(theirs: &Fields, ours: &Fields) -> BTreeMap<String, (Option<Value>, Option<Value>)> {
    let paths: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let both = |path: &String| (theirs.get(path).cloned(), ours.get(path).cloned());
    let pairs = paths.into_iter().map(|path| (path.clone(), both(path)));
    pairs.filter(|(_, (one, other))| one != other).collect()
}

#[test]
fn lab_configurations_are_those_of_podman_but_for_what_is_said() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let podman = Podman::new();
        let (mut unsaid, mut used) = (Vec::new(), BTreeSet::new());
        for case in cases() {
            let (theirs, ours) = (podman.config(&case), config(&client, &case).await);
            for (path, (one, other)) in compare(&fields(&theirs), &fields(&ours)) {
                let fits = |it: &Difference| it.fits(case.name, &path);
                match DIFFERENCES.iter().position(fits) {
                    Some(number) => drop(used.insert(number)),
                    None => unsaid.push(format!("{}: {path}: {one:?} -> {other:?}", case.name)),
                }
            }
        }
        assert!(unsaid.is_empty(), "{} differences:\n{}", unsaid.len(), unsaid.join("\n"));
        let unused = (0..DIFFERENCES.len()).filter(|number| !used.contains(number));
        let unused: Vec<_> = unused.map(|number| &DIFFERENCES[number]).collect();
        assert!(unused.is_empty(), "they are not different any more: {unused:?}");
    });
}

#[test]
fn lab_both_runtimes_take_every_configuration() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        for case in cases() {
            for runtime in ["crun", "runc"] {
                let mut options = case.options();
                options.insert("Runtime", Variant::from(runtime));
                let path = client.create_with("c", options).await.unwrap();
                let ended =
                    client.job(&path, "Container", "Prepare", &Options::new()).await.unwrap();
                assert_eq!(ended.result, "done", "{} by {runtime}: {ended:?}", case.name);
                client.remove(&path).await.done();
            }
        }
        let volume: OwnedObjectPath = client.manager("GetVolume", &"tares").await.unwrap();
        client.job(&volume, "Volume", "Remove", &0_u64).await.unwrap().done();
    });
}
