//! Mounts made of descriptors, attached and taken away again.

use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use tare_storage::{
    BindOptions, Detached, Error, ErrorKind, MountAccess, Pin, Propagation, TmpfsOptions, attach,
    bind, detach, mount_tmpfs,
};

use crate::options::Users;

fn inside(mount: &impl AsFd, path: &str) -> PathBuf {
    Path::new(&format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd())).join(path)
}

fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

#[test]
fn privileged_a_bind_has_the_attributes_it_is_given() {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
    let source = open(dir.path());
    let flags = |mount: &OwnedFd| fstatvfs(mount).unwrap().f_flag;
    let base = StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID;
    let plain = bind(source.as_fd(), &BindOptions::new()).unwrap();
    let seen = StatVfsMountFlags::NODEV
        | StatVfsMountFlags::NOSUID
        | StatVfsMountFlags::NOEXEC
        | StatVfsMountFlags::RDONLY;
    assert_eq!(flags(&plain) & seen, base);
    fs::write(inside(&plain, "new"), "").unwrap();
    let strict = BindOptions::new()
        .with_access(MountAccess::ReadOnly)
        .with_propagation(Propagation::Unbindable)
        .without_programs()
        .without_links();
    let strict = bind(source.as_fd(), &strict).unwrap();
    assert_eq!(flags(&strict) & seen, seen);
    let error = fs::write(inside(&strict, "new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(fs::read(inside(&strict, "link")).is_err() && fs::read(inside(&plain, "link")).is_ok());
    let loose = bind(source.as_fd(), &BindOptions::new().with_devices().with_setuid()).unwrap();
    assert_eq!(flags(&loose) & seen, StatVfsMountFlags::empty());
    // A single file, pinned before.
    let pin = Pin::of(open(&dir.path().join("file")).as_fd()).unwrap();
    let file = bind(pin.reopen().unwrap().as_fd(), &BindOptions::new()).unwrap();
    assert_eq!(
        fs::read(inside(&file, "")).unwrap_or_else(|_| fs::read(format!(
            "/proc/self/fd/{}",
            file.as_raw_fd()
        ))
        .unwrap()),
        b"x"
    );
}

#[test]
fn privileged_owners_are_mapped_as_the_user_namespace_does() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let users = Users::new();
    let mount =
        bind(open(dir.path()).as_fd(), &BindOptions::new().with_users(users.as_fd())).unwrap();
    assert_eq!(fs::metadata(inside(&mount, "file")).unwrap().uid(), Users::FIRST);
    // What is mapped already is not mapped again.
    let error = bind(mount.as_fd(), &BindOptions::new().with_users(users.as_fd())).unwrap_err();
    assert!(matches!(error, Error::Bind { .. }), "{error:?}");
}

#[test]
fn privileged_memory_is_limited_and_as_it_is_told() {
    let size = std::num::NonZeroU64::new(1 << 20).unwrap();
    let options = TmpfsOptions::new(size)
        .with_mode(0o750)
        .with_owner(5, 6)
        .with_inodes(std::num::NonZeroU64::new(10).unwrap());
    let mount = mount_tmpfs(&options).unwrap();
    let meta = fs::metadata(inside(&mount, ".")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o750, 5, 6));
    assert!(fs::write(inside(&mount, "big"), vec![0; 2 << 20]).is_err());
    let made = (0..20).filter(|n| fs::write(inside(&mount, &n.to_string()), "").is_ok()).count();
    assert!(made < 10, "{made}");
    let flags = fstatvfs(&mount).unwrap().f_flag;
    assert!(flags.contains(
        StatVfsMountFlags::NOEXEC | StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID
    ));
    let programs = mount_tmpfs(&TmpfsOptions::new(size).with_programs()).unwrap();
    assert!(!fstatvfs(&programs).unwrap().f_flag.contains(StatVfsMountFlags::NOEXEC));
}

#[test]
fn privileged_a_mount_is_attached_and_taken_away_and_who_uses_it_is_named() {
    // On a thread with mounts of its own, which the host does not see.
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = rustix::mount::MountPropagationFlags::PRIVATE
            | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::create_dir(dir.path().join("point")).unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let parent = open(dir.path());
        let size = std::num::NonZeroU64::new(1 << 20).unwrap();
        let mount = || mount_tmpfs(&TmpfsOptions::new(size)).unwrap();
        let point = "point".parse().unwrap();
        let none = Duration::ZERO;

        assert_eq!(detach(parent.as_fd(), &point, none).unwrap(), Detached::WasNotMounted);
        assert_eq!(
            detach(parent.as_fd(), &"absent".parse().unwrap(), none).unwrap(),
            Detached::WasNotMounted
        );
        attach(mount().as_fd(), parent.as_fd(), &point).unwrap();
        fs::write(dir.path().join("point/in-it"), "").unwrap();
        let user = fs::File::open(dir.path().join("point/in-it")).unwrap();
        let error = detach(parent.as_fd(), &point, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        let Error::Busy { holders, .. } = &error else { panic!("{error:?}") };
        assert!(holders.iter().any(|holder| holder.pid == std::process::id()), "{holders:?}");
        // Whoever lets go in time is waited for.
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(user);
        });
        let detached = detach(parent.as_fd(), &point, Duration::from_secs(20)).unwrap();
        assert_eq!(detached, Detached::Unmounted);
        release.join().unwrap();
        assert!(!dir.path().join("point/in-it").exists());
        // A link is neither mounted over nor unmounted through.
        let link = "link".parse().unwrap();
        let error = attach(mount().as_fd(), parent.as_fd(), &link).unwrap_err();
        assert!(matches!(error, Error::Attach { .. }), "{error:?}");
        attach(mount().as_fd(), parent.as_fd(), &"real".parse().unwrap()).unwrap();
        assert_eq!(detach(parent.as_fd(), &link, none).unwrap(), Detached::WasNotMounted);
        assert_eq!(
            detach(parent.as_fd(), &"real".parse().unwrap(), none).unwrap(),
            Detached::Unmounted
        );
        let _ = Errno::BUSY;
    })
    .join()
    .unwrap();
}
