//! What a bad archive becomes: a typed error, and nothing else.

use std::time::{Duration, Instant};

use tar::{EntryType, Header};
use tare_storage::{Error, ErrorKind, Limit, Limits, Malformed, Refusal};

use crate::fixture::{Lab, Tar, gzip, header, read, small_root};

fn refusal(error: &Error) -> Option<Refusal> {
    match error {
        Error::Refused { source, .. } => Some(*source),
        _ => None,
    }
}

fn limit(error: &Error) -> Option<Limit> {
    match error {
        Error::Limit { limit, .. } => Some(*limit),
        _ => None,
    }
}

#[test]
fn privileged_entries_that_lead_out_are_refused_and_leave_nothing() {
    let lab = Lab::new();
    std::fs::write(lab.dir.path().join("secret"), "host").unwrap();
    lab.import(&small_root()).unwrap();
    let before = lab.picture();
    let tar = || Tar::new().dir("etc").file("etc/passwd", "in the image");
    let long = "n/".repeat(2050);
    let mut id = header(EntryType::Regular, "x", "");
    id.set_uid(u64::from(u32::MAX));
    for (about, archive, want) in [
        ("up", tar().file("../secret", "x"), Refusal::ParentName),
        ("up inside", tar().file("etc/../../secret", "x"), Refusal::ParentName),
        ("up by pax", tar().pax(&[("path", b"../secret")]).file("x", ""), Refusal::ParentName),
        ("absolute and up", tar().file("/../../secret", "x"), Refusal::ParentName),
        ("link up", tar().link("evil", "../secret"), Refusal::ParentName),
        ("link to nothing", tar().link("evil", "/etc/shadow"), Refusal::LinkTarget),
        ("link to itself", tar().file("x", "").link("x", "x"), Refusal::LinkTarget),
        ("link to a directory", tar().link("evil", "etc"), Refusal::LinkTarget),
        (
            "link through a link out",
            tar().symlink("up", "../../../../..").link("evil", "up/secret"),
            Refusal::LinkTarget,
        ),
        ("below a dangling link", tar().symlink("l", "/no").file("l/x", ""), Refusal::Parent),
        ("below a file", tar().file("etc/passwd/x", ""), Refusal::Parent),
        (
            "below what was a link to its own directory",
            tar().symlink("l", ".").file("l/l", "a file").file("l/x", ""),
            Refusal::Parent,
        ),
        ("below a loop", tar().symlink("l", "l").file("l/x", ""), Refusal::Parent),
        ("NUL", tar().pax(&[("path", b"a\0b")]).file("x", ""), Refusal::NulName),
        ("long", tar().pax(&[("path", long.as_bytes())]).file("x", ""), Refusal::LongName),
        ("no name", tar().file("", "x"), Refusal::EmptyName),
        ("root is a file", tar().file("./", "x"), Refusal::Root),
        ("root is a link", tar().symlink(".", "/etc"), Refusal::Root),
        ("whiteout", tar().file("etc/.wh.passwd", ""), Refusal::Whiteout),
        ("owner", tar().entry(&id, b""), Refusal::Owner),
        ("unknown kind", tar().node(EntryType::new(b'Z'), "x"), Refusal::Kind),
    ] {
        let error = lab.import(&archive.end()).unwrap_err();
        assert_eq!(refusal(&error), Some(want), "{about}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(lab.picture() == before, "{about}: something is left");
    }
}

#[test]
fn privileged_links_are_followed_inside_the_root_only() {
    let lab = Lab::new();
    let beside = lab.dir.path().join("etc");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("passwd"), "host").unwrap();
    let host = read(std::path::Path::new("/etc/passwd"));
    for target in ["/etc", "../../../../../../etc", "/../etc", "a/../../../../etc"] {
        let archive = Tar::new()
            .dir("etc")
            .dir("a")
            .symlink("evil", target)
            .file("evil/passwd", "from the image")
            .end();
        let layer = lab.import(&archive).unwrap();
        assert_eq!(read(&lab.diff(&layer).join("etc/passwd")), "from the image", "{target}");
    }
    assert_eq!(read(std::path::Path::new("/etc/passwd")), host);
    assert_eq!(read(&beside.join("passwd")), "host");
}

#[test]
fn privileged_no_device_is_made() {
    let lab = Lab::new();
    let archive = Tar::new()
        .node(EntryType::Char, "dev/mem")
        .node(EntryType::Block, "dev/sda")
        .link("innocent", "dev/mem")
        .file("dev/shm", "x")
        .end();
    let layer = lab.import(&archive).unwrap();
    assert_eq!(layer.skipped_devices, 3);
    let names: Vec<_> = std::fs::read_dir(lab.diff(&layer)).unwrap().collect();
    assert_eq!(names.len(), 1, "only dev");
    assert_eq!(std::fs::read_dir(lab.diff(&layer).join("dev")).unwrap().count(), 1);
}

#[test]
fn privileged_limits_are_kept() {
    let lab = Lab::new();
    let before = lab.picture();
    let check = |about: &str, archive: &[u8], limits: &Limits, want| {
        let error = lab.import_within(archive, limits).unwrap_err();
        assert_eq!(limit(&error), Some(want), "{about}: {error:?}");
        assert!(lab.picture() == before, "{about}: something is left");
    };
    let few = Limits::default().with_entries(4).with_bytes(10_000).with_depth(3);
    let four = Tar::new().dir("a").dir("b").dir("c");
    check("entries", &four.dir("d").dir("e").end(), &few, Limit::Entries);
    check("implied", &Tar::new().file("a/b/c", "").file("d/e", "").end(), &few, Limit::Entries);
    check("depth", &Tar::new().file("a/b/c/d", "").end(), &few, Limit::Depth);
    check("bytes", &Tar::new().file("x", &"x".repeat(10_000)).end(), &few, Limit::Bytes);
    let bomb = gzip(&Tar::new().file("x", &"\0".repeat(1 << 20)).end());
    check("compressed bytes", &bomb, &few, Limit::Bytes);

    let long = vec![b'x'; 1 << 19];
    let attribute = [("SCHILY.xattr.user.a", &*long)];
    let again = (0..129).fold(Tar::new(), |tar, _| tar.pax(&attribute).dir("d"));
    check("remembered attributes", &again.end(), &Limits::default(), Limit::NameBytes);

    let mut sparse = header(EntryType::GNUSparse, "sparse", "");
    sparse.as_gnu_mut().unwrap().set_real_size(1 << 50);
    let claim = Tar::new().entry(&sparse, b"").end();
    check("a huge hole", &claim, &Limits::default(), Limit::Bytes);
    let mut huge = header(EntryType::Regular, "huge", "");
    huge.set_size(1 << 50);
    huge.set_cksum();
    check("a huge claim", huge.as_bytes(), &Limits::default(), Limit::Bytes);
    let mut long = header(EntryType::GNULongName, "././@LongLink", "");
    long.set_size(1 << 40);
    long.set_cksum();
    check("a huge name", long.as_bytes(), &Limits::default(), Limit::HeaderBytes);
}

#[test]
fn privileged_a_hundred_thousand_entries_are_counted() {
    let lab = Lab::new();
    let before = lab.picture();
    let limits = Limits::default().with_entries(100_000);
    let many = (0..=100_000).fold(Tar::new(), |tar, n| tar.symlink(&format!("d/{n}"), "x"));
    let error = lab.import_within(&gzip(&many.end()), &limits).unwrap_err();
    assert_eq!(limit(&error), Some(Limit::Entries));
    assert!(lab.picture() == before);
}

#[test]
fn privileged_depth_to_the_limit_works() {
    let lab = Lab::new();
    let path = |parts: usize| ["d"; 300][..parts].join("/");
    let archive = |parts| Tar::new().pax(&[("path", path(parts).as_bytes())]).dir("x").end();
    let layer = lab.import(&archive(256)).unwrap();
    assert_eq!(layer.entries, 256);
    assert_eq!(limit(&lab.import(&archive(257)).unwrap_err()), Some(Limit::Depth));
    lab.store.remove_layer(&layer.chain_id).unwrap();
}

#[test]
fn privileged_damaged_archives_are_told_so_and_leave_nothing() {
    let lab = Lab::new();
    let before = lab.picture();
    let whole = small_root();
    let zipped = gzip(&whole);
    let zstd = zstd::encode_all(&*whole, 3).unwrap();
    let mut flipped = zipped.clone();
    let at = flipped.len() - 7;
    flipped[at] ^= 1;
    let header = Header::new_gnu();
    for (about, archive, truncated) in [
        ("nothing", &[][..], true),
        ("cut tar", &whole[..whole.len() / 2 + 7], true),
        ("no end marker", &Tar::new().file("a", "b").cut(), true),
        ("cut gzip", &zipped[..zipped.len() / 2], true),
        ("gzip without its trailer", &zipped[..zipped.len() - 1], true),
        ("cut zstd", &zstd[..zstd.len() - 3], true),
        ("gzip with a wrong checksum", &flipped, false),
        ("text", &b"not an archive, but long enough to be a header. ".repeat(20), false),
        ("no checksum", header.as_bytes(), false),
        ("xz", b"\xfd7zXZ\0 and so on", false),
        ("gzip magic only", b"\x1f\x8b\x08\xff\xff\xff", true),
        ("zstd with a window of 128 MiB", b"\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00", true),
        ("zstd with a window of 256 MiB", b"\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00", false),
    ] {
        let error = lab.import(archive).unwrap_err();
        let Error::Malformed { source, .. } = &error else { panic!("{about}: {error:?}") };
        assert_eq!(matches!(source, Malformed::Truncated), truncated, "{about}: {source:?}");
        assert!(lab.picture() == before, "{about}: something is left");
    }
}

#[test]
fn privileged_a_fifo_in_the_place_of_a_file_holds_nobody_up() {
    let lab = Lab::new();
    let archive = Tar::new()
        .node(EntryType::Fifo, "etc/passwd")
        .symlink("etc/group", "/etc/passwd")
        .symlink("etc/shadow", "/../../../../etc/shadow")
        .end();
    let layer = lab.import(&archive).unwrap();
    let key = "c".parse().unwrap();
    lab.store.create_container(&key, &layer.chain_id).unwrap();
    let rootfs = lab.store.mount_rootfs(&[layer.chain_id], &key).unwrap();
    let start = Instant::now();
    for path in ["etc/passwd", "/etc/group"] {
        let error = rootfs.read_file(path, 1 << 20).unwrap_err();
        assert!(matches!(error, Error::NotRegular { .. }), "{error:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    let error = rootfs.read_file("etc/shadow", 1 << 20).unwrap_err();
    assert!(matches!(error, Error::ReadFile { .. }), "the link leads to itself: {error:?}");
}
