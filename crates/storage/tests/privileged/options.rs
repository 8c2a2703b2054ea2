//! Roots that are read-only, volatile, or of other owners.

use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tare_storage::{ContainerKey, Durability, Error, MountAccess, NewEntry, RootOptions, Rootfs};

use crate::fixture::{Lab, Tar, small_root};

/// A user namespace in which root is [`FIRST`](Self::FIRST) of the host.
pub(crate) struct Users {
    namespace: OwnedFd,
    keeper: Child,
}

impl Users {
    pub(crate) const FIRST: u32 = 100_000;
    /// Who root of the host is there.
    const NOBODY: u32 = u32::MAX - 1;

    pub(crate) fn new() -> Self {
        let mut keeper = Command::new("unshare")
            .args(["--user", "--", "sh", "-c", "echo; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(keeper.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let process = PathBuf::from(format!("/proc/{}", keeper.id()));
        for map in ["uid_map", "gid_map"] {
            // What is made in the name of root of the host belongs to somebody who is nobody.
            let map_of_root = format!("{} 0 1", Self::NOBODY);
            fs::write(process.join(map), format!("0 {} 65536\n{map_of_root}", Self::FIRST))
                .unwrap();
        }
        Self { namespace: fs::File::open(process.join("ns/user")).unwrap().into(), keeper }
    }
}

impl AsFd for Users {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn at(root: &Rootfs, path: &str) -> PathBuf {
    Path::new(&format!("/proc/self/fd/{}", root.as_fd().as_raw_fd())).join(path)
}

#[test]
fn privileged_a_root_may_be_for_reading_only() {
    let lab = Lab::new();
    let layer = lab.import(&small_root()).unwrap().chain_id;
    let key: ContainerKey = "c".parse().unwrap();
    lab.store.create_container(&key, &layer).unwrap();
    let options = RootOptions::new().with_access(MountAccess::ReadOnly);
    let root = lab.store.mount_rootfs_with(&[layer], &key, &options).unwrap();
    let error = fs::write(at(&root, "new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let image = Rootfs::from_fd(lab.store.mount_layers(&[layer]).unwrap());
    let error = fs::write(at(&image, "new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn privileged_a_volatile_root_mounts_again_in_this_boot_and_not_after_another() {
    let lab = Lab::new();
    let layer = lab.import(&small_root()).unwrap().chain_id;
    let key: ContainerKey = "c".parse().unwrap();
    lab.store.create_container(&key, &layer).unwrap();
    let volatile = RootOptions::new().with_durability(Durability::Volatile);
    let mount = |options: &RootOptions<'_>| lab.store.mount_rootfs_with(&[layer], &key, options);
    let mark = lab.path("containers/c/work/work/incompat/volatile");
    let note = lab.path("containers/c/volatile-boot");
    for round in 0..2 {
        fs::write(at(&mount(&volatile).unwrap(), &format!("file{round}")), "").unwrap();
        assert!(mark.exists());
    }
    // As if the host had gone down since.
    fs::write(&note, "another boot").unwrap();
    for options in [&volatile, &RootOptions::new()] {
        let error = mount(options).unwrap_err();
        assert!(matches!(error, Error::DataMayBeLost { .. }), "{error:?}");
        assert_eq!(error.to_string(), "data of container c may be lost");
    }
    assert!(matches!(lab.store.make_durable(&key), Err(Error::DataMayBeLost { .. })));
    lab.store.accept_loss(&key).unwrap();
    assert!(mount(&RootOptions::new()).unwrap().stat("file1").unwrap().is_some());
    // Flushed in good order, it mounts whatever happens.
    drop(mount(&volatile).unwrap());
    lab.store.make_durable(&key).unwrap();
    assert!(!mark.exists() && !note.exists());
    mount(&RootOptions::new()).unwrap();
}

#[test]
fn privileged_owners_in_a_root_are_mapped_and_on_disk_they_are_not() {
    let lab = Lab::new();
    let base = lab.import(&small_root()).unwrap().chain_id;
    let over = Tar::new().file("over", "").end();
    let over = crate::layers::over(&lab, &[base], &over).unwrap().chain_id;
    let key: ContainerKey = "c".parse().unwrap();
    lab.store.create_container(&key, &over).unwrap();
    let users = Users::new();
    let options = RootOptions::new().with_users(users.as_fd());
    let root = match lab.store.mount_rootfs_with(&[base, over], &key, &options) {
        Err(Error::Unsupported { needs: "Linux 6.15", .. }) => {
            let release = rustix::system::uname().release().to_string_lossy().into_owned();
            let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
            assert!((numbers.next(), numbers.next()) < (Some(6), Some(15)), "{release}");
            return;
        }
        root => root.unwrap(),
    };
    for path in ["etc/passwd", "over", "."] {
        assert_eq!(fs::metadata(at(&root, path)).unwrap().uid(), Users::FIRST, "{path}");
    }
    // What root of the container makes or takes is on disk as in an image; the layers are untouched.
    let own = |path: &str, uid| {
        std::os::unix::fs::chown(at(&root, path), Some(Users::FIRST + uid), Some(Users::FIRST))
    };
    own("etc/passwd", 7).unwrap();
    own(".", 5).unwrap();
    let new = NewEntry { uid: Users::FIRST, gid: Users::FIRST + 8, mode: 0o640 };
    root.make_file("new", new, b"x").unwrap();
    root.make_symlink_of("link", "new", (Users::FIRST, Users::FIRST)).unwrap();
    root.remove("over").unwrap();
    let on_disk = |path: &str| {
        let meta = fs::symlink_metadata(lab.path("containers/c/upper").join(path)).unwrap();
        (meta.uid(), meta.gid())
    };
    for (path, want) in [("etc/passwd", (7, 0)), ("", (5, 0)), ("new", (0, 8)), ("link", (0, 0))] {
        assert_eq!(on_disk(path), want, "{path:?}");
    }
    assert_eq!(
        fs::metadata(lab.path("layers").join(base.hex()).join("diff/etc")).unwrap().uid(),
        0
    );
    drop(root);
    let plain = lab.store.mount_to_read(&[base, over], &key).unwrap();
    let stat = plain.stat("etc/passwd").unwrap().unwrap();
    assert_eq!((stat.uid, plain.stat("over").unwrap()), (7, None));
    let again = lab.store.mount_rootfs_with(&[base, over], &key, &options).unwrap();
    assert_eq!(fs::metadata(at(&again, ".")).unwrap().uid(), Users::FIRST + 5);
    drop(again);
    for layers in [&[base][..], &[base, over]] {
        let of_users = RootOptions::new().with_users(users.as_fd());
        let image = lab.store.mount_layers_with(layers, &of_users).unwrap();
        let meta = fs::metadata(at(&Rootfs::from_fd(image), "etc")).unwrap();
        assert_eq!(meta.uid(), Users::FIRST, "{layers:?}");
        let part = lab.store.mount_layers_with(layers, &of_users).unwrap();
        let part = lab.store.mount_part(part, "etc").unwrap().unwrap();
        let part = Rootfs::from_fd(part);
        assert_eq!(fs::metadata(at(&part, "passwd")).unwrap().uid(), Users::FIRST, "{layers:?}");
    }
}
