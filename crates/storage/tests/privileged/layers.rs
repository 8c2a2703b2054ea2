//! Layers over others: what they hide, and what they leave.

use std::fs;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use tar::EntryType;
use tare_storage::{ChainId, Devices, Digest, Error, Layer, Limits, Refusal};

use crate::fixture::{Lab, Tar, header, read, xattr};

const NO_WATCH: fn(u64) -> ControlFlow<()> = |_| ControlFlow::Continue(());

pub(crate) fn over(lab: &Lab, below: &[ChainId], archive: &[u8]) -> Result<Layer, Error> {
    let diff_id = Digest::of(archive);
    lab.store.unpack_layer(below, &diff_id, archive, &Limits::default(), &NO_WATCH)
}

fn paths(lab: &Lab, layers: &[ChainId]) -> Vec<String> {
    let mount = lab.store.mount_layers(layers).unwrap();
    let top = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    let mut paths: Vec<_> = crate::pictures::tree(&top).into_keys().collect();
    paths.retain(|path| path.as_os_str() != ".");
    paths.iter().map(|path| path.strip_prefix(".").unwrap().display().to_string()).collect()
}

#[test]
fn privileged_whiteouts_hide_what_is_below_and_nothing_of_the_layer_itself() {
    let base = || Tar::new().file("d/x", "x").file("d/y", "y").file("e/f/z", "z").file("g", "g");
    let marker = |tar: Tar, name: &str| tar.file(name, "");
    for (about, layer, want) in [
        ("a file", marker(Tar::new(), "d/.wh.x"), "d d/y e e/f e/f/z g"),
        ("a directory", marker(Tar::new(), ".wh.e"), "d d/x d/y g"),
        ("nothing", marker(Tar::new(), "d/.wh.none"), "d d/x d/y e e/f e/f/z g"),
        ("in nothing", marker(Tar::new(), "no/where/.wh.x"), "d d/x d/y e e/f e/f/z g"),
        ("opaque", marker(Tar::new(), "d/.wh..wh..opq"), "d e e/f e/f/z g"),
        (
            "opaque, then a file",
            marker(Tar::new(), "d/.wh..wh..opq").file("d/n", ""),
            "d d/n e e/f e/f/z g",
        ),
        (
            "a file, then opaque",
            marker(Tar::new().file("d/n", ""), "d/.wh..wh..opq"),
            "d d/n e e/f e/f/z g",
        ),
        (
            "hidden, then made a directory",
            marker(Tar::new(), ".wh.d").file("d/n", ""),
            "d d/n e e/f e/f/z g",
        ),
        (
            "made a directory, then hidden",
            marker(Tar::new().file("d/n", ""), ".wh.d"),
            "d d/n e e/f e/f/z g",
        ),
        ("hidden, then a file", marker(Tar::new(), ".wh.d").file("d", "new"), "d e e/f e/f/z g"),
        ("a file, then hidden", marker(Tar::new().file("d", "new"), ".wh.d"), "d e e/f e/f/z g"),
        (
            "files of aufs",
            marker(marker(Tar::new(), ".wh..wh.plnk/1.2"), ".wh..wh.aufs"),
            "d d/x d/y e e/f e/f/z g",
        ),
        (
            "through a directory of the layer",
            marker(Tar::new().dir("e"), "e/f/.wh.z"),
            "d d/x d/y e e/f g",
        ),
    ] {
        let lab = Lab::new();
        let base = over(&lab, &[], &base().end()).unwrap();
        let layer = over(&lab, &[base.chain_id], &layer.end()).expect(about);
        assert_eq!(layer.parent, Some(base.chain_id));
        assert_eq!(paths(&lab, &[base.chain_id, layer.chain_id]).join(" "), want, "{about}");
        assert_eq!(lab.store.layer(&layer.chain_id).unwrap().unwrap().size, layer.size);
    }
}

#[test]
fn privileged_a_base_layer_hides_nothing_and_has_no_whiteouts() {
    let lab = Lab::new();
    let archive = Tar::new().file("d/x", "").file("d/.wh.y", "").file("e/.wh..wh..opq", "").end();
    let layer = over(&lab, &[], &archive).unwrap();
    let names: Vec<_> = fs::read_dir(lab.diff(&layer).join("d")).unwrap().collect();
    assert_eq!(names.len(), 1);
    assert!(!lab.diff(&layer).join("e").exists());
    // Where a whole root is said to be, it is an error.
    let error = lab.import(&archive).unwrap_err();
    assert!(matches!(error, Error::Refused { source: Refusal::Whiteout, .. }), "{error:?}");
}

#[test]
fn privileged_directories_that_a_layer_only_names_keep_their_attributes() {
    let lab = Lab::new();
    let mut private = header(EntryType::Directory, "a/private", "");
    private.set_mode(0o2750);
    private.set_uid(7);
    private.set_gid(8);
    let mut root = header(EntryType::Directory, "./", "");
    root.set_mode(0o711);
    let base = Tar::new()
        .entry(&root, b"")
        .dir("a")
        .pax(&[("SCHILY.xattr.user.note", b"kept"), ("mtime", b"5.25")])
        .entry(&private, b"")
        .end();
    let base = over(&lab, &[], &base).unwrap();
    let hidden = over(&lab, &[base.chain_id], &Tar::new().file("b", "").end()).unwrap();
    let stack = [base.chain_id, hidden.chain_id];
    let layer = over(&lab, &stack, &Tar::new().file("a/private/new", "").end()).unwrap();
    let dir = lab.diff(&layer).join("a/private");
    let meta = fs::metadata(&dir).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o2750, 7, 8));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (5, 250_000_000));
    assert_eq!(xattr(&dir, "user.note").as_deref(), Some(&b"kept"[..]));
    assert_eq!(fs::metadata(lab.diff(&layer)).unwrap().mode() & 0o7777, 0o711, "the root's too");
}

#[test]
fn privileged_bad_layers_are_refused_and_leave_nothing() {
    let lab = Lab::new();
    let base = over(&lab, &[], &Tar::new().file("d/x", "x").file("secret", "").end()).unwrap();
    let mut whiteout = header(EntryType::Char, "d/x", "");
    whiteout.set_device_major(0).unwrap();
    whiteout.set_device_minor(0).unwrap();
    let before = lab.picture();
    for (about, archive, want) in [
        ("opaque root", Tar::new().file(".wh..wh..opq", ""), Refusal::OpaqueRoot),
        ("hides up", Tar::new().file("d/.wh...", ""), Refusal::Whiteout),
        ("hides itself", Tar::new().file("d/.wh..", ""), Refusal::Whiteout),
        ("hides nothing", Tar::new().file("d/.wh.", ""), Refusal::Whiteout),
        ("below a whiteout", Tar::new().file(".wh.d/x", ""), Refusal::Whiteout),
        ("a whiteout of overlayfs", Tar::new().entry(&whiteout, b""), Refusal::WhiteoutDevice),
        ("a link below", Tar::new().link("l", "secret"), Refusal::LinkTarget),
        ("a link up", Tar::new().link("l", "../secret"), Refusal::ParentName),
    ] {
        let error = over(&lab, &[base.chain_id], &archive.end()).unwrap_err();
        let Error::Refused { source, .. } = error else { panic!("{about}: {error:?}") };
        assert_eq!(source, want, "{about}");
        assert!(lab.picture() == before, "{about}: something is left");
    }
    let archive = Tar::new().file("x", "").end();
    let error =
        lab.store.unpack_layer(&[], &Digest::of(b""), &*archive, &Limits::default(), &NO_WATCH);
    let Error::LayerDigest { actual, .. } = error.unwrap_err() else { panic!() };
    assert_eq!(actual, Digest::of(&archive));
    assert!(lab.picture() == before);
}

#[test]
fn privileged_a_layer_through_a_link_stays_in_the_layer() {
    // The layer has a link, and writes through it: that ends in the layer, not on the host.
    let lab = Lab::new();
    fs::write(lab.dir.path().join("outside"), "host").unwrap();
    let base = over(&lab, &[], &Tar::new().dir("d").end()).unwrap();
    let archive = Tar::new()
        .symlink("out", "../../../../../..")
        .file("out/outside", "layer")
        .symlink("etc", "/d")
        .dir("d")
        .file("etc/inside", "layer")
        .end();
    let layer = over(&lab, &[base.chain_id], &archive).unwrap();
    assert_eq!(read(&lab.diff(&layer).join("outside")), "layer");
    assert_eq!(read(&lab.diff(&layer).join("d/inside")), "layer");
    assert_eq!(read(&lab.dir.path().join("outside")), "host");
}

#[test]
fn privileged_devices_are_made_where_that_is_wanted() {
    let lab = Lab::new();
    let archive = Tar::new().node(EntryType::Char, "dev/null").end();
    let limits = Limits::default().with_devices(Devices::Make);
    let layer = lab.import_within(&archive, &limits).unwrap();
    let meta = fs::metadata(lab.diff(&layer).join("dev/null")).unwrap();
    assert!(meta.file_type().is_char_device());
    assert_eq!((meta.rdev(), meta.mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o644));
    assert_eq!(layer.skipped_devices, 0);
}

#[test]
fn privileged_access_control_lists_are_kept_in_both_forms() {
    let lab = Lab::new();
    let text = b"user::rw-,user:1000:rwx,group::r--,mask::rwx,other::---";
    let archive = Tar::new()
        .pax(&[("SCHILY.acl.access", text)])
        .file("text", "")
        .pax(&[("SCHILY.acl.access", b"user:ann:rwx")])
        .file("name", "")
        .pax(&[("SCHILY.acl.default", b"user::rwx,group::r-x,other::---")])
        .dir("dir")
        .end();
    let layer = lab.import(&archive).unwrap();
    assert_eq!(layer.dropped_xattrs, 1, "names mean nothing here");
    let acl = xattr(&lab.diff(&layer).join("text"), "system.posix_acl_access").unwrap();
    assert_eq!(acl.len(), 4 + 5 * 8);
    assert!(xattr(&lab.diff(&layer).join("dir"), "system.posix_acl_default").is_some());
    // As another archive has it.
    let binary =
        Tar::new().pax(&[("SCHILY.xattr.system.posix_acl_access", &acl)]).file("b", "").end();
    let layer = lab.import(&binary).unwrap();
    assert_eq!(xattr(&lab.diff(&layer).join("b"), "system.posix_acl_access").unwrap(), acl);
    let bad =
        Tar::new().pax(&[("SCHILY.xattr.system.posix_acl_access", b"junk")]).file("b", "").end();
    assert_eq!(lab.import(&bad).unwrap().dropped_xattrs, 1);
}
