//! Volumes: filled once, out and in again, limited.

use std::fs;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tare_storage::{
    Error, ErrorKind, Filled, Limits, Removed, Rootfs, SizeLimit, VolumeName, VolumeOptions,
};

use crate::fixture::{Lab, Tar, header};
use crate::pictures::{difference, tree};

const NO_WATCH: fn(u64) -> ControlFlow<()> = |_| ControlFlow::Continue(());

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

fn image(lab: &Lab) -> Rootfs {
    let mut data = header(tar::EntryType::Directory, "data", "");
    data.set_mode(0o2770);
    data.set_uid(70_000);
    let archive = Tar::new()
        .entry(&data, b"")
        .file("data/a", "from the image")
        .symlink("data/link", "/etc")
        .symlink("here", "data")
        .symlink("away", "../../../etc")
        .file("file", "")
        .end();
    let layer = lab.import(&archive).unwrap();
    Rootfs::from_fd(lab.store.mount_layers(&[layer.chain_id]).unwrap())
}

#[test]
fn privileged_volumes_come_and_go() {
    let lab = Lab::new();
    let before = lab.picture();
    let options = VolumeOptions::new().with_owner(5, 6).with_mode(0o700);
    let volume = lab.store.create_volume(&name("v"), &options).unwrap();
    let meta = fs::metadata(lab.path("volumes/v/_data")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (5, 6, 0o700));
    drop(volume);
    let error = lab.store.create_volume(&name("v"), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(lab.store.volumes().unwrap(), [name("v")]);
    assert!(matches!(lab.store.remove_volume(&name("v")).unwrap(), Removed::Tree { .. }));
    assert_eq!(lab.store.remove_volume(&name("v")).unwrap(), Removed::WasAbsent);
    assert!(matches!(lab.store.open_volume(&name("v")), Err(Error::NoVolume { .. })));
    assert_eq!(lab.picture(), before);
}

#[test]
fn privileged_a_volume_is_filled_when_it_is_fresh_and_empty_and_never_again() {
    let lab = Lab::new();
    let image = image(&lab);
    let fill = |volume: &str, path: &str| {
        let volume = lab.store.open_volume(&name(volume)).unwrap();
        volume.fill(&image, path, &Limits::default(), &NO_WATCH).unwrap()
    };
    for (about, path, filled) in [
        ("a directory", "/data", true),
        ("a link to it", "here", true),
        ("nothing", "/none", false),
        ("a file", "/file", false),
        ("a link out of the image", "/away", false),
    ] {
        lab.store.create_volume(&name("v"), &VolumeOptions::new()).unwrap();
        let got = fill("v", path);
        assert_eq!(matches!(got, Filled::Copied(_)), filled, "{about}: {got:?}");
        if filled {
            let meta = fs::metadata(lab.path("volumes/v/_data")).unwrap();
            assert_eq!((meta.uid(), meta.mode() & 0o7777), (70_000, 0o2770), "{about}");
            assert_eq!(fs::read(lab.path("volumes/v/_data/a")).unwrap(), b"from the image");
            fs::write(lab.path("volumes/v/_data/a"), "changed").unwrap();
        }
        assert_eq!(fill("v", "/data"), Filled::NotFresh, "{about}");
        if filled {
            assert_eq!(fs::read(lab.path("volumes/v/_data/a")).unwrap(), b"changed");
        }
        lab.store.remove_volume(&name("v")).unwrap();
    }
    // Used before, and emptied since; or something in it, though nobody said it was used.
    let volume = lab.store.create_volume(&name("used"), &VolumeOptions::new()).unwrap();
    assert!(volume.begin_use().unwrap() && !volume.begin_use().unwrap());
    assert_eq!(fill("used", "/data"), Filled::NotFresh);
    lab.store.create_volume(&name("full"), &VolumeOptions::new()).unwrap();
    fs::write(lab.path("volumes/full/_data/own"), "").unwrap();
    assert_eq!(fill("full", "/data"), Filled::NotFresh);
    assert_eq!(fs::read_dir(lab.path("volumes/full/_data")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(lab.path("tmp")).unwrap().count(), 0);
}

#[test]
fn privileged_a_volume_goes_out_and_in_as_it_is() {
    let lab = Lab::new();
    let image = image(&lab);
    lab.store.create_volume(&name("one"), &VolumeOptions::new()).unwrap();
    let one = lab.store.open_volume(&name("one")).unwrap();
    one.fill(&image, "/data", &Limits::default(), &NO_WATCH).unwrap();
    let one = lab.store.open_volume(&name("one")).unwrap();
    let mut archive = Vec::new();
    one.export().unwrap().read_to_end(&mut archive).unwrap();
    let two = lab.store.create_volume(&name("two"), &VolumeOptions::new()).unwrap();
    two.import(&*archive, &Limits::default(), &NO_WATCH).unwrap();
    let trees = ["one", "two"].map(|name| tree(&lab.path(format!("volumes/{name}/_data"))));
    assert!(trees[0] == trees[1], "{}", difference(&trees[0], &trees[1]));
    assert!(one.usage().unwrap() >= 4096);
    two.clear().unwrap();
    assert_eq!(fs::read_dir(lab.path("volumes/two/_data")).unwrap().count(), 0);
    // A part of it, reached over no link that leads out.
    fs::create_dir(lab.path("volumes/one/_data/sub")).unwrap();
    let root = one.root().unwrap();
    assert!(root.subdirectory("sub").unwrap().is_some());
    assert!(root.subdirectory("link").unwrap().is_none(), "/etc of the volume");
    // A link that a container made in a volume sends no later import out of it (CVE-2025-9566).
    std::os::unix::fs::symlink(lab.dir.path(), lab.path("volumes/one/_data/out")).unwrap();
    let archive = Tar::new().file("out/evil", "x").end();
    one.import(&*archive, &Limits::default(), &NO_WATCH).unwrap_err();
    assert!(!lab.dir.path().join("evil").exists());
}

#[test]
fn privileged_a_limit_is_refused_where_it_cannot_be_kept() {
    let lab = Lab::new();
    let before = lab.picture();
    let limit = SizeLimit::new(1 << 20).unwrap();
    let options = VolumeOptions::new().with_limit(limit);
    match lab.store.create_volume(&name("v"), &options) {
        // This disk has project quota: then it is kept.
        Ok(volume) => {
            let data = fs::File::create(lab.path("volumes/v/_data/big")).unwrap();
            let error = rustix::fs::fallocate(
                data.as_fd(),
                rustix::fs::FallocateFlags::empty(),
                0,
                4 << 20,
            );
            assert_eq!(error, Err(rustix::io::Errno::DQUOT));
            drop(volume);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            assert_eq!(lab.picture(), before);
        }
    }
}
