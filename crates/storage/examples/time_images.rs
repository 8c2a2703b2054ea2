//! Times images and changes: `cargo run --release -p tare-storage --example time_images ARCHIVE` as
//! root imports an archive, whatever it is, says what that took, and commits a container on top; with
//! the name of another file, that becomes an archive of the image with the container's changes.
//!
//! `time_images diff FILES CHANGES` makes a root of so many files, changes some, and lists that.

#![expect(clippy::disallowed_methods, reason = "it makes its own surroundings")]

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, io};

use tare_storage::{
    Archive, ChainId, Committed, Compression, ContainerKey, ExportedImage, ImportOptions, Imports,
    Limits, Platform, RUNTIME_PATHS, Store,
};

const NO_WATCH: fn(u64) -> ControlFlow<()> = |_| ControlFlow::Continue(());

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let first = arguments.next().ok_or("no archive")?;
    // A disk's filesystem, not the tmpfs that /tmp may be.
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let store = Store::open(&dir.path().join("store"))?;
    if first == "diff" {
        let mut number = || {
            arguments.next().ok_or("no number")?.parse::<usize>().map_err(Box::<dyn Error>::from)
        };
        return diff(&store, number()?, number()?);
    }
    let archive = fs::File::open(first)?;
    let start = Instant::now();
    let hold = store.hold();
    let imports =
        store.import(Archive::File(archive.as_fd()), &ImportOptions::new(), &hold, &NO_WATCH)?;
    let time = start.elapsed();
    let layers: Vec<_> = match imports {
        Imports::Rootfs(layer) => vec![layer],
        Imports::Images(images) => images.into_iter().flat_map(|image| image.layers).collect(),
        _ => return Err("something new".into()),
    };
    let (entries, size) =
        layers.iter().fold((0, 0), |(n, size), layer| (n + layer.entries, size + layer.size));
    report(
        "import",
        time,
        &format!("{} layers, {entries} entries, {} MB", layers.len(), size >> 20),
    )?;
    report_memory()?;
    let layers: Vec<_> = layers.iter().map(|layer| layer.chain_id).collect();
    let top = commit(&store, &layers)?;
    match arguments.next() {
        Some(out) => export(&store, &[layers, vec![top.layer.chain_id]].concat(), &out),
        None => Ok(()),
    }
}

/// Packs every layer anew: that of a root filesystem was not kept as it came.
fn export(store: &Store, layers: &[ChainId], out: &str) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let packed = layers.iter().map(|layer| store.pack_layer(layer, Compression::Zstd, &NO_WATCH));
    let (blobs, diff_ids): (Vec<_>, Vec<_>) =
        packed.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let config = serde_json::json!({
        "architecture": Platform::host().architecture(), "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let (_, manifest) = store.put_image(config.to_string().as_bytes(), &blobs)?;
    let image = ExportedImage { manifest, name: Some("timed:1".into()) };
    store.export_images(&[image], &mut fs::File::create(out)?, &NO_WATCH)?;
    report("pack and export", start.elapsed(), &format!("{} layers", blobs.len()))?;
    Ok(())
}

fn commit(store: &Store, layers: &[ChainId]) -> Result<Committed, Box<dyn Error>> {
    let key: ContainerKey = "timed".parse()?;
    store.create_container(&key, layers.last().ok_or("no layers")?)?;
    let root = store.mount_rootfs(layers, &key)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()));
    fs::write(path.join("new"), vec![b'x'; 1 << 20])?;
    let _ = fs::remove_file(path.join("etc/motd"));
    drop(root);
    let start = Instant::now();
    let committed = store.commit(layers, &key, RUNTIME_PATHS, Compression::Zstd, &NO_WATCH)?;
    report("commit of 1 MB", start.elapsed(), "")?;
    Ok(committed)
}

fn diff(store: &Store, files: usize, changes: usize) -> Result<(), Box<dyn Error>> {
    let mut tar = tar::Builder::new(Vec::new());
    for n in 0..files {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, format!("d{}/f{n}", n / 200), &b""[..])?;
    }
    let archive = tar.into_inner()?;
    let layer = store.import_layer(&*archive, &Limits::default(), &NO_WATCH)?.chain_id;
    let key: ContainerKey = "timed".parse()?;
    store.create_container(&key, &layer)?;
    let root = store.mount_rootfs(&[layer], &key)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()));
    for n in 0..changes {
        let file = n * (files / changes.max(1));
        fs::write(path.join(format!("d{}/f{file}", file / 200)), "changed")?;
    }
    let mut times: Vec<Duration> = Vec::new();
    let mut found = 0;
    for _ in 0..21 {
        let start = Instant::now();
        found = store.changes(&[layer], &key, RUNTIME_PATHS)?.count();
        times.push(start.elapsed());
    }
    times.sort();
    report(
        "changes",
        times[10],
        &format!("{found} of {changes} files in {files}, worst {:.2?}", times[20]),
    )?;
    let start = Instant::now();
    let bytes = io::copy(&mut store.diff(&key, RUNTIME_PATHS)?, &mut io::sink())?;
    report("diff as a layer", start.elapsed(), &format!("{bytes} bytes"))?;
    report_memory()
}

fn report(what: &str, time: Duration, note: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{what:18} {time:>10.2?}  {note}")
}

fn report_memory() -> Result<(), Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    writeln!(io::stdout(), "{peak}")?;
    Ok(())
}
