//! Garbage, holds, and imports that are killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tare_storage::{
    Archive, Compression, Digest, Error, ImportOptions, Imported, ImportedImage, Limits, Needed,
    Store,
};

use crate::fixture::{Lab, Tar, small_root};
use crate::images::{example, file_of, images, import, stack};

const NO_WATCH: fn(u64) -> ControlFlow<()> = |_| ControlFlow::Continue(());

fn needed(images: &[&ImportedImage]) -> Needed {
    Needed {
        layers: images.iter().flat_map(|image| stack(image)).collect(),
        blobs: images.iter().flat_map(|image| image.blobs.clone()).collect(),
    }
}

fn collect(store: &Store, needed: Needed) -> tare_storage::Collected {
    store.collect_garbage(|| Ok::<_, Error>(needed)).unwrap()
}

#[test]
fn privileged_what_an_image_needs_stays_and_the_rest_goes() {
    let lab = Lab::new();
    let empty = lab.picture();
    let archive = example().oci_archive();
    let image =
        images(import(&lab, Archive::Stream(&mut &*archive), &ImportOptions::new()).unwrap());
    let before = lab.picture();
    lab.import(b"").unwrap_err();
    let other = lab.import(&crate::fixture::Tar::new().file("other", "").end()).unwrap();
    let blob = lab.store.put_blob(b"nobody's").unwrap();

    let collected = collect(&lab.store, needed(&[&image[0]]));
    assert_eq!((collected.layers, collected.blobs), (vec![other.chain_id], vec![blob]));
    assert_eq!(collected.blob_bytes, 8);
    assert!(lab.picture() == before);

    let collected = collect(&lab.store, Needed::default());
    assert_eq!((collected.layers.len(), collected.blobs.len()), (3, 5));
    assert!(lab.picture() == empty);
}

#[test]
fn privileged_what_is_packed_under_a_hold_is_there_until_it_is_packed() {
    let lab = Lab::new();
    let layer = lab.import(&small_root()).unwrap().chain_id;
    let hold = lab.store.hold();
    // In the middle of it nobody needs the layer any more.
    let collected = std::cell::Cell::new(7);
    let watch = |_: u64| {
        collected.set(collect(&lab.store, Needed::default()).layers.len());
        ControlFlow::Continue(())
    };
    lab.store.pack_layer(&layer, Compression::None, &watch).unwrap();
    assert_eq!(collected.get(), 0);
    assert!(lab.store.has_layer(&layer).unwrap());
    drop(hold);
    assert_eq!(collect(&lab.store, Needed::default()).layers, [layer]);
    let gone = lab.store.pack_layer(&layer, Compression::None, &NO_WATCH).unwrap_err();
    assert!(matches!(gone, Error::NoLayer { .. }), "{gone:?}");
}

/// Whoever removes an image collects what it leaves; two may be at it at once.
#[test]
fn privileged_two_who_collect_do_not_get_in_each_others_way() {
    let lab = Lab::new();
    for round in 0..5 {
        for nth in 0..4 {
            let many = (0..300)
                .fold(Tar::new(), |tar, file| tar.file(&format!("{round}-{nth}/{file}"), ""));
            lab.import(&many.end()).unwrap();
        }
        let collect = || lab.store.collect_garbage(|| Ok::<_, Error>(Needed::default()));
        let counts = std::thread::scope(|scope| {
            [(); 3]
                .map(|()| scope.spawn(collect))
                .map(|it| it.join().unwrap().unwrap().layers.len())
        });
        assert_eq!(counts.iter().sum::<usize>(), 4, "each is taken once: {counts:?}");
    }
}

#[test]
fn privileged_what_is_held_stays_even_if_nothing_needs_it() {
    let lab = Lab::new();
    let old = lab.import(&small_root()).unwrap();
    let hold = lab.store.hold();
    // Found, not stored: it is held as well.
    let archive = example().oci_archive();
    let mut stream = &*archive;
    let image =
        lab.store.import(Archive::Stream(&mut stream), &ImportOptions::new(), &hold, &NO_WATCH);
    let image = images(image.unwrap());
    assert_eq!(image[0].layers[0].outcome, Imported::AlreadyThere);
    assert_eq!(image[0].layers[0].chain_id, old.chain_id);
    assert_eq!(collect(&lab.store, Needed::default()).layers, []);
    assert_eq!(lab.store.layers().unwrap().len(), 3);
    // Named before the hold goes, but after garbage collection has begun.
    let mut hold = Some(hold);
    let collected = lab.store.collect_garbage(|| {
        drop(hold.take());
        Ok::<_, Error>(Needed::default())
    });
    assert_eq!(collected.unwrap().layers, [], "it was held when this began");
    assert_eq!(collect(&lab.store, Needed::default()).layers.len(), 3);
}

#[test]
fn privileged_one_layer_is_unpacked_once_by_many() {
    struct Counted<'a>(&'a [u8], &'a AtomicU32, bool);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if !self.2 {
                self.1.fetch_add(1, Ordering::SeqCst);
                self.2 = true;
                // Everybody else comes meanwhile.
                std::thread::sleep(Duration::from_millis(200));
            }
            self.0.read(buffer)
        }
    }
    let lab = Lab::new();
    let archive = small_root();
    let read = AtomicU32::new(0);
    let unpack = || {
        let source = Counted(&archive, &read, false);
        lab.store.unpack_layer(&[], &Digest::of(&archive), source, &Limits::default(), &NO_WATCH)
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(unpack)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap().outcome).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Imported::New).count(), 1);
    assert_eq!(read.load(Ordering::SeqCst), 1, "read by one only");
}

/// Environment of the process that is killed: the store, and after how many steps.
const KILLED_STORE: &str = "TARE_STORAGE_TEST_STORE";
#[cfg(feature = "fault")]
const KILLED_AFTER: &str = "TARE_STORAGE_TEST_STEPS";

/// Imports and collects without end, in a process of its own; nothing without its environment.
#[test]
#[ignore = "started by the tests that kill it"]
fn privileged_import_until_killed() {
    let root = std::env::var_os(KILLED_STORE).unwrap();
    #[cfg(feature = "fault")]
    if let Some(steps) = std::env::var(KILLED_AFTER).ok().and_then(|steps| steps.parse().ok()) {
        use std::sync::atomic::AtomicI64;
        static LEFT: AtomicI64 = AtomicI64::new(0);
        LEFT.store(steps, Ordering::SeqCst);
        tare_storage::fault::set_hook(|_| {
            if LEFT.fetch_sub(1, Ordering::SeqCst) == 0 {
                rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                )
                .unwrap();
            }
            Ok(())
        });
    }
    let store = Store::open(root.as_ref()).unwrap();
    let file = file_of(&example().oci_archive());
    loop {
        let hold = store.hold();
        store.import(Archive::File(file.as_fd()), &ImportOptions::new(), &hold, &NO_WATCH).unwrap();
        drop(hold);
        collect(&store, Needed::default());
    }
}

fn until_killed(store: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "garbage::privileged_import_until_killed"])
        .env(KILLED_STORE, store)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// How many files and directories each layer of the example has.
fn sizes() -> Vec<(Digest, usize)> {
    let lab = Lab::new();
    let archive = example().oci_archive();
    let image =
        images(import(&lab, Archive::Stream(&mut &*archive), &ImportOptions::new()).unwrap());
    image[0].layers.iter().map(|layer| (layer.diff_id, walk(&lab.diff(layer)))).collect()
}

/// A store that somebody was killed in opens clean, and has whole things only.
fn check_store(root: &std::path::Path, sizes: &[(Digest, usize)]) {
    let store = Store::open(root).unwrap();
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    let whole = example();
    let ids: BTreeSet<_> = tare_storage::ChainId::stack(&whole.diff_ids()).into_iter().collect();
    for layer in store.layers().unwrap() {
        assert!(ids.contains(&layer), "{layer}");
        let facts = store.layer(&layer).unwrap().unwrap();
        assert_eq!(facts.chain_id, layer);
        let count = walk(&root.join("layers").join(layer.hex()).join("diff"));
        let want = sizes.iter().find(|(diff_id, _)| *diff_id == facts.diff_id);
        assert_eq!(count, want.unwrap().1, "{layer} has all of its files");
    }
    for blob in store.blobs().unwrap() {
        store.get_blob(&blob, 1 << 20).unwrap();
    }
}

fn walk(path: &std::path::Path) -> usize {
    let Ok(entries) = fs::read_dir(path) else { return 1 };
    1 + entries
        .map(|entry| entry.unwrap())
        .map(|entry| if entry.file_type().unwrap().is_dir() { walk(&entry.path()) } else { 1 })
        .sum::<usize>()
}

#[test]
fn privileged_a_store_opens_clean_after_kills_at_random() {
    let lab = Lab::new();
    let root = lab.path("");
    drop(lab.store);
    let (mut seen, sizes) = (BTreeSet::new(), sizes());
    // Waits that are spread, not random: what happens in them is random enough.
    for round in 0..20_u64 {
        let mut child = until_killed(&root).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + round * 37 % 400));
        child.kill().unwrap();
        child.wait().unwrap();
        check_store(&root, &sizes);
        seen.insert(fs::read_dir(root.join("layers")).unwrap().count());
    }
    assert!(seen.len() > 1, "killed at one and the same point always: {seen:?}");
}

#[cfg(feature = "fault")]
#[test]
fn privileged_a_store_opens_clean_after_a_kill_at_any_step() {
    let lab = Lab::new();
    let root = lab.path("");
    drop(lab.store);
    let sizes = sizes();
    // One import and one collection have some 150 steps: every fourth of them.
    for steps in (0..200).step_by(4) {
        let status = until_killed(&root).env(KILLED_AFTER, steps.to_string()).status().unwrap();
        assert!(!status.success(), "it ended by itself after {steps} steps");
        check_store(&root, &sizes);
    }
}
