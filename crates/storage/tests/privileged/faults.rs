//! Every step of every operation fails once: the store is then as before, or says what is left.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tare_storage::{
    Access, Archive, BindOptions, Blobs, Compression, ContainerKey, Error, ErrorKind,
    ImportOptions, Limits, Needed, NewEntry, NewFile, Rootfs, Store, TmpfsOptions, VolumeOptions,
    bind, fault, mount_shm, mount_tmpfs, write_files,
};

use crate::fixture::{Lab, picture, small_root};
use crate::images::example;

const NO_WATCH: fn(u64) -> std::ops::ControlFlow<()> = |_| std::ops::ControlFlow::Continue(());

thread_local! {
    /// Steps that still work, and whether those after the first failure work.
    static PLAN: Cell<Plan> = const { Cell::new(Plan::Off) };
}

#[derive(Clone, Copy)]
enum Plan {
    Off,
    /// One step fails, after so many.
    Once(u32),
    /// All steps fail, after so many.
    From(u32),
}

fn hook(_: &dyn Display) -> io::Result<()> {
    let (next, fails) = match PLAN.get() {
        Plan::Off => (Plan::Off, false),
        Plan::Once(0) => (Plan::Off, true),
        Plan::Once(left) => (Plan::Once(left - 1), false),
        Plan::From(0) => (Plan::From(0), true),
        Plan::From(left) => (Plan::From(left - 1), false),
    };
    PLAN.set(next);
    if fails { Err(rustix::io::Errno::IO.into()) } else { Ok(()) }
}

/// Fails `operation` at each of its steps and checks the world afterwards.
///
/// Returns how many steps it has.
fn fail_everywhere<T>(
    picture: impl Fn() -> std::collections::BTreeMap<std::path::PathBuf, String>,
    operation: impl Fn() -> Result<T, Error>,
) -> u32 {
    fault::set_hook(hook);
    let before = picture();
    for steps in 0.. {
        PLAN.set(Plan::Once(steps));
        let result = operation();
        if matches!(PLAN.replace(Plan::Off), Plan::Once(_)) {
            result.map(drop).unwrap();
            return steps;
        }
        let error = result.map(drop).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::NeedsRepair, "step {steps}: {error:?}");
        assert!(picture() == before, "step {steps} left something: {error:?}");
    }
    unreachable!()
}

#[test]
fn privileged_a_failed_import_leaves_nothing() {
    let lab = Lab::new();
    let steps = fail_everywhere(|| lab.picture(), || lab.import(&small_root()));
    assert!(steps > 40, "{steps}");
}

#[test]
fn privileged_a_failed_creation_leaves_nothing() {
    let lab = Lab::new();
    let layer = lab.import(&small_root()).unwrap().chain_id;
    let key: ContainerKey = "c".parse().unwrap();
    fail_everywhere(|| lab.picture(), || lab.store.create_container(&key, &layer));
    fail_everywhere(|| lab.picture(), || lab.store.put_blob(b"blob"));
    // The first mount makes overlayfs's own directory in the work directory, for good.
    lab.store.mount_rootfs(&[layer], &key).unwrap();
    fail_everywhere(|| lab.picture(), || lab.store.mount_rootfs(&[layer], &key));
    fail_everywhere(|| lab.picture(), || mount_shm(std::num::NonZeroU64::MIN, None));
}

#[test]
fn privileged_a_failed_import_of_an_image_leaves_what_garbage_collection_takes() {
    let lab = Lab::new();
    let archive = example().oci_archive();
    for blobs in [Blobs::Keep, Blobs::Drop] {
        let options = ImportOptions::new().with_blobs(blobs);
        let collect = || {
            let plan = PLAN.replace(Plan::Off);
            lab.store.collect_garbage(|| Ok::<_, Error>(Needed::default())).unwrap();
            PLAN.set(plan);
        };
        let steps = fail_everywhere(
            || {
                collect();
                lab.picture()
            },
            || {
                let hold = lab.store.hold();
                lab.store.import(Archive::Stream(&mut &*archive), &options, &hold, &NO_WATCH)
            },
        );
        assert!(steps > 80, "{steps}");
        collect();
    }
}

#[test]
fn privileged_a_failed_commit_leaves_what_garbage_collection_takes() {
    let lab = Lab::new();
    let layer = lab.import(&small_root()).unwrap().chain_id;
    let key: ContainerKey = "c".parse().unwrap();
    lab.store.create_container(&key, &layer).unwrap();
    let root = lab.store.mount_rootfs(&[layer], &key).unwrap();
    root.make_file("new", NewEntry::FILE, b"content").unwrap();
    root.remove("etc/passwd").unwrap();
    drop(root);
    let picture = || {
        let plan = PLAN.replace(Plan::Off);
        let needed = Needed { layers: [layer].into(), blobs: BTreeSet::new() };
        lab.store.collect_garbage(|| Ok::<_, Error>(needed)).unwrap();
        PLAN.set(plan);
        lab.picture()
    };
    fail_everywhere(picture, || {
        lab.store.commit(&[layer], &key, &[], Compression::Gzip, &NO_WATCH)
    });
}

#[test]
fn privileged_a_volume_that_fails_is_not_there_and_one_half_filled_is_empty() {
    let lab = Lab::new();
    let layer = lab.import(&small_root()).unwrap().chain_id;
    let image = Rootfs::from_fd(lab.store.mount_layers(&[layer]).unwrap());
    let label = "u:r:t:s0".parse().unwrap();
    let (name, options) = ("v".parse().unwrap(), VolumeOptions::new().with_label(label));
    fail_everywhere(|| lab.picture(), || lab.store.create_volume(&name, &options).map(drop));
    let mut filled = 0;
    for steps in 0.. {
        let volume = lab.store.open_volume(&name).unwrap();
        PLAN.set(Plan::Once(steps));
        let result = volume.fill(&image, "/etc", &Limits::default(), &NO_WATCH);
        if matches!(PLAN.replace(Plan::Off), Plan::Once(_)) {
            // Whether it was filled then or before: it is whole.
            result.unwrap();
            break;
        }
        let names = std::fs::read_dir(lab.path("volumes/v/_data")).unwrap().count();
        assert!(matches!(names, 0 | 2), "step {steps}: {names}");
        assert_eq!(std::fs::read_dir(lab.path("tmp")).unwrap().count(), 0, "step {steps}");
        filled = names;
    }
    assert_eq!(filled, 2, "the last step that can fail comes after it is in its place");
}

#[test]
fn privileged_failed_changes_of_a_root_are_said_and_mounts_are_not_left() {
    let lab = Lab::new();
    let dir = lab.dir.path().join("root");
    std::fs::create_dir(&dir).unwrap();
    let root = Rootfs::from_fd(std::fs::File::open(&dir).unwrap().into());
    // It has its name last, so that nobody sees less of it.
    fail_everywhere(|| lab.picture(), || root.make_file("file", NewEntry::FILE, b"x"));
    fail_everywhere(|| lab.picture(), || bind(root.as_fd(), &BindOptions::new()));
    let size = std::num::NonZeroU64::MIN;
    fail_everywhere(|| lab.picture(), || mount_tmpfs(&TmpfsOptions::new(size)));
    let layer = lab.import(&small_root()).unwrap().chain_id;
    fail_everywhere(|| lab.picture(), || lab.store.mount_layers(&[layer]));
}

#[test]
fn privileged_a_failed_opening_leaves_nothing() {
    let lab = Lab::new();
    let Lab { store, dir, .. } = lab;
    drop(store);
    let root = dir.path().join("new");
    fail_everywhere(|| picture(dir.path()), || Store::open(&root));
}

#[test]
fn privileged_failed_files_leave_nothing() {
    let lab = Lab::new();
    let dir = std::fs::File::open(lab.dir.path()).unwrap();
    let file = |name: &str, access| NewFile {
        name: name.parse().unwrap(),
        access,
        label: "u:r:t:s0".parse().ok(),
        content: b"x".to_vec(),
    };
    let somebodys = NewEntry { uid: 1000, gid: 100, mode: 0o4640 };
    let files = [
        file("a", Access::Public),
        file("b", Access::Exactly(somebodys)),
        file("c", Access::Private),
    ];
    fail_everywhere(|| lab.picture(), || write_files(dir.as_fd(), &files));
    let written = lab.dir.path().join("b").metadata().unwrap();
    assert_eq!((written.uid(), written.gid(), written.mode() & 0o7777), (1000, 100, 0o4640));
}

#[test]
fn privileged_what_undo_cannot_take_back_is_said_and_goes_at_the_next_opening() {
    fault::set_hook(hook);
    let lab = Lab::new();
    let before = lab.picture();
    PLAN.set(Plan::From(20));
    let error = lab.import(&small_root()).unwrap_err();
    PLAN.set(Plan::Off);
    assert_eq!(error.kind(), ErrorKind::NeedsRepair);
    let Error::Leftovers { leftovers, failed } = error else { panic!("{error:?}") };
    assert_eq!(leftovers.len(), 1);
    assert!(matches!(*failed, Error::Unpack { .. }), "{failed:?}");
    assert!(lab.picture() != before);
    let Lab { store, dir, .. } = lab;
    drop(store);
    let _store = Store::open(&dir.path().join("store")).unwrap();
    assert!(picture(dir.path()) == before);
}

#[test]
fn privileged_a_failed_removal_can_be_repeated() {
    fault::set_hook(hook);
    let lab = Lab::new();
    let before = lab.picture();
    let layer = lab.import(&small_root()).unwrap().chain_id;
    let mut failures = 0;
    loop {
        PLAN.set(Plan::Once(failures));
        let result = lab.store.remove_layer(&layer);
        if matches!(PLAN.replace(Plan::Off), Plan::Once(_)) {
            result.unwrap();
            break;
        }
        result.unwrap_err();
        failures += 1;
        // Either it is all there, or it is out of sight.
        let there = lab.store.layers().unwrap() == [layer];
        assert_eq!(there, lab.store.create_container(&"c".parse().unwrap(), &layer).is_ok());
        lab.store.remove_container(&"c".parse().unwrap()).unwrap();
        lab.store.remove_layer(&layer).unwrap();
        assert!(lab.picture() == before, "removed again, it left something");
        lab.import(&small_root()).unwrap();
    }
    assert!(failures > 3);
}

#[test]
fn privileged_what_a_failed_collection_leaves_goes_with_the_next() {
    fault::set_hook(hook);
    let lab = Lab::new();
    let collect = || lab.store.collect_garbage(|| Ok::<_, Error>(Needed::default()));
    let before = lab.picture();
    for steps in 0.. {
        lab.import(&small_root()).unwrap();
        lab.store.put_blob(b"nobody's").unwrap();
        PLAN.set(Plan::Once(steps));
        let result = collect();
        let all_done = matches!(PLAN.replace(Plan::Off), Plan::Once(_));
        assert_eq!(result.is_ok(), all_done, "step {steps}");
        // Also what is not among the layers and blobs any more.
        collect().unwrap();
        assert!(lab.picture() == before, "step {steps} left something");
        if all_done {
            assert!(steps > 5, "{steps}");
            return;
        }
    }
}
