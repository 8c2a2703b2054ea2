use super::*;
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
