use super::*;
use crate::remove::Removed;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

/// A directory with a root in it and a secret beside that.
fn world() -> (tempfile::TempDir, Rootfs) {
    let world = tempfile::tempdir().unwrap();
    let root = world.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(world.path().join("secret"), "host").unwrap();
    let fd = fs::File::open(&root).unwrap().into();
    (world, Rootfs::from_fd(fd))
}

#[test]
fn links_end_at_the_root() {
    let (world, rootfs) = world();
    let root = world.path().join("root");
    fs::write(root.join("etc/passwd"), "inside").unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../../../../etc/passwd", root.join("up")).unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let read = |path: &str| rootfs.read_file(path, 100);
    for path in ["etc/passwd", "/etc/passwd", "../etc/passwd", "absolute", "up"] {
        assert_eq!(read(path).unwrap().as_deref(), Some(&b"inside"[..]), "{path}");
    }
    for path in ["out", "../secret", "nowhere", "etc/passwd/x", "no/where"] {
        assert_eq!(read(path).unwrap(), None, "{path}");
    }
    for path in ["loop", "", "a\0b"] {
        assert!(matches!(read(path), Ok(None) | Err(Error::ReadFile { .. })), "{path:?}");
    }
    assert!(matches!(read("loop"), Err(Error::ReadFile { .. })));
}

#[test]
fn only_regular_files_are_read_and_nothing_is_waited_for() {
    let (world, rootfs) = world();
    let root = world.path().join("root");
    let made = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(made.success());
    let _listener = UnixListener::bind(root.join("socket")).unwrap();
    for path in ["fifo", "socket", "etc", "/"] {
        let error = rootfs.read_file(path, 100).unwrap_err();
        assert!(matches!(error, Error::NotRegular { .. }), "{path}: {error:?}");
    }
}

#[test]
fn size_is_bounded_to_the_byte() {
    let (world, rootfs) = world();
    fs::write(world.path().join("root/five"), "12345").unwrap();
    assert_eq!(rootfs.read_file("five", 5).unwrap().as_deref(), Some(&b"12345"[..]));
    let error = rootfs.read_file("five", 4).unwrap_err();
    assert!(matches!(error, Error::FileTooLarge { max: 4, .. }), "{error:?}");
    // Files whose size is not known before they are read say 0.
    let proc = Rootfs::from_fd(fs::File::open("/proc/self").unwrap().into());
    let error = proc.read_file("status", 10).unwrap_err();
    assert!(matches!(error, Error::FileTooLarge { .. }), "{error:?}");
}

#[test]
fn directories_are_told_from_the_rest() {
    let (world, rootfs) = world();
    let root = world.path().join("root");
    fs::write(root.join("file"), "").unwrap();
    symlink("/etc", root.join("link")).unwrap();
    for (path, want) in
        [("etc", true), ("/", true), ("link", true), ("file", false), ("nowhere", false)]
    {
        assert_eq!(rootfs.is_dir(path).unwrap(), want, "{path}");
    }
}

/// Who runs the tests, so that they need not be root.
fn own(mode: u32) -> NewEntry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    NewEntry { uid, gid, mode }
}

#[test]
fn what_is_made_is_made_inside_whatever_links_say() {
    let (world, rootfs) = world();
    let root = world.path().join("root");
    symlink("/etc", root.join("absolute")).unwrap();
    symlink("../../../..", root.join("up")).unwrap();
    symlink("/nowhere", root.join("dangling")).unwrap();
    let is_new = |result: Result<Within, Error>| result.unwrap() == Within::Made;

    assert!(is_new(rootfs.make_directories("/absolute/a/b", own(0o751))));
    assert!(root.join("etc/a/b").is_dir());
    assert!(!is_new(rootfs.make_directories("absolute/a/b", own(0o700))), "kept as it is");
    assert!(is_new(rootfs.make_file("up/file", own(0o640), b"x")));
    assert_eq!(fs::read(root.join("file")).unwrap(), b"x");
    assert!(is_new(rootfs.make_symlink("absolute/link", "/secret")));
    let mode = |path: &str| {
        let meta = fs::metadata(root.join(path)).unwrap();
        std::os::unix::fs::MetadataExt::mode(&meta) & 0o7777
    };
    assert_eq!((mode("etc/a"), mode("etc/a/b"), mode("file")), (0o751, 0o751, 0o640));
    // What is there is neither replaced nor followed in the last place.
    for path in ["file", "dangling", "etc/link", "etc"] {
        assert!(!is_new(rootfs.make_file(path, own(0o644), b"other")), "{path}");
    }
    assert!(!world.path().join("root/nowhere").exists());
    assert_eq!(fs::read_to_string(world.path().join("secret")).unwrap(), "host");
    for path in ["dangling", "file", "file/x", "dangling/x"] {
        let error = rootfs.make_directory(path, own(0o755)).unwrap_err();
        assert!(matches!(error, Error::ChangeRoot { .. }), "{path}: {error:?}");
    }
    rootfs.set_owner_and_mode("absolute/a", own(0o700)).unwrap();
    assert_eq!(mode("etc/a"), 0o700);
}

#[test]
fn a_file_is_replaced_as_a_whole_and_nothing_else_is() {
    let (world, rootfs) = world();
    let root = world.path().join("root");
    symlink("../../secret", root.join("link")).unwrap();
    symlink("/etc", root.join("dir")).unwrap();
    fs::write(root.join("etc/passwd"), "old").unwrap();
    fs::hard_link(root.join("etc/passwd"), root.join("other")).unwrap();
    rootfs.set_owner_and_mode("etc/passwd", own(0o640)).unwrap();
    // What an earlier try may have left, and an image may have.
    fs::create_dir_all(root.join("etc/.tare-passwd/full")).unwrap();
    let put = |path: &str| rootfs.replace_file(path, own(0o604), b"new").unwrap();
    let mode = |path: &str| {
        let meta = fs::metadata(root.join(path)).unwrap();
        std::os::unix::fs::MetadataExt::mode(&meta) & 0o7777
    };
    for path in ["dir/passwd", "etc/new"] {
        assert_eq!(put(path), Some(Within::Made), "{path}");
    }
    for (path, bits) in [("etc/passwd", 0o640), ("etc/new", 0o604)] {
        assert_eq!((fs::read(root.join(path)).unwrap(), mode(path)), (b"new".to_vec(), bits));
    }
    assert_eq!(fs::read_to_string(root.join("other")).unwrap(), "old", "no other name of it");
    for path in ["link", "dir", "etc"] {
        assert_eq!(put(path), None, "{path}");
    }
    assert_eq!(fs::read_to_string(world.path().join("secret")).unwrap(), "host");
    assert!(rootfs.replace_file("no/where", own(0o644), b"").is_err());
    let long = "x".repeat(255);
    assert_eq!((put(&long), put(&long)), (Some(Within::Made), Some(Within::Made)));
    assert_eq!(rootfs.list("etc").unwrap().unwrap(), ["new", "passwd"], "nothing is left");
}

#[test]
fn what_is_removed_is_inside_and_links_go_themselves() {
    let (world, rootfs) = world();
    let root = world.path().join("root");
    fs::create_dir_all(root.join("etc/full/of")).unwrap();
    symlink("../../secret", root.join("link")).unwrap();
    symlink("..", root.join("up")).unwrap();
    for path in ["link", "/etc/full/"] {
        assert!(matches!(rootfs.remove(path).unwrap(), Removed::Tree { .. }), "{path}");
        assert_eq!(rootfs.remove(path).unwrap(), Removed::WasAbsent, "{path}");
    }
    assert_eq!(rootfs.remove("up/secret").unwrap(), Removed::WasAbsent);
    assert_eq!(rootfs.remove("no/where").unwrap(), Removed::WasAbsent);
    for path in ["", "/", ".", "..", "etc/..", "etc/."] {
        assert!(rootfs.remove(path).is_err(), "{path:?}");
    }
    assert_eq!(fs::read_to_string(world.path().join("secret")).unwrap(), "host");
    assert!(root.join("etc").is_dir());
}

#[test]
fn what_is_there_is_told_with_and_without_following() {
    let (world, rootfs) = world();
    let root = world.path().join("root");
    fs::write(root.join("etc/passwd"), "inside").unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    let kind = |stat: Result<Option<Stat>, Error>| stat.unwrap().map(|stat| stat.kind);
    assert_eq!(kind(rootfs.stat("link")), Some(Kind::Regular));
    assert_eq!(kind(rootfs.stat_link("link")), Some(Kind::Symlink));
    assert_eq!(kind(rootfs.stat("nowhere")), None);
    assert_eq!(rootfs.read_link("link").unwrap().unwrap(), "/etc/passwd");
    assert_eq!(rootfs.read_link("etc").unwrap(), None);
    assert_eq!(rootfs.list("/").unwrap().unwrap(), ["etc", "link"]);
    assert_eq!(rootfs.list("nowhere").unwrap(), None);
    assert!(rootfs.list("link").is_err());
    let below = rootfs.subdirectory("etc").unwrap().unwrap();
    assert_eq!(below.read_file("../../etc/passwd", 10).unwrap(), None, "a root of its own");
    assert_eq!(below.read_file("passwd", 10).unwrap().unwrap(), b"inside");
}

/// Any local user can rename files of their own as fast as they like.
#[test]
fn who_renames_in_a_loop_does_not_stop_a_link_from_being_followed() {
    let (world, rootfs) = world();
    let root = world.path().join("root");
    fs::write(root.join("etc/real"), "inside").unwrap();
    symlink(format!("{}real", "../etc/".repeat(20)), root.join("etc/passwd")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let (from, to) = (world.path().join(name), world.path().join(format!("{name}2")));
            fs::write(&from, "").unwrap();
            let done = &done;
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::rename(&from, &to).unwrap();
                    fs::rename(&to, &from).unwrap();
                }
            });
        }
        let read: Vec<_> = (0..2000).map(|_| rootfs.read_file("/etc/passwd", 100)).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for content in read {
            assert_eq!(content.unwrap().as_deref(), Some(&b"inside"[..]));
        }
    });
}
