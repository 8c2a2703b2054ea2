//! Trees in and out: against what was there, against GNU tar, and against a naive model.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use tare_storage::{Devices, Limits, Rootfs};

use crate::fixture::{Lab, Tar};
use crate::pictures::{difference, tree};

/// A file of some kind, with all that may be special about it.
#[derive(Clone, Debug)]
struct Node {
    path: String,
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    time: (i64, u32),
    xattr: Option<Vec<u8>>,
    size: usize,
}

fn node() -> impl Strategy<Value = Node> {
    let name = prop_oneof!["[a-c]{1,2}", "\\.wh\\.[a-b]", "[a-z]{90,130}", "\u{e9}[ \n]x"];
    let path = proptest::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let big = prop_oneof![0_u32..3, Just(2_097_152), Just(u32::MAX - 1)];
    let time = (-5_i64..5_000_000_000, prop_oneof![Just(0_u32), 0..1_000_000_000_u32]);
    let xattr = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let size = prop_oneof![0_usize..3, 500..520_usize, Just(200_000)];
    (path, 0_u8..8, 0_u32..0o10000, (big.clone(), big), time, xattr, size).prop_map(
        |(path, kind, mode, owner, time, xattr, size)| Node {
            path,
            kind,
            mode,
            owner,
            time,
            xattr,
            size,
        },
    )
}

fn make(top: &Path, node: &Node, earlier: &[Node]) {
    let path = top.join(&node.path);
    if fs::create_dir_all(path.parent().unwrap()).is_err() || fs::symlink_metadata(&path).is_ok() {
        return;
    }
    let device = |kind| {
        rustix::fs::mknodat(CWD, &path, kind, Mode::RUSR, rustix::fs::makedev(1, 3)).unwrap();
    };
    match node.kind {
        0 | 1 => fs::create_dir(&path).unwrap(),
        2 => symlink(format!("{}/../x", node.path), &path).unwrap(),
        3 => device(FileType::Fifo),
        4 => device(FileType::CharacterDevice),
        5 => {
            let mut target = earlier.iter().map(|other| top.join(&other.path));
            let plain =
                |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_dir());
            target.find(plain).map_or_else(
                || fs::write(&path, "").unwrap(),
                |t| fs::hard_link(t, &path).unwrap(),
            );
        }
        6 => {
            let mut file = fs::File::create(&path).unwrap();
            file.set_len(1 << 20).unwrap();
            file.write_all(&vec![b'x'; node.size]).unwrap();
        }
        _ => fs::write(&path, vec![b'y'; node.size]).unwrap(),
    }
}

fn attribute(top: &Path, node: &Node) {
    let path = top.join(&node.path);
    let Ok(meta) = fs::symlink_metadata(&path) else { return };
    std::os::unix::fs::lchown(&path, Some(node.owner.0), Some(node.owner.1)).unwrap();
    if !meta.is_symlink() {
        fs::set_permissions(&path, fs::Permissions::from_mode(node.mode)).unwrap();
    }
    if let (Some(value), true) = (&node.xattr, meta.is_file() || meta.is_dir()) {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&path, "user.x", value, flags).unwrap();
    }
}

fn set_time(top: &Path, node: &Node) {
    let time = Timespec { tv_sec: node.time.0, tv_nsec: node.time.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    let path = top.join(&node.path);
    let _ = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
}

fn root_of(path: &Path) -> Rootfs {
    Rootfs::from_fd(fs::File::open(path).unwrap().into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn privileged_what_is_archived_and_unpacked_is_the_same(
        nodes in proptest::collection::vec(node(), 1..25),
    ) {
        let lab = Lab::new();
        let source = tempfile::tempdir_in("/var/tmp").unwrap();
        for (nth, node) in nodes.iter().enumerate() {
            make(source.path(), node, &nodes[..nth]);
        }
        for node in &nodes {
            attribute(source.path(), node);
        }
        for node in &nodes {
            set_time(source.path(), node);
        }
        let want = tree(source.path());

        let root = root_of(source.path());
        let copy = tempfile::tempdir_in("/var/tmp").unwrap();
        let limits = Limits::default().with_devices(Devices::Make);
        let watch = |_| std::ops::ControlFlow::Continue(());
        let mut archive = Vec::new();
        root.export().unwrap().read_to_end(&mut archive).unwrap();
        root_of(copy.path()).copy_in("/", &*archive, &limits, &watch).unwrap();
        let mut got = tree(copy.path());
        // The directory copied into keeps its own attributes.
        got.insert(".".into(), want[Path::new(".")].clone());
        prop_assert!(got == want, "ours: {}", difference(&got, &want));

        // GNU tar reads it the same way.
        let other = tempfile::tempdir_in("/var/tmp").unwrap();
        gnu_extract(&archive, other.path());
        let got = tree(other.path());
        prop_assert!(got == want, "GNU: {}", difference(&got, &want));

        // And what it writes is read here, whichever way it writes holes.
        for format in [&["--format=gnu"][..], &["--format=posix"],
            &["--format=posix", "--sparse-version=0.1"], &["--format=posix", "--sparse-version=0.0"]]
        {
            let archive = gnu_create(source.path(), format);
            let hold = lab.store.hold();
            let layer = lab.store.unpack_layer(
                &[], &tare_storage::Digest::of(&archive), &*archive, &limits, &watch,
            );
            // Names of whiteouts hide nothing in a base layer, and are left out.
            let layer = match layer {
                Ok(layer) => layer,
                Err(tare_storage::Error::Refused { .. }) => continue,
                Err(error) => panic!("{format:?}: {error:?}"),
            };
            drop(hold);
            if nodes.iter().any(|node| node.path.contains(".wh.")) {
                continue;
            }
            let (mut got, mut want) = (tree(&lab.diff(&layer)), want.clone());
            want.values_mut().for_each(without_links_of_special_files);
            if format == ["--format=gnu"] {
                // It has no room for them.
                for lines in [&mut got, &mut want] {
                    for line in lines.values_mut() {
                        *line = without_exactness(line);
                    }
                }
            }
            prop_assert!(got == want, "from GNU {format:?}: {}", difference(&got, &want));
        }
    }
}

/// GNU tar writes pipes and devices down once for each of their names.
fn without_links_of_special_files(line: &mut String) {
    let mode = line.split(' ').next().unwrap_or_default();
    let is_special = mode.len() == 5 && mode.starts_with(['1', '2']);
    if let (true, Some(at)) = (is_special, line.find(" = ")) {
        line.truncate(at);
    }
}

/// A line of a picture without attributes and without parts of seconds.
fn without_exactness(line: &str) -> String {
    let words = line.split(' ').filter(|word| !word.contains("user.x="));
    let mut depth = 0;
    let kept = words.filter(|word| {
        // The bytes of an attribute go on to the closing bracket.
        let inside = depth > 0 || word.ends_with(',') || word.ends_with(']');
        depth = 0;
        !inside
    });
    let words = kept.map(|word| match word.split_once('.') {
        Some((seconds, rest)) if rest.len() == 9 => seconds,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

fn gnu_extract(archive: &[u8], into: &Path) {
    let mut tar = Command::new("tar")
        .args([
            "--extract",
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--same-permissions",
        ])
        .args(["--same-owner", "--warning=no-timestamp", "--directory"])
        .arg(into)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(tar.wait().unwrap().success());
}

fn gnu_create(from: &Path, more: &[&str]) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.args(["--create", "--numeric-owner", "--sparse", "--sort=name"]).args(more);
    if more[0] == "--format=posix" {
        command.args(["--xattrs", "--xattrs-include=user.*"]);
    }
    let output = command.arg("--directory").arg(from).arg(".").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A root in memory, as a process inside sees it. It knows nothing of descriptors, and little else.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<Vec<String>, Thing>);

#[derive(Clone, Debug, PartialEq)]
enum Thing {
    Directory,
    File(String),
    Link(String),
}

impl Model {
    /// The directory a path leads to, made where it is missing; `None` if something is in the way.
    fn directory(&mut self, path: &[String], depth: u32) -> Option<Vec<String>> {
        let mut here: Vec<String> = Vec::new();
        for (nth, part) in path.iter().enumerate() {
            if part == ".." {
                here.pop();
                continue;
            }
            let next = [&here[..], std::slice::from_ref(part)].concat();
            match self.0.get(&next) {
                Some(Thing::Directory) => here = next,
                Some(Thing::File(_)) => return None,
                Some(Thing::Link(target)) => {
                    let start = if target.starts_with('/') { Vec::new() } else { here };
                    let rest = target.split('/').filter(|part| !matches!(*part, "" | "."));
                    let mut whole: Vec<String> = start;
                    whole.extend(rest.map(String::from));
                    whole.extend_from_slice(&path[nth + 1..]);
                    if depth > 30
                        || !self.exists(&whole[..whole.len() - (path.len() - nth - 1)], depth + 1)
                    {
                        return None;
                    }
                    return self.directory(&whole, depth + 1);
                }
                None => {
                    self.0.insert(next.clone(), Thing::Directory);
                    here = next;
                }
            }
        }
        Some(here)
    }

    fn exists(&self, path: &[String], depth: u32) -> bool {
        let mut copy = self.clone();
        copy.directory(path, depth).is_some() && copy == *self
    }

    /// Puts something there as an archive does; whether that is possible.
    fn put(&mut self, path: &str, thing: Thing) -> bool {
        let parts: Vec<String> = path.split('/').map(String::from).collect();
        let (name, parent) = parts.split_last().unwrap();
        let Some(parent) = self.directory(parent, 0) else { return false };
        let place = [&parent[..], std::slice::from_ref(name)].concat();
        if thing == Thing::Directory && self.0.get(&place) == Some(&Thing::Directory) {
            return true;
        }
        self.0.retain(|path, _| !path.starts_with(&place));
        // What made room may be what the way led through.
        if self.directory(&parts[..parts.len() - 1], 0).as_ref() != Some(&parent) {
            return false;
        }
        self.0.insert(place, thing);
        true
    }

    fn of(top: &Path) -> Self {
        let mut model = Self::default();
        for path in tree(top).into_keys().filter(|path| path.as_os_str() != ".") {
            let parts = path.strip_prefix(".").unwrap().iter();
            let parts = parts.map(|part| part.to_string_lossy().into_owned()).collect();
            let full = top.join(&path);
            let meta = fs::symlink_metadata(&full).unwrap();
            model.0.insert(
                parts,
                if meta.is_dir() {
                    Thing::Directory
                } else if meta.is_symlink() {
                    Thing::Link(fs::read_link(full).unwrap().display().to_string())
                } else {
                    Thing::File(fs::read_to_string(full).unwrap())
                },
            );
        }
        model
    }
}

fn entry() -> impl Strategy<Value = (String, Thing)> {
    let path = proptest::collection::vec("[ab]", 1..4).prop_map(|parts| parts.join("/"));
    let target = prop_oneof![
        proptest::collection::vec("a|b|\\.\\.", 1..4).prop_map(|parts| parts.join("/")),
        proptest::collection::vec("a|b|\\.\\.", 1..3)
            .prop_map(|parts| format!("/{}", parts.join("/"))),
        Just("../../../outside".to_owned()),
    ];
    let thing = prop_oneof![
        Just(Thing::Directory),
        "[xy]".prop_map(Thing::File),
        target.prop_map(Thing::Link),
    ];
    (path, thing)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn privileged_paths_lead_where_a_naive_model_says_and_never_out(
        entries in proptest::collection::vec(entry(), 1..8),
    ) {
        let world = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::create_dir_all(world.path().join("outside/a/b")).unwrap();
        fs::create_dir(world.path().join("root")).unwrap();
        let outside = tree(&world.path().join("outside"));
        let mut model = Model::default();
        let mut archive = Tar::new();
        let mut possible = true;
        for (path, thing) in &entries {
            archive = match thing {
                Thing::Directory => archive.dir(path),
                Thing::File(text) => archive.file(path, text),
                Thing::Link(target) => archive.symlink(path, target),
            };
            possible = possible && model.put(path, thing.clone());
        }
        let root = root_of(&world.path().join("root"));
        let watch = |_| std::ops::ControlFlow::Continue(());
        let result = root.apply(&*archive.end(), &Limits::default(), &watch);
        prop_assert_eq!(tree(&world.path().join("outside")), outside, "{:?}", entries);
        prop_assert_eq!(fs::read_dir(world.path()).unwrap().count(), 2);
        if possible {
            result.unwrap();
            let got = Model::of(&world.path().join("root"));
            prop_assert_eq!(got, model, "{:?}", entries);
        }
    }
}

/// What GNU tar makes of an archive is what comes out here: of two directories of this host, which
/// are as real as any.
#[test]
fn privileged_a_real_tree_is_unpacked_as_gnu_tar_does() {
    let lab = Lab::new();
    let archive = Command::new("tar")
        .args(["--create", "--format=posix", "--xattrs", "--xattrs-include=*", "--acls"])
        .args([
            "--numeric-owner",
            "--sparse",
            "--one-file-system",
            "--directory=/",
            "etc",
            "usr/sbin",
        ])
        .output()
        .unwrap();
    // Somebody may be writing there meanwhile: then the archive is as good as any other.
    assert!(archive.status.code().is_some_and(|code| code < 2));
    let layer = lab.import(&archive.stdout).unwrap();
    let other = tempfile::tempdir_in("/var/tmp").unwrap();
    gnu_extract(&archive.stdout, other.path());
    let (mut got, want) = (tree(&lab.diff(&layer)), tree(other.path()));
    for made_up in [".", "./usr"] {
        got.insert(made_up.into(), want[Path::new(made_up)].clone());
    }
    assert!(got == want, "{}", difference(&got, &want));
    assert!(got.len() > 100, "{}", got.len());
}
