//! Mounts: roots of containers and shared memory.

use std::fs;
use std::io::Write as _;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use tare_storage::{
    ChainId, ContainerKey, Error, Removed, RootOptions, Rootfs, Store, mount_shm, remove_tree,
};

use crate::fixture::{Lab, Tar, header, read, small_root};

/// A path of what is open.
fn path(fd: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

fn host_mounts() -> usize {
    read("/proc/self/mountinfo".as_ref()).lines().count()
}

#[test]
fn privileged_a_root_is_mounted_written_and_gone() {
    let lab = Lab::new();
    let mut root = header(tar::EntryType::Directory, "./", "");
    root.set_mode(0o751);
    root.set_uid(42);
    let mut builder = tar::Builder::new(Tar::new().entry(&root, b"").file("etc/name", "old").cut());
    builder.append_path_with_name("/usr/bin/busybox", "bin/busybox").unwrap();
    let layer = lab.import(&builder.into_inner().unwrap()).unwrap();
    let key: ContainerKey = "web-1".parse().unwrap();
    lab.store.create_container(&key, &layer.chain_id).unwrap();
    let before = host_mounts();

    let rootfs = lab.store.mount_rootfs(&[layer.chain_id], &key).unwrap();
    assert_eq!(host_mounts(), before, "detached");
    let meta = fs::metadata(path(&rootfs)).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o751, 42), "of the image's root");
    let flags = rustix::fs::fstatvfs(&rootfs).unwrap().f_flag;
    assert!(flags.contains(StatVfsMountFlags::NODEV) && !flags.contains(StatVfsMountFlags::NOSUID));
    let busybox = path(&rootfs).join("bin/busybox");
    assert_eq!(fs::read(&busybox).unwrap(), fs::read("/usr/bin/busybox").unwrap());
    fs::write(path(&rootfs).join("etc/name"), "new").unwrap();
    fs::remove_file(busybox).unwrap();

    let upper = lab.path("containers/web-1/upper");
    assert_eq!(read(&upper.join("etc/name")), "new");
    assert_eq!(read(&lab.diff(&layer).join("etc/name")), "old");
    drop(rootfs);

    let rootfs = lab.store.mount_rootfs(&[layer.chain_id], &key).unwrap();
    assert_eq!(rootfs.read_file("/etc/name", 3).unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(rootfs.read_file("bin/busybox", 1).unwrap(), None);
    assert!(rootfs.is_dir("bin").unwrap());
    drop(rootfs);
    assert!(matches!(lab.store.remove_container(&key).unwrap(), Removed::Tree { .. }));
    assert!(lab.store.containers().unwrap().is_empty());
}

#[test]
fn privileged_three_hundred_layers_are_stacked_in_order() {
    let lab = Lab::new();
    let layers: Vec<ChainId> = (0..300)
        .map(|n: u32| {
            let archive = Tar::new().file("top", &n.to_string()).file(&format!("l{n}"), "").end();
            lab.import(&archive).unwrap().chain_id
        })
        .collect();
    let key = "deep".parse().unwrap();
    lab.store.create_container(&key, &layers[299]).unwrap();
    let rootfs = lab.store.mount_rootfs(&layers, &key).unwrap();
    assert_eq!(rootfs.read_file("top", 3).unwrap().as_deref(), Some(&b"299"[..]));
    assert_eq!(fs::read_dir(path(&rootfs)).unwrap().count(), 301);
}

#[test]
fn privileged_what_cannot_be_mounted_is_said() {
    let lab = Lab::new();
    let layer = lab.import(&small_root()).unwrap().chain_id;
    let (key, other): (ContainerKey, ContainerKey) = ("a".parse().unwrap(), "b".parse().unwrap());
    lab.store.create_container(&key, &layer).unwrap();
    let absent = layer.child(&tare_storage::Digest::of(b""));
    let mount = |layers: &[ChainId], key| lab.store.mount_rootfs(layers, key).unwrap_err();
    assert!(matches!(mount(&[], &key), Error::LayerCount { count: 0 }));
    assert!(matches!(mount(&[layer; 501], &key), Error::LayerCount { count: 501 }));
    assert!(matches!(mount(&[layer], &other), Error::NoContainer { .. }));
    assert!(matches!(mount(&[layer, absent], &key), Error::NoLayer { layer } if layer == absent));

    let upper = lab.path("containers/a/upper");
    let Lab { store, dir, .. } = lab;
    drop(store);
    in_own_mounts(|| {
        mount_bind(&upper, &upper).unwrap();
        mount_remount(&upper, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        // Opened here: overlayfs takes directories of the own mount namespace only.
        let store = Store::open(&dir.path().join("store")).unwrap();
        let error = store.mount_rootfs(&[layer], &key).unwrap_err();
        let Error::MountRootfs { message, .. } = &error else { panic!("{error:?}") };
        assert!(message.contains("read-only"), "the kernel's own words: {error:?}");
        assert!(error.to_string().ends_with(&format!("({message})")));
    });
}

#[test]
fn privileged_a_directory_of_an_image_is_mounted_alone() {
    let lab = Lab::new();
    let tar =
        Tar::new().file("a/b/file", "here").symlink("to-b", "/a/b").symlink("out", "../../etc");
    let base = lab.import(&tar.end()).unwrap().chain_id;
    let second = Tar::new().file("a/b/more", "").file("top", "").end();
    let watch = |_| std::ops::ControlFlow::Continue(());
    let diff_id = tare_storage::Digest::of(&second);
    let limits = tare_storage::Limits::default();
    let over =
        lab.store.unpack_layer(&[base], &diff_id, &*second, &limits, &watch).unwrap().chain_id;
    let before = host_mounts();
    let part = |layers: &[ChainId], path: &str| {
        let image = lab.store.mount_layers(layers).unwrap();
        lab.store.mount_part(image, path)
    };
    for (layers, files) in [(&[base][..], &["file"][..]), (&[base, over], &["file", "more"])] {
        for place in ["a/b", "to-b"] {
            let one = part(layers, place).unwrap().unwrap();
            let flags = rustix::fs::fstatvfs(&one).unwrap().f_flag;
            for flag in
                [StatVfsMountFlags::NOSUID, StatVfsMountFlags::NODEV, StatVfsMountFlags::RDONLY]
            {
                assert!(flags.contains(flag), "{place}: {flag:?}");
            }
            let one = Rootfs::from_fd(one);
            assert_eq!(one.list(".").unwrap().unwrap(), files, "{place}");
            assert_eq!(one.list("../..").unwrap().unwrap(), files, "there is nothing above it");
        }
        assert_eq!(part(layers, "a/none").unwrap().map(drop), None);
        assert_eq!(part(layers, "out").unwrap().map(drop), None);
        let error = part(layers, "a/b/file").unwrap_err();
        assert!(matches!(error, Error::ReadFile { .. }), "{error:?}");
    }
    assert_eq!(host_mounts(), before, "detached");
}

#[test]
fn privileged_a_container_writes_to_other_images_and_they_stay_as_they_are() {
    let lab = Lab::new();
    let root = lab.import(&small_root()).unwrap().chain_id;
    let mut top = header(tar::EntryType::Directory, "./", "");
    top.set_mode(0o711);
    top.set_uid(7);
    let image = lab.import(&Tar::new().entry(&top, b"").file("a/file", "old").end()).unwrap();
    let key: ContainerKey = "c".parse().unwrap();
    let images = [image.chain_id, image.chain_id];
    lab.store.create_container_with(&key, &root, &images).unwrap();
    let mount = |nth: usize| lab.store.mount_image(&images[..1], &key, nth, &RootOptions::new());
    let before = host_mounts();
    let first = mount(0).unwrap();
    assert_eq!(host_mounts(), before, "detached");
    let flags = rustix::fs::fstatvfs(&first).unwrap().f_flag;
    assert!(flags.contains(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV), "{flags:?}");
    let meta = fs::metadata(path(&first)).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o711, 7), "of the image's root");
    fs::write(path(&first).join("a/file"), "new").unwrap();
    let part = lab.store.mount_part(first, "a").unwrap().unwrap();
    assert_eq!(read(&path(&part).join("file")), "new");
    fs::write(path(&part).join("more"), "").unwrap();
    drop(part);

    for (nth, content) in [(0, "new"), (1, "old")] {
        let again = mount(nth).unwrap();
        assert_eq!(read(&path(&again).join("a/file")), content, "{nth}: it is kept, and its own");
    }
    assert_eq!(read(&lab.diff(&image).join("a/file")), "old");
    let error = mount(2).unwrap_err();
    assert!(matches!(error, Error::NoContainer { .. }), "{error:?}");
    let missing = ChainId::base(tare_storage::Digest::of(b"none"));
    let other = "d".parse().unwrap();
    let error = lab.store.create_container_with(&other, &root, &[images[0], missing]).unwrap_err();
    assert!(matches!(error, Error::NoLayer { .. }), "{error:?}");
    assert_eq!(lab.store.containers().unwrap(), std::slice::from_ref(&key));
    lab.store.remove_container(&key).unwrap();
    assert_eq!(fs::read_dir(lab.path("containers")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(lab.path("tmp")).unwrap().count(), 0);
}

#[test]
fn privileged_shared_memory_is_bounded_and_harmless() {
    let lab = Lab::new();
    let before = host_mounts();
    let shm = mount_shm(NonZeroU64::new(1 << 20).unwrap(), None).unwrap();
    assert_eq!(host_mounts(), before, "detached");
    assert_eq!(fs::metadata(path(&shm)).unwrap().mode(), 0o041_777);
    let flags = rustix::fs::fstatvfs(&shm).unwrap().f_flag;
    for flag in [StatVfsMountFlags::NOSUID, StatVfsMountFlags::NODEV, StatVfsMountFlags::NOEXEC] {
        assert!(flags.contains(flag));
    }
    let mut file = fs::File::create(path(&shm).join("big")).unwrap();
    let error = file.write_all(&vec![1; (1 << 20) + 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    drop(lab);

    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let label = "system_u:object_r:container_file_t:s0".parse().unwrap();
        let error = mount_shm(NonZeroU64::MIN, Some(&label)).unwrap_err();
        let Error::MountTmpfs { message, .. } = &error else { panic!("{error:?}") };
        assert!(message.contains("context"), "the kernel's own words: {message:?}");
    }
}

#[test]
fn privileged_a_removal_stops_at_a_mount() {
    let lab = Lab::new();
    let at = |name: &str| lab.dir.path().join(name);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(at("tree/mounted")).unwrap();
    fs::create_dir(at("elsewhere")).unwrap();
    fs::write(at("elsewhere/file"), "kept").unwrap();
    in_own_mounts(|| {
        // The same filesystem, so st_dev would not tell.
        mount_bind(at("elsewhere"), at("tree/mounted")).unwrap();
        let dir = fs::File::open(lab.dir.path()).unwrap();
        let error = remove_tree(dir.as_fd(), &"tree".parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::RemoveTree { .. }), "{error:?}");
    });
    assert_eq!(read(&at("elsewhere/file")), "kept");
}

/// Runs `body` on a thread of its own with private mounts, which end with it.
fn in_own_mounts(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            unshare_mounts();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            body();
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn unshare_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
}
