//! Times what is done often: mounting a stack of layers, creating and removing a container's own.
//!
//! `cargo run --release -p tare-storage --example time_mount [LAYERS] [ARCHIVE]` as root; with the
//! path of an archive, times its import too.

use std::error::Error;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use tare_storage::{ChainId, Layer, Limits, Store};

const ROUNDS: usize = 101;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let count = arguments.next().map_or(Ok(100), |text| text.parse())?;
    // A disk's filesystem, not the tmpfs that /tmp may be.
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let store = Store::open(&dir.path().join("store"))?;
    if let Some(archive) = arguments.next() {
        let start = Instant::now();
        let layer = import(&store, fs::File::open(archive)?)?;
        report("import", start.elapsed(), &format!("{} entries", layer.entries))?;
        let start = Instant::now();
        store.remove_layer(&layer.chain_id)?;
        report("remove that layer", start.elapsed(), "")?;
    }
    let layers: Vec<ChainId> =
        (0..count).map(|n| small_layer(&store, n)).collect::<Result<_, _>>()?;
    let top = *layers.last().ok_or("no layers")?;
    let key = "timed".parse()?;

    let [mut create, mut mount, mut unmount, mut remove] = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        timed(&mut create, || store.create_container(&key, &top))?;
        let root = timed(&mut mount, || store.mount_rootfs(&layers, &key))?;
        timed(&mut unmount, || {
            drop(root);
            Ok::<_, io::Error>(())
        })?;
        timed(&mut remove, || store.remove_container(&key))?;
    }
    for (what, times) in
        [("create", create), ("mount", mount), ("unmount", unmount), ("remove", remove)]
    {
        let (median, worst) = median_and_worst(times);
        report(what, median, &format!("median of {ROUNDS}, worst {worst:.2?}, {count} layers"))?;
    }
    Ok(())
}

fn timed<T, E>(times: &mut Vec<Duration>, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    let result = act();
    times.push(start.elapsed());
    result
}

fn median_and_worst(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

fn small_layer(store: &Store, n: usize) -> Result<ChainId, Box<dyn Error>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, format!("dir/file-{n}"), &b""[..])?;
    Ok(import(store, &*tar.into_inner()?)?.chain_id)
}

fn import(store: &Store, archive: impl io::Read) -> Result<Layer, tare_storage::Error> {
    store.import_layer(archive, &Limits::default(), &|_| ControlFlow::Continue(()))
}

fn report(what: &str, time: Duration, note: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{what:18} {time:>10.2?}  {note}")
}
