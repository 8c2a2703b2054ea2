//! A disk without room, or without files.

use std::fs;
use std::io::Write as _;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use tare_storage::{
    Archive, ContainerKey, Error, ErrorKind, ImportOptions, Limits, Needed, Removed, Store,
    TmpfsOptions, VolumeName, VolumeOptions, mount_tmpfs,
};

use crate::fixture::{Tar, picture, small_root};
use crate::images::{example, images};

const NO_WATCH: fn(u64) -> ControlFlow<()> = |_| ControlFlow::Continue(());

/// A small disk that only this test sees.
fn disk(inodes: u64) -> (OwnedFd, PathBuf) {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let size = NonZeroU64::new(8 << 20).unwrap();
    let inodes = NonZeroU64::new(inodes).unwrap();
    let disk = mount_tmpfs(&TmpfsOptions::new(size).with_inodes(inodes)).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", disk.as_raw_fd()));
    (disk, path)
}

/// Fills a store and returns what is in it.
fn fill(store: &Store) -> (ContainerKey, VolumeName) {
    let hold = store.hold();
    let archive = example().oci_archive();
    let options = ImportOptions::new();
    let image = store.import(Archive::Stream(&mut &*archive), &options, &hold, &NO_WATCH).unwrap();
    let top = images(image)[0].layers.last().unwrap().chain_id;
    let (key, volume) = ("c".parse().unwrap(), "v".parse().unwrap());
    store.create_container(&key, &top).unwrap();
    store.create_volume(&volume, &VolumeOptions::new()).unwrap();
    (key, volume)
}

fn remove_all(store: &Store, (key, volume): &(ContainerKey, VolumeName)) {
    assert!(matches!(store.remove_container(key).unwrap(), Removed::Tree { .. }));
    assert!(matches!(store.remove_volume(volume).unwrap(), Removed::Tree { .. }));
    let collected = store.collect_garbage(|| Ok::<_, Error>(Needed::default())).unwrap();
    assert_eq!((collected.layers.len(), collected.blobs.len()), (3, 5));
}

#[test]
fn privileged_what_is_on_a_full_disk_can_be_removed_and_nothing_half_comes() {
    let (_disk, path) = disk(10_000);
    let store = Store::open(&path.join("store")).unwrap();
    let filled = fill(&store);
    store.keep_ballast(1 << 20).unwrap();
    let mut stuffing = fs::File::create(path.join("stuffing")).unwrap();
    while stuffing.write_all(&[b'x'; 4096]).is_ok() {}
    assert_eq!(store.space().unwrap().bytes, 0);

    let before = picture(&path);
    let big = Tar::new().file("big", &"x".repeat(100_000)).end();
    let error = store.import_layer(&*big, &Limits::default(), &NO_WATCH).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
    assert_eq!(store.put_blob(&[7; 9000]).unwrap_err().kind(), ErrorKind::NoSpace);
    let other = crate::images::build::Image::new(&[(big, tare_storage::Compression::None)]);
    let (archive, hold) = (other.oci_archive(), store.hold());
    let file = crate::images::file_of(&archive);
    let archive = Archive::File(std::os::fd::AsFd::as_fd(&file));
    let error = store.import(archive, &ImportOptions::new(), &hold, &NO_WATCH).unwrap_err();
    assert!(matches!(error, Error::NoRoom { available: 0, .. }), "told beforehand: {error:?}");
    assert!(picture(&path) == before);
    drop(hold);

    // The room for writing down what is done comes first, and is enough.
    assert!(store.release_ballast().unwrap());
    assert!(store.space().unwrap().bytes >= 1 << 20);
    while stuffing.write_all(&[b'x'; 4096]).is_ok() {}
    remove_all(&store, &filled);
    store.import_layer(&*small_root(), &Limits::default(), &NO_WATCH).unwrap();
}

#[test]
fn privileged_what_is_on_a_disk_without_files_left_can_be_removed() {
    let (_disk, path) = disk(200);
    let store = Store::open(&path.join("store")).unwrap();
    let filled = fill(&store);
    let mut made = 0;
    while fs::write(path.join(format!("stuffing-{made}")), "").is_ok() {
        made += 1;
    }
    assert_eq!(store.space().unwrap().inodes, Some(0));
    let error = store.import_layer(&*small_root(), &Limits::default(), &NO_WATCH).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
    remove_all(&store, &filled);
}
