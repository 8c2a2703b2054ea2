//! What a good archive becomes.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use tar::EntryType;
use tare_storage::{ChainId, Digest, Error, ErrorKind, Imported, Limits};

use crate::fixture::{Lab, Tar, gzip, header, read, small_root, xattr};

#[test]
fn privileged_a_layer_is_the_same_however_it_is_compressed() {
    let lab = Lab::new();
    let plain = small_root();
    let layer = lab.import(&plain).unwrap();
    assert_eq!(layer.outcome, Imported::New);
    assert_eq!(layer.diff_id, Digest::of(&plain), "over the trailing blocks too");
    assert_eq!(layer.chain_id, ChainId::base(layer.diff_id));
    // Nine entries without the device, and the implied run.
    assert_eq!((layer.entries, layer.skipped_devices), (11, 1));
    assert_eq!(layer.size, 24);
    let before = lab.picture();
    for archive in [gzip(&plain), zstd::encode_all(&*plain, 3).unwrap()] {
        let again = lab.import(&archive).unwrap();
        assert_eq!(again.outcome, Imported::AlreadyThere);
        assert_eq!((again.chain_id, again.size), (layer.chain_id, layer.size));
    }
    assert_eq!(lab.picture(), before, "nothing new and nothing left in tmp");
    assert_eq!(lab.store.layers().unwrap(), [layer.chain_id]);
}

#[test]
fn privileged_entries_keep_their_attributes() {
    let lab = Lab::new();
    let mut program = header(EntryType::Regular, "program", "");
    program.set_mode(0o4755);
    program.set_uid(3_000_000);
    program.set_gid(70_000);
    let mut closed = header(EntryType::Directory, "closed", "");
    closed.set_mode(0o2510);
    closed.set_uid(7);
    let capability = [1, 0, 0, 2, 0x0a, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let archive = Tar::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.comment", b"two\nlines"),
            ("mtime", b"1000000000.123456789"),
        ])
        .entry(&program, b"\x7fELF")
        .entry(&closed, b"")
        .file("closed/inside", "x")
        .symlink("closed/link", "inside")
        .node(EntryType::Fifo, "fifo")
        .link("same", "program")
        .end();

    let layer = lab.import(&archive).unwrap();
    let root = lab.diff(&layer);

    let meta = fs::metadata(root.join("program")).unwrap();
    assert_eq!(meta.mode(), 0o104_755);
    assert_eq!((meta.uid(), meta.gid()), (3_000_000, 70_000));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000_000, 123_456_789));
    assert_eq!(meta.nlink(), 2);
    assert_eq!(fs::metadata(root.join("same")).unwrap().ino(), meta.ino());
    let attribute = |name| xattr(&root.join("program"), name);
    assert_eq!(attribute("security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(attribute("user.comment").as_deref(), Some(&b"two\nlines"[..]));
    assert_eq!(attribute("trusted.overlay.opaque"), None);
    assert_eq!(layer.dropped_xattrs, 1);

    let meta = fs::metadata(root.join("closed")).unwrap();
    assert_eq!((meta.mode(), meta.uid()), (0o042_510, 7));
    assert_eq!(meta.mtime(), 1_000_000_000, "though it was filled later");
    let meta = fs::symlink_metadata(root.join("closed/link")).unwrap();
    assert_eq!((meta.is_symlink(), meta.mtime()), (true, 1_000_000_000));
    let meta = fs::symlink_metadata(root.join("fifo")).unwrap();
    assert!(meta.file_type().is_fifo());
    assert_eq!(meta.mode() & 0o7777, 0o644);
}

#[test]
fn privileged_long_names_and_odd_ones_are_kept() {
    let lab = Lab::new();
    let deep = format!("{}/leaf", ["d".repeat(200).as_str(); 15].join("/"));
    let mut builder = tar::Builder::new(Vec::new());
    let mut long = header(EntryType::Regular, "", "");
    builder.append_data(&mut long, &deep, &b""[..]).unwrap();
    let gnu = builder.into_inner().unwrap();
    let pax = Tar::new()
        .pax(&[("path", "new\nline \u{e9}/\\back".as_bytes())])
        .file("short", "x")
        .dir("/absolute//dir/.")
        .end();
    let layer = lab.import(&gnu).unwrap();
    assert!(lab.diff(&layer).join(&deep).is_file());
    assert_eq!(layer.entries, 16, "fifteen implied directories");
    let root = lab.diff(&lab.import(&pax).unwrap());
    assert!(root.join("new\nline \u{e9}/\\back").is_file());
    assert!(root.join("absolute/dir").is_dir());
}

#[test]
fn privileged_a_sparse_file_keeps_its_holes() {
    let lab = Lab::new();
    let mut sparse = header(EntryType::GNUSparse, "sparse", "");
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(100 << 20);
    gnu.sparse[0].set_offset(50 << 20);
    gnu.sparse[0].set_length(4);
    let layer = lab.import(&Tar::new().entry(&sparse, b"data").end()).unwrap();
    let path = lab.diff(&layer).join("sparse");
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.size(), layer.size), (100 << 20, 100 << 20));
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    let content = fs::read(&path).unwrap();
    assert_eq!(&content[50 << 20..(50 << 20) + 5], b"data\0");
}

#[test]
fn privileged_a_later_entry_replaces_an_earlier_one() {
    let lab = Lab::new();
    let archive = Tar::new()
        .file("file", "old")
        .file("file", "new")
        .dir("dir/inner")
        .file("dir", "now a file")
        .file("grows", "a file")
        .file("grows/./no", "")
        .end();
    // The last one has a file for its parent.
    let before = lab.picture();
    assert!(matches!(lab.import(&archive), Err(Error::Refused { .. })));
    assert_eq!(lab.picture(), before);

    let archive = Tar::new()
        .file("file", "old")
        .file("file", "new")
        .dir("dir/inner")
        .file("dir", "now a file")
        .file("kept/inside", "kept")
        .dir("kept")
        .symlink("was-link", "kept")
        .dir("was-link")
        .symlink("link", "file")
        .file("link", "own content")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/through", "usrmerge")
        // Its own parent until now.
        .symlink("self", ".")
        .file("self/self", "no more link")
        .file("after", "x")
        .end();
    let layer = lab.import(&archive).unwrap();
    let root = lab.diff(&layer);
    let text = |path: &str| read(&root.join(path));
    assert_eq!((text("file"), text("dir")), ("new".into(), "now a file".into()));
    assert_eq!(text("kept/inside"), "kept");
    assert!(fs::symlink_metadata(root.join("was-link")).unwrap().is_dir());
    assert_eq!(fs::read_dir(root.join("was-link")).unwrap().count(), 0);
    assert_eq!(text("link"), "own content");
    assert_eq!(text("usr/lib/through"), "usrmerge");
    assert_eq!(text("self"), "no more link");
}

#[test]
fn privileged_an_import_is_followed_and_cancelled() {
    let lab = Lab::new();
    let archive = Tar::new().file("big", &"x".repeat(4 << 20)).file("last", "").end();
    let before = lab.picture();
    let seen = std::cell::Cell::new(0);
    let watch = |bytes| {
        assert!(bytes >= seen.get(), "goes forward");
        seen.set(bytes);
        if bytes > 1 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = lab.store.import_layer(&*archive, &Limits::default(), &watch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(seen.get() < 2 << 20);
    assert_eq!(lab.picture(), before);

    let total = std::cell::Cell::new(0);
    let watch = |bytes| {
        total.set(bytes);
        ControlFlow::Continue(())
    };
    lab.store.import_layer(&*gzip(&archive), &Limits::default(), &watch).unwrap();
    assert_eq!(total.get(), gzip(&archive).len() as u64, "compressed bytes");
}

#[test]
fn privileged_a_failing_reader_is_told_from_a_bad_archive() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("cable pulled"))
        }
    }
    use std::io::Read as _;
    let lab = Lab::new();
    let before = lab.picture();
    for archive in [small_root(), gzip(&small_root())] {
        for at in [0, 3, 100, archive.len() / 2] {
            let input = archive[..at].chain(Broken);
            let watch = |_| ControlFlow::Continue(());
            let error = lab.store.import_layer(input, &Limits::default(), &watch).unwrap_err();
            let Error::ReadArchive { source } = error else { panic!("{at}: {error:?}") };
            assert_eq!(source.to_string(), "cable pulled");
        }
    }
    assert_eq!(lab.picture(), before);
}

#[test]
fn privileged_two_imports_of_one_archive_at_once_make_one_layer() {
    let lab = Lab::new();
    let archive = small_root();
    let layers: Vec<_> = std::thread::scope(|scope| {
        let imports: Vec<_> =
            (0..4).map(|_| scope.spawn(|| lab.import(&archive).unwrap())).collect();
        imports.into_iter().map(|import| import.join().unwrap()).collect()
    });
    let new = layers.iter().filter(|layer| layer.outcome == Imported::New).count();
    assert_eq!(new, 1);
    assert_eq!(lab.store.layers().unwrap().len(), 1);
    assert_eq!(fs::read_dir(lab.path("tmp")).unwrap().count(), 0);
}
