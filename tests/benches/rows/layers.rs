//! The root file system of an image with many layers.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tare_storage::{ChainId, Limits, Store};
use tempfile::TempDir;

use crate::condition::{Condition, MANY, Mounts};
use crate::figures::Summary;
use crate::row::{Promise, Rounds, Row, Unit, Who, nothing};
use crate::{Result, SCRATCH, millis};

pub(super) const ROWS: &[Row] = &[HUNDRED, HUNDRED_BESIDE_MOUNTS];

const HUNDRED: Row = Row {
    name: "layers-100",
    measures: "overlay mount of 100 layers, median of 50",
    unit: Unit::Millis,
    must: Some(Promise::Below(2.0)),
    aim: Some(Promise::Below(1.0)),
    contestants: &[Who::Library("tare-storage")],
    rounds: Rounds { full: 5, quick: 1 },
    under: Condition::PLAIN,
    prepare: nothing,
    sample: |_, _| Box::pin(async { beside(0) }),
    clean: nothing,
};

/// The kernel goes through what is mounted beside a layer before it takes that.
const HUNDRED_BESIDE_MOUNTS: Row = Row {
    name: "layers-100-mounts",
    measures: "the same, with 3,000 other mounts on the file system of the layers",
    sample: |_, _| Box::pin(async { beside(MANY) }),
    ..HUNDRED
};

const LAYERS: usize = 100;
const MOUNTS: usize = 50;
/// Where an installed service has its layers, on a file system of its own: the lab is deep in that
/// of its host, and the kernel climbs up from every layer to the top.
const INSTALLED: &str = "var/lib/tare";

/// With so many other mounts.
fn beside(others: usize) -> Result<f64> {
    let disk = Disk::new()?;
    let others = Mounts::below(&disk.0.path().join("others"), others)?;
    let store = disk.0.path().join(INSTALLED);
    fs::create_dir_all(&store)?;
    let median = mount_often(&store)?;
    drop(others);
    Ok(median)
}

/// A file system that is there until the value goes.
struct Disk(TempDir);

impl Disk {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir_in(SCRATCH)?;
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), None)?;
        Ok(Self(dir))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

fn mount_often(dir: &Path) -> Result<f64> {
    let store = Store::open(dir)?;
    let layers = (0..LAYERS).map(|number| layer(&store, number)).collect::<Result<Vec<_>>>()?;
    let key = "bench".parse()?;
    store.create_container(&key, layers.last().ok_or("no layers")?)?;
    let mut times = Vec::new();
    for _ in 0..MOUNTS {
        let begun = Instant::now();
        let root = store.mount_rootfs(&layers, &key)?;
        times.push(millis(begun.elapsed()));
        drop(root);
    }
    Ok(Summary::of(times).ok_or("no mounts")?.median)
}

/// A layer with one file that no other has.
fn layer(store: &Store, number: usize) -> Result<ChainId> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    tar.append_data(&mut header, format!("dir/file-{number}"), &b""[..])?;
    let go_on = |_| ControlFlow::Continue(());
    Ok(store.import_layer(&*tar.into_inner()?, &Limits::default(), &go_on)?.chain_id)
}
