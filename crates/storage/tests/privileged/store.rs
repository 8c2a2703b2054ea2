//! The store itself: opening, blobs, removals.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::Duration;

use tare_storage::{
    ContainerKey, Digest, Error, ErrorKind, Needed, Removed, Store, TmpfsOptions, VolumeOptions,
    attach, detach, mount_tmpfs,
};

use crate::fixture::{Lab, small_root};

#[test]
fn privileged_a_store_is_private_and_held_by_one() {
    let lab = Lab::new();
    for name in ["", "blobs", "blobs/sha256", "layers", "containers", "tmp", "nothing"] {
        let meta = fs::metadata(lab.path(name)).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o700, "{name}");
    }
    let error = Store::open(&lab.path("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    let Lab { store, dir, .. } = lab;
    drop(store);
    Store::open(&dir.path().join("store")).unwrap();
}

#[test]
fn privileged_what_a_crash_left_goes_at_the_next_opening() {
    let lab = Lab::new();
    let layer = lab.import(&small_root()).unwrap();
    fs::create_dir_all(lab.path("tmp/layer-0/diff/deep/er")).unwrap();
    fs::write(lab.path("tmp/file"), "").unwrap();
    symlink("/etc", lab.path("tmp/link")).unwrap();
    let Lab { store, dir, .. } = lab;
    drop(store);
    let root = dir.path().join("store");
    let store = Store::open(&root).unwrap();
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    assert!(store.has_layer(&layer.chain_id).unwrap());
    assert!(fs::exists("/etc/passwd").unwrap());
}

#[test]
fn privileged_what_cannot_be_removed_keeps_no_store_from_being_opened() {
    let lab = Lab::new();
    // Names that are given next, one of which stays.
    fs::create_dir_all(lab.path("tmp/layer-0/place")).unwrap();
    fs::create_dir(lab.path("tmp/layer-1")).unwrap();
    let size = std::num::NonZeroU64::new(1 << 20).unwrap();
    let mount = mount_tmpfs(&TmpfsOptions::new(size)).unwrap();
    let dir = fs::File::open(lab.path("tmp/layer-0")).unwrap();
    let name = "place".parse().unwrap();
    attach(mount.as_fd(), dir.as_fd(), &name).unwrap();
    drop(mount);
    let lab = lab.opened_again();
    let left = || {
        let names = fs::read_dir(lab.path("tmp")).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(left(), ["layer-0"]);
    lab.import(&small_root()).unwrap();
    detach(dir.as_fd(), &name, Duration::ZERO).unwrap();
    drop(dir);
    let nothing = || Ok::<_, Error>(Needed::default());
    lab.store.collect_garbage(nothing).unwrap();
    assert_eq!(left(), Vec::<String>::new(), "it is tried again");
}

#[test]
fn privileged_a_store_below_links_or_files_is_not_opened() {
    let dir = Lab::new().dir;
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("linked/blobs")).unwrap();
    symlink("/var/tmp", at("linked/layers")).unwrap();
    fs::write(at("file"), "").unwrap();
    for name in ["linked", "file", "no/parent"] {
        let error = Store::open(&at(name)).unwrap_err();
        assert!(matches!(error, Error::OpenStore { .. }), "{name}: {error:?}");
    }
    assert_eq!(fs::read_dir(at("linked")).unwrap().count(), 2, "what was made is gone again");
}

#[test]
fn privileged_blobs_are_found_by_what_they_hold() {
    let lab = Lab::new();
    let digest = lab.store.put_blob(b"{}").unwrap();
    assert_eq!(digest, Digest::of(b"{}"));
    assert_eq!(lab.store.put_blob(b"{}").unwrap(), digest, "again");
    assert_eq!(lab.store.get_blob(&digest, 2).unwrap(), b"{}");
    let path = lab.path("blobs/sha256").join(digest.hex());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let error = lab.store.get_blob(&digest, 1).unwrap_err();
    assert!(matches!(error, Error::BlobTooLarge { max: 1, .. }));
    fs::write(&path, "[]").unwrap();
    let error = lab.store.get_blob(&digest, 2).unwrap_err();
    assert!(matches!(error, Error::BlobDamaged { .. }));
    assert_eq!(lab.store.remove_blob(&digest).unwrap(), Removed::Tree { entries: 1 });
    assert_eq!(lab.store.remove_blob(&digest).unwrap(), Removed::WasAbsent);
    let error = lab.store.get_blob(&digest, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn privileged_layers_and_containers_come_and_go() {
    let lab = Lab::new();
    let empty = lab.picture();
    let layer = lab.import(&small_root()).unwrap();
    let key: ContainerKey = "c".parse().unwrap();
    lab.store.create_container(&key, &layer.chain_id).unwrap();
    let error = lab.store.create_container(&key, &layer.chain_id).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(lab.store.containers().unwrap(), std::slice::from_ref(&key));

    let removed = lab.store.remove_container(&key).unwrap();
    assert_eq!(removed, Removed::Tree { entries: 3 });
    assert_eq!(lab.store.remove_container(&key).unwrap(), Removed::WasAbsent);
    assert!(matches!(lab.store.remove_layer(&layer.chain_id).unwrap(), Removed::Tree { .. }));
    assert_eq!(lab.store.remove_layer(&layer.chain_id).unwrap(), Removed::WasAbsent);
    assert!(!lab.store.has_layer(&layer.chain_id).unwrap());
    let error = lab.store.create_container(&key, &layer.chain_id).unwrap_err();
    assert!(matches!(error, Error::NoLayer { .. }));
    assert_eq!(lab.picture(), empty);
}

#[test]
fn privileged_what_there_is_takes_room_and_what_goes_does_not() {
    let lab = Lab::new();
    let usage = || lab.store.usage().unwrap();
    let rest = usage();
    let blob = lab.store.put_blob(&vec![7; 100_000]).unwrap();
    assert!(usage() >= rest + 100_000);
    let before = usage();
    let layer = lab.import(&small_root()).unwrap();
    assert_eq!(usage(), before + layer.size, "as it was written down");
    fs::write(lab.diff(&layer).join("not-looked-through"), vec![7; 100_000]).unwrap();
    assert_eq!(usage(), before + layer.size);

    let before = usage();
    let key: ContainerKey = "c".parse().unwrap();
    lab.store.create_container(&key, &layer.chain_id).unwrap();
    fs::write(lab.path("containers/c/upper/file"), vec![7; 200_000]).unwrap();
    fs::hard_link(lab.path("containers/c/upper/file"), lab.path("containers/c/upper/again"))
        .unwrap();
    let with_container = usage();
    assert!((before + 200_000..before + 300_000).contains(&with_container), "each file once");
    let volume = "v".parse().unwrap();
    lab.store.create_volume(&volume, &VolumeOptions::new()).unwrap();
    let holes = fs::File::create(lab.path("volumes/v/_data/holes")).unwrap();
    holes.set_len(1 << 30).unwrap();
    assert!(usage() < with_container + 100_000, "holes take nothing");
    fs::write(lab.path("volumes/v/_data/file"), vec![7; 300_000]).unwrap();
    assert!(usage() >= with_container + 300_000);
    drop(holes);

    lab.store.remove_volume(&volume).unwrap();
    lab.store.remove_container(&key).unwrap();
    lab.store.remove_layer(&layer.chain_id).unwrap();
    lab.store.remove_blob(&blob).unwrap();
    assert_eq!(usage(), rest);
}
