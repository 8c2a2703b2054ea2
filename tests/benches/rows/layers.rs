//! The root file system of an image with many layers.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use tare_storage::{ChainId, Limits, Store};

use crate::condition::Condition;
use crate::figures::Summary;
use crate::row::{Promise, Rounds, Row, Unit, Who, nothing};
use crate::{Result, SCRATCH, millis};

pub(crate) const HUNDRED: Row = Row {
    name: "layers-100",
    measures: "overlay mount of 100 layers, median of 50",
    unit: Unit::Millis,
    must: Some(Promise::Below(2.0)),
    aim: Some(Promise::Below(1.0)),
    contestants: &[Who::Library("tare-storage")],
    rounds: Rounds { full: 5, quick: 1 },
    under: Condition::BOTH,
    prepare: nothing,
    sample: |_, _| Box::pin(async { mounts(&tempfile::tempdir_in(SCRATCH)?.path().join("store")) }),
    clean: nothing,
};

const LAYERS: usize = 100;
const MOUNTS: usize = 50;

fn mounts(dir: &Path) -> Result<f64> {
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
