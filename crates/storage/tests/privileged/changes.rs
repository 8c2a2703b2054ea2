//! What a container changed: as a list, as a layer, applied again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tare_storage::{
    Change, ChangeKind, Compression, ContainerKey, Error, Limits, RUNTIME_PATHS, Rootfs,
};

use crate::fixture::{Lab, Tar};
use crate::pictures::{difference, tree};

const NO_WATCH: fn(u64) -> ControlFlow<()> = |_| ControlFlow::Continue(());

fn base() -> Vec<u8> {
    Tar::new()
        .dir("a")
        .file("a/b", "1")
        .file("a/c/d", "2")
        .file("e", "3")
        .symlink("f", "e")
        .file("g/h", "4")
        .file("g/i", "5")
        .dir("etc")
        .end()
}

fn path_of(root: &Rootfs) -> PathBuf {
    format!("/proc/self/fd/{}", root.as_fd().as_raw_fd()).into()
}

fn sorted(changes: Vec<Change>) -> BTreeMap<String, ChangeKind> {
    changes.into_iter().map(|change| (change.path.display().to_string(), change.kind)).collect()
}

#[test]
fn privileged_changes_are_told_by_what_is_in_the_root() {
    use ChangeKind::{Added, Deleted, Modified};
    let lab = Lab::new();
    let layer = lab.import(&base()).unwrap().chain_id;
    let key: ContainerKey = "c".parse().unwrap();
    lab.store.create_container(&key, &layer).unwrap();
    let root = lab.store.mount_rootfs(&[layer], &key).unwrap();
    let at = |path: &str| path_of(&root).join(path);
    let list = || {
        let changes = lab.store.changes(&[layer], &key, RUNTIME_PATHS).unwrap();
        sorted(changes.collect::<Result<_, _>>().unwrap())
    };
    assert_eq!(list(), BTreeMap::new());
    // A file that this host has, too, and one it has as a directory.
    fs::write(at("etc/hostname"), "a mount point").unwrap();
    fs::write(at("etc/passwd"), "x").unwrap();
    fs::write(at("usr"), "a file here").unwrap();
    fs::write(at("a/b"), "changed").unwrap();
    fs::remove_dir_all(at("a/c")).unwrap();
    fs::remove_file(at("f")).unwrap();
    fs::create_dir(at("f")).unwrap();
    fs::write(at("f/new"), "").unwrap();
    fs::remove_dir_all(at("g")).unwrap();
    fs::create_dir(at("g")).unwrap();
    fs::write(at("g/i"), "again").unwrap();
    fs::write(at("gone"), "").unwrap();
    fs::remove_file(at("gone")).unwrap();
    let want = [
        ("/a", Modified),
        ("/a/b", Modified),
        ("/a/c", Deleted),
        ("/etc", Modified),
        ("/etc/passwd", Added),
        ("/f", Modified),
        ("/f/new", Added),
        ("/g", Modified),
        ("/g/h", Deleted),
        ("/g/i", Modified),
        ("/usr", Added),
    ];
    assert_eq!(list(), want.map(|(path, kind)| (path.to_owned(), kind)).into());
}

#[test]
fn privileged_a_name_that_would_hide_another_is_no_part_of_a_layer() {
    let lab = Lab::new();
    let layer = lab.import(&base()).unwrap().chain_id;
    let key: ContainerKey = "c".parse().unwrap();
    lab.store.create_container(&key, &layer).unwrap();
    let root = lab.store.mount_rootfs(&[layer], &key).unwrap();
    fs::write(path_of(&root).join("a/.wh.b"), "").unwrap();
    let error = lab.store.diff(&key, &[]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    let error = error.downcast::<Error>().unwrap();
    assert!(matches!(error, Error::PackName { .. }), "{error:?}");
    // As files it goes out and in again.
    let mut archive = Vec::new();
    root.export().unwrap().read_to_end(&mut archive).unwrap();
    let copy = tempfile::tempdir_in("/var/tmp").unwrap();
    let copy = Rootfs::from_fd(fs::File::open(copy.path()).unwrap().into());
    copy.copy_in("/", &*archive, &Limits::default(), &NO_WATCH).unwrap();
    assert!(copy.stat("a/.wh.b").unwrap().is_some() && copy.stat("a/b").unwrap().is_some());
}

#[test]
fn privileged_copies_keep_to_their_directory_and_to_kinds() {
    let lab = Lab::new();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::create_dir_all(dir.path().join("root/to/sub")).unwrap();
    fs::create_dir_all(dir.path().join("root/real")).unwrap();
    fs::write(dir.path().join("secret"), "host").unwrap();
    std::os::unix::fs::symlink("../../secret", dir.path().join("root/to/out")).unwrap();
    std::os::unix::fs::symlink("sub", dir.path().join("root/to/link")).unwrap();
    let root = Rootfs::from_fd(fs::File::open(dir.path().join("root")).unwrap().into());
    let copy = |tar: Tar| root.copy_in("to", &*tar.end(), &Limits::default(), &NO_WATCH);
    copy(Tar::new().file("out", "replaced").dir("link").file("link/x", "x").dir("sub")).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "host");
    assert_eq!(fs::read_to_string(dir.path().join("root/to/out")).unwrap(), "replaced");
    assert_eq!(fs::read_to_string(dir.path().join("root/to/sub/x")).unwrap(), "x");
    for tar in [Tar::new().file("sub", ""), Tar::new().dir("out")] {
        let error = copy(tar).unwrap_err();
        let replaces = tare_storage::Refusal::Replaces;
        assert!(matches!(error, Error::Refused { source, .. } if source == replaces), "{error:?}");
    }
    assert!(dir.path().join("root/to/sub/x").exists());

    let mut out = Vec::new();
    root.copy_out("/to/sub").unwrap().unwrap().read_to_end(&mut out).unwrap();
    let names = |bytes: &[u8]| -> Vec<String> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap();
        entries.map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
    };
    assert_eq!(names(&out), ["sub/", "sub/x"]);
    let mut out = Vec::new();
    root.copy_out("to/out").unwrap().unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(names(&out), ["out"]);
    assert_eq!(out.len() % 512, 0);
    assert!(root.copy_out("nowhere").unwrap().is_none());
    drop(lab);
}

/// Something a process may do.
#[derive(Clone, Debug)]
enum Act {
    Write(String, u8),
    Remove(String),
    Directory(String),
    Link(String, String),
    HardLink(String, String),
    Rename(String, String),
    Mode(String, u32),
    Recreate(String),
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof!["[aceg]", "[acg]/[bchin]", "a/c/[dn]", "[fgn]"].prop_map(|path| path)
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (path(), any::<u8>()).prop_map(|(path, byte)| Act::Write(path, byte)),
        path().prop_map(Act::Remove),
        path().prop_map(Act::Directory),
        (path(), path()).prop_map(|(path, target)| Act::Link(path, target)),
        (path(), path()).prop_map(|(path, target)| Act::HardLink(path, target)),
        (path(), path()).prop_map(|(from, to)| Act::Rename(from, to)),
        (path(), 0_u32..0o1000).prop_map(|(path, mode)| Act::Mode(path, mode)),
        path().prop_map(Act::Recreate),
    ]
}

/// Does it, or not if it is not possible.
fn perform(root: &Path, act: &Act) {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let at = |path: &String| root.join(path);
    let remove = |path: &String| {
        let _ = fs::remove_file(at(path)).or_else(|_| fs::remove_dir_all(at(path)));
    };
    let plain = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_symlink());
    let _ = match act {
        Act::Write(path, byte) => match fs::symlink_metadata(at(path)) {
            Ok(meta) if !meta.is_file() => Ok(()),
            _ => fs::write(at(path), [*byte; 7]),
        },
        Act::Remove(path) => {
            remove(path);
            Ok(())
        }
        Act::Directory(path) => fs::create_dir(at(path)),
        Act::Link(path, target) => symlink(target, at(path)),
        Act::HardLink(path, target) => fs::hard_link(at(target), at(path)),
        Act::Rename(from, to) => fs::rename(at(from), at(to)),
        Act::Mode(path, mode) if plain(&at(path)) => {
            fs::set_permissions(at(path), fs::Permissions::from_mode(*mode))
        }
        Act::Mode(..) => Ok(()),
        Act::Recreate(path) => {
            remove(path);
            fs::create_dir(at(path))
        }
    };
}

/// What two whole walks say changed; the content of what was deleted or is gone is not listed.
fn naive(before: &Path, after: &Path) -> BTreeMap<String, ChangeKind> {
    let (before, after) = (tree(before), tree(after));
    let mut changes = BTreeMap::new();
    for (path, line) in &after {
        let path = path.strip_prefix(".").unwrap().display().to_string();
        match before.get(&PathBuf::from(".").join(&path)) {
            _ if path.is_empty() => {}
            None => drop(changes.insert(format!("/{path}"), ChangeKind::Added)),
            Some(old) if old != line => {
                changes.insert(format!("/{path}"), ChangeKind::Modified);
            }
            Some(_) => {}
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        let parent = path.parent().unwrap();
        // Listed where the directory is still one.
        if after.get(parent).is_some_and(|line| line.starts_with('4')) {
            let path = path.strip_prefix(".").unwrap().display().to_string();
            changes.insert(format!("/{path}"), ChangeKind::Deleted);
        }
    }
    changes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn privileged_whatever_a_container_does_comes_out_as_a_layer(
        acts in proptest::collection::vec(act(), 1..25),
    ) {
        let lab = Lab::new();
        let layer = lab.import(&base()).unwrap().chain_id;
        let key: ContainerKey = "c".parse().unwrap();
        lab.store.create_container(&key, &layer).unwrap();
        let root = lab.store.mount_rootfs(&[layer], &key).unwrap();
        for act in &acts {
            perform(&path_of(&root), act);
        }
        let now = tree(&path_of(&root));

        let image = Rootfs::from_fd(lab.store.mount_layers(&[layer]).unwrap());
        let changes = lab.store.changes(&[layer], &key, &[]).unwrap();
        let changes = sorted(changes.collect::<Result<_, _>>().unwrap());
        let wanted = naive(&path_of(&image), &path_of(&root));
        // Copied up by an act that changed nothing, a file is listed all the same.
        let extra = changes.iter().filter(|(path, kind)| wanted.get(*path) != Some(kind));
        for (path, kind) in extra {
            let same = now.get(&Path::new(".").join(&path[1..]));
            let below = tree(&path_of(&image)).get(&Path::new(".").join(&path[1..])).cloned();
            let untouched = below.is_some() && same == below.as_ref();
            prop_assert!(*kind == ChangeKind::Modified && untouched, "{path} {kind:?} {acts:?}");
        }
        for (path, kind) in &wanted {
            prop_assert_eq!(changes.get(path), Some(kind), "{} {:?}", path, acts);
        }

        let committed = lab
            .store
            .commit(&[layer], &key, &[], Compression::Zstd, &NO_WATCH)
            .unwrap();
        let stack = [layer, committed.layer.chain_id];
        let mounted = Rootfs::from_fd(lab.store.mount_layers(&stack).unwrap());
        let again = tree(&path_of(&mounted));
        prop_assert!(again == now, "committed: {}{acts:?}", difference(&again, &now));

        let copy = tempfile::tempdir_in("/var/tmp").unwrap();
        let applied = Rootfs::from_fd(fs::File::open(copy.path()).unwrap().into());
        applied.apply(image.export().unwrap(), &Limits::default(), &NO_WATCH).unwrap();
        applied
            .apply(lab.store.diff(&key, &[]).unwrap(), &Limits::default(), &NO_WATCH)
            .unwrap();
        let again = tree(copy.path());
        prop_assert!(again == now, "applied: {}{acts:?}", difference(&again, &now));
    }
}

/// Who reads a root has a mount of their own, and is in nobody's way.
#[test]
fn privileged_a_root_is_read_while_it_is_written_to() {
    let lab = Lab::new();
    let layer = lab.import(&base()).unwrap().chain_id;
    let key: ContainerKey = "c".parse().unwrap();
    assert!(matches!(lab.store.mount_to_read(&[layer], &key), Err(Error::NoContainer { .. })));
    lab.store.create_container(&key, &layer).unwrap();
    let written = lab.store.mount_rootfs(&[layer], &key).unwrap();
    fs::write(path_of(&written).join("e"), "changed").unwrap();
    fs::remove_file(path_of(&written).join("a/b")).unwrap();
    let read = lab.store.mount_to_read(&[layer], &key).unwrap();
    assert_eq!(read.read_file("e", 100).unwrap().unwrap(), b"changed");
    assert_eq!(read.read_file("a/b", 100).unwrap(), None, "it is hidden");
    assert_eq!(read.read_file("a/c/d", 100).unwrap().unwrap(), b"2");
    let error = fs::write(path_of(&read).join("new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let flags = rustix::fs::fstatvfs(&read).unwrap().f_flag;
    let safe = rustix::fs::StatVfsMountFlags::NOSUID | rustix::fs::StatVfsMountFlags::NODEV;
    assert!(flags.contains(safe), "{flags:?}");
    // And the other goes on.
    fs::write(path_of(&written).join("new"), "x").unwrap();
    drop((written, read));
    let again = lab.store.mount_rootfs(&[layer], &key).unwrap();
    assert_eq!(again.read_file("new", 100).unwrap().unwrap(), b"x");
}
