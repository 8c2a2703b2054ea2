//! Roots as kernels before 6.13 mount them: every one that takes layers by descriptor is made to
//! refuse that, so this shows something on any kernel.
//!
//! The hook is the process's, since part of the work is done on another thread; so the tests of
//! this file take turns. They need root and the feature `fault`.

#![expect(
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::unwrap_used,
    reason = "all of this is a test"
)]

#[allow(dead_code, reason = "shared with the other tests, of which this needs a part")]
#[path = "privileged/fixture.rs"]
mod fixture;

use std::fmt::Display;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use fixture::{Lab, Tar, read};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use tare_storage::{ChainId, ContainerKey, Error, ErrorKind, fault};

static TURN: Mutex<()> = Mutex::new(());
/// How many steps may still go well; below zero all do.
static LEFT: AtomicI64 = AtomicI64::new(-1);
/// With which error layers by descriptor are refused.
static REFUSAL: AtomicI32 = AtomicI32::new(0);

/// A thread whose mounts are looked at while the overlay is mounted, and whether it was seen there.
static HOST: AtomicI32 = AtomicI32::new(0);
static SEEN: AtomicI32 = AtomicI32::new(0);

fn hook(step: &dyn Display) -> io::Result<()> {
    if step.to_string() == "copy the mount" {
        let table = format!("/proc/self/task/{}/mountinfo", HOST.load(Ordering::SeqCst));
        let seen = fs::read_to_string(table).unwrap_or_default().contains("overlay tare");
        SEEN.fetch_add(1 + i32::from(seen) * 1000, Ordering::SeqCst);
    }
    if step.to_string() == "set mount option lowerdir+ to a directory" {
        return Err(io::Error::from_raw_os_error(REFUSAL.load(Ordering::SeqCst)));
    }
    match LEFT.fetch_sub(1, Ordering::SeqCst) {
        0 => Err(Errno::IO.into()),
        _ => Ok(()),
    }
}

/// A turn on a kernel that gives this error: before 6.5 `OPNOTSUPP`, before 6.13 `INVAL`.
fn older_kernel(refusal: Errno) -> MutexGuard<'static, ()> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| fault::set_hook(hook));
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    REFUSAL.store(refusal.raw_os_error(), Ordering::SeqCst);
    turn
}

/// A container on `count` layers, each of which writes its number over that of the one below.
fn stack(lab: &Lab, count: usize) -> (Vec<ChainId>, ContainerKey) {
    let layer = |n: usize| {
        let archive = Tar::new().file("top", &n.to_string()).file(&format!("l{n}"), "").end();
        lab.import(&archive).unwrap().chain_id
    };
    let layers: Vec<_> = (0..count).map(layer).collect();
    let key = "c".parse().unwrap();
    lab.store.create_container(&key, &layers[count - 1]).unwrap();
    (layers, key)
}

fn path(fd: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

fn mount_table() -> String {
    read("/proc/self/mountinfo".as_ref())
}

#[test]
fn privileged_stacks_of_any_height_are_mounted_unseen() {
    let _turn = older_kernel(Errno::OPNOTSUPP);
    // One text for all layers takes the first two, the options of mount(2) the others.
    for count in [1, 10, 100, 500] {
        let lab = Lab::new();
        let (layers, key) = stack(&lab, count);
        let before = (mount_table(), std::env::current_dir().unwrap());
        let rootfs = lab.store.mount_rootfs(&layers, &key).unwrap();
        assert_eq!((mount_table(), std::env::current_dir().unwrap()), before, "{count}");

        let top = rootfs.read_file("top", 3).unwrap().unwrap();
        assert_eq!(String::from_utf8(top).unwrap(), (count - 1).to_string());
        assert_eq!(fs::read_dir(path(&rootfs)).unwrap().count(), count + 1);
        let flags = rustix::fs::fstatvfs(&rootfs).unwrap().f_flag;
        assert!(flags.contains(StatVfsMountFlags::NODEV), "{count}");
        assert!(!flags.contains(StatVfsMountFlags::NOSUID), "{count}");
        fs::write(path(&rootfs).join("top"), "new").unwrap();
        assert_eq!(read(&lab.path("containers/c/upper/top")), "new");
        drop(rootfs);

        let rootfs = lab.store.mount_rootfs(&layers, &key).unwrap();
        assert_eq!(rootfs.read_file("top", 3).unwrap().as_deref(), Some(&b"new"[..]));
    }
}

#[test]
fn privileged_nothing_propagates_to_a_host_with_shared_mounts() {
    let _turn = older_kernel(Errno::INVAL);
    std::thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare_mounts();
            // As systemd makes them.
            let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", shared).unwrap();
            let lab = Lab::new();
            let (layers, key) = stack(&lab, 100);
            HOST.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::SeqCst);
            SEEN.store(0, Ordering::SeqCst);
            lab.store.mount_rootfs(&layers, &key).unwrap();
            assert_eq!(SEEN.load(Ordering::SeqCst), 1, "looked once, seen nothing");
        });
        host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn unshare_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).unwrap();
}

#[test]
fn privileged_a_mount_can_be_attached() {
    let _turn = older_kernel(Errno::INVAL);
    for count in [10, 100] {
        let lab = Lab::new();
        let (layers, key) = stack(&lab, count);
        let at = lab.dir.path().join("at");
        fs::create_dir(&at).unwrap();
        let rootfs = lab.store.mount_rootfs(&layers, &key).unwrap();
        let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&rootfs, "", rustix::fs::CWD, &at, flags).unwrap();
        assert!(fs::exists(at.join("l0")).unwrap(), "{count}");
        rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn privileged_a_failed_mount_leaves_nothing() {
    let _turn = older_kernel(Errno::INVAL);
    for count in [2, 100] {
        let lab = Lab::new();
        let (layers, key) = stack(&lab, count);
        // The first mount makes overlayfs's own directory in the work directory, for good.
        lab.store.mount_rootfs(&layers, &key).unwrap();
        let before = (lab.picture(), mount_table(), descriptors());
        let mut steps = 0;
        loop {
            LEFT.store(steps, Ordering::SeqCst);
            let result = lab.store.mount_rootfs(&layers, &key);
            let reached = LEFT.swap(-1, Ordering::SeqCst) < 0;
            if !reached {
                result.unwrap();
                break;
            }
            let error = result.unwrap_err();
            assert!(matches!(error, Error::MountRootfs { .. }), "{error:?}");
            assert!((lab.picture(), mount_table(), descriptors()) == before, "step {steps}");
            steps += 1;
        }
        assert!(steps > 6, "{steps} steps");
    }
}

#[test]
fn privileged_what_cannot_be_mounted_is_said() {
    let _turn = older_kernel(Errno::INVAL);
    for count in [2, 100] {
        let lab = Lab::new();
        let (mut layers, key) = stack(&lab, count);
        let other = "other".parse().unwrap();
        let error = lab.store.mount_rootfs(&layers, &other).unwrap_err();
        assert!(matches!(error, Error::NoContainer { .. }), "{error:?}");
        let absent = layers[0].child(&tare_storage::Digest::of(b""));
        layers[0] = absent;
        let error = lab.store.mount_rootfs(&layers, &key).unwrap_err();
        assert!(matches!(error, Error::NoLayer { layer } if layer == absent), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
