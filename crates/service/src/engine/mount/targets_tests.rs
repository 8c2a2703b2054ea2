#![expect(clippy::disallowed_methods, reason = "a test's own")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// A root with links, and what is mounted in it.
struct Trees(tempfile::TempDir);

impl Trees {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for made in ["root/data", "root/srv/x", "root/deep/er", "volume/plain"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        let link = |to: &str, at: &str| symlink(to, dir.path().join(at)).unwrap();
        link("/srv/x", "root/data/current");
        link("../data", "root/deep/er/data");
        link("/data", "root/short");
        link("/data/current", "root/by");
        link("/proc", "root/proc-of-image");
        link("/data/../proc-of-image", "root/round");
        link("/data/../p", "root/round-short");
        link("/proc", "root/p");
        link("/proc", "volume/s");
        link("plain", "volume/inner");
        Self(dir)
    }

    fn open(&self, path: &str) -> std::os::fd::OwnedFd {
        File::open(self.0.path().join(Path::new(path))).unwrap().into()
    }

    /// Where they are, of which `/data` may be the volume.
    fn place(&self, mounts: &str) -> Result<Vec<String>, String> {
        let mounts: Vec<MountRequest> = serde_json::from_str(mounts).unwrap();
        let of_volume = mounts.iter().filter(|mount| mount.target.as_str() != "/none");
        let of_volume =
            of_volume.filter(|mount| matches!(mount.source, MountSource::Volume { .. }));
        let sources: Vec<Source> = of_volume
            .map(|mount| Source { target: mount.target.clone(), mount: self.open("volume") })
            .collect();
        let found = resolved(&Rootfs::from_fd(self.open("root")), &mounts, &sources);
        match found {
            Ok(found) => Ok(mounts
                .iter()
                .map(|mount| found.get(&mount.target).unwrap_or(&mount.target).to_string())
                .collect()),
            Err(Problem::Target { asked, leads_to }) => Err(format!("{asked}: {leads_to}")),
            Err(Problem::Storage(error)) => panic!("{error}"),
        }
    }
}

fn volume(target: &str) -> String {
    format!(r#"{{"Target":"{target}","Source":{{"Volume":{{"Name":"v"}}}}}}"#)
}

fn memory(target: &str, options: &str) -> String {
    format!(r#"{{"Target":"{target}","Source":"Tmpfs","Options":[{options}]}}"#)
}

#[test]
fn a_target_is_in_what_is_mounted_above_it() {
    let trees = Trees::new();
    let in_volume = "a link in what is mounted there";
    let cases = [
        (vec![volume("/data/current")], Ok(vec!["/srv/x"])),
        (vec![volume("/short")], Ok(vec!["/data"])),
        (vec![volume("/data"), volume("/round")], Err("/round: /proc".to_owned())),
        (vec![volume("/data"), volume("/round-short")], Err("/round-short: /proc".to_owned())),
        (vec![volume("/data"), volume("/data/current")], Ok(vec!["/data", "/data/current"])),
        (vec![volume("/data/current"), volume("/data")], Ok(vec!["/data/current", "/data"])),
        (vec![volume("/by"), volume("/data")], Ok(vec!["/data/current", "/data"])),
        (vec![volume("/short/current"), volume("/data")], Ok(vec!["/data/current", "/data"])),
        (vec![volume("/short/x"), volume("/short")], Ok(vec!["/data/x", "/data"])),
        (vec![volume("/data"), volume("/data/plain/x")], Ok(vec!["/data", "/data/plain/x"])),
        (vec![volume("/data"), volume("/data/s")], Err(format!("/data/s: /data/s, {in_volume}"))),
        (vec![volume("/short/s"), volume("/data")], Err(format!("/short/s: /data/s, {in_volume}"))),
        (
            vec![volume("/data"), volume("/data/inner/x")],
            Err(format!("/data/inner/x: /data/inner, {in_volume}")),
        ),
        (vec![volume("/proc-of-image")], Err("/proc-of-image: /proc".into())),
        (
            vec![memory("/data", ""), volume("/data/current")],
            Err(format!("/data/current: /data/current, {in_volume}")),
        ),
        (
            vec![memory("/data", r#""notmpcopyup""#), volume("/data/current")],
            Ok(vec!["/data", "/data/current"]),
        ),
    ];
    for (mounts, want) in cases {
        let want = want.map(|paths| paths.into_iter().map(str::to_owned).collect());
        assert_eq!(trees.place(&format!("[{}]", mounts.join(","))), want, "{mounts:?}");
    }
}
