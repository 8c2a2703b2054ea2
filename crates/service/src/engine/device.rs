//! Devices of the host that containers are given.
//!
//! A device is looked at once, when the container is made; what is written down is its number, so
//! that nothing which is put in its place later is handed out.

use std::fs::File;
use std::path::{Path, PathBuf};

use tare_specgen::{
    AbsolutePath, DeviceAccess, DeviceKind, DeviceNumber, DeviceRequest, MountTarget,
};
use tare_storage::{Kind, Rootfs, Stat};

use super::Error;

/// A device as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedDevice {
    /// Where it is on the host, in `/dev`.
    pub path: AbsolutePath,
    /// Where it is to be in the container; nothing: at the same place.
    pub target: Option<MountTarget>,
    /// What may be done with it.
    pub access: DeviceAccess,
}

/// The devices that are asked for, as they are now. Links are followed, but not out of `/dev`, and
/// no device is opened.
pub(super) fn look(asked: &[AskedDevice]) -> Result<Vec<DeviceRequest>, Error> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |source| Error::Host { what: "open /dev", source };
    let dev = Rootfs::from_fd(File::open("/dev").map_err(failed)?.into());
    asked.iter().map(|device| one(&dev, device)).collect()
}

/// Kind and number of a device in `/dev`, if there is one.
pub(super) fn number_of(path: &AbsolutePath) -> Option<(DeviceKind, DeviceNumber)> {
    let dev = Rootfs::from_fd(File::open("/dev").ok()?.into());
    let (kind, found) = find(&dev, path)?;
    let (major, minor) = found.node;
    Some((kind, DeviceNumber { major, minor }))
}

/// Directories of `/dev` in which nothing is that a container could use: it has its own of these.
const OWN: [&str; 5] = ["pts", "shm", "mqueue", "hugepages", "fd"];
/// More devices than this are none that a host has.
const MAX_DEVICES: usize = 4096;
/// So far are devices below `/dev`, as in `/dev/bus/usb/001/002`.
const MAX_DEPTH: usize = 4;

/// All devices of the host, for containers that may use any; but for its consoles, if the container runs
/// a service manager, which would start something on each.
pub(super) fn all(without_consoles: bool) -> Vec<DeviceRequest> {
    let Ok(dev) = File::open("/dev") else { return Vec::new() };
    let dev = Rootfs::from_fd(dev.into());
    let mut found = Vec::new();
    let mut directories = vec![(PathBuf::from("/dev"), 1)];
    while let Some((directory, depth)) = directories.pop() {
        // What goes meanwhile is not there.
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            let name = entry.file_name().into_string().unwrap_or_default();
            let is_own = depth == 1 && (OWN.contains(&&*name) || name == "console");
            match kind {
                _ if is_own || (without_consoles && is_console(&name)) => {}
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => {
                    directories.push((path, depth + 1));
                }
                Ok(kind) if kind.is_dir() || kind.is_symlink() => {}
                _ => found.extend(named(&dev, &path)),
            }
        }
    }
    found.sort_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
    found.truncate(MAX_DEVICES);
    found
}

/// As in `tty7`.
fn is_console(name: &str) -> bool {
    let number = name.strip_prefix("tty").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn named(dev: &Rootfs, path: &Path) -> Option<DeviceRequest> {
    let path: AbsolutePath = path.to_str()?.parse().ok()?;
    let target = path.as_str().parse().ok()?;
    let asked = AskedDevice { path, target: None, access: DeviceAccess::default() };
    let (kind, found) = find(dev, &asked.path)?;
    request(&asked, target, kind, &found)
}

fn find(dev: &Rootfs, path: &AbsolutePath) -> Option<(DeviceKind, Stat)> {
    let within = path.as_str().strip_prefix("/dev/")?;
    let found = dev.stat(within).ok().flatten()?;
    match found.kind {
        Kind::Character => Some((DeviceKind::Character, found)),
        Kind::Block => Some((DeviceKind::Block, found)),
        _ => None,
    }
}

fn one(dev: &Rootfs, asked: &AskedDevice) -> Result<DeviceRequest, Error> {
    let none = || Error::NoDevice(asked.path.clone());
    let (kind, found) = find(dev, &asked.path).ok_or_else(none)?;
    let target = match &asked.target {
        Some(target) => target.clone(),
        None => asked.path.as_str().parse().map_err(|_| none())?,
    };
    request(asked, target, kind, &found).ok_or_else(none)
}

fn request(
    asked: &AskedDevice,
    target: MountTarget,
    kind: DeviceKind,
    found: &Stat,
) -> Option<DeviceRequest> {
    let (major, minor) = found.node;
    let number = DeviceNumber { major, minor };
    // Which place it has is said below, and this one need not be a place for a device.
    let usual: AbsolutePath = "/dev/x".parse().ok()?;
    let mut device = DeviceRequest::new(usual, kind, number).ok()?;
    device.path = asked.path.clone();
    device.target = target;
    device.access = asked.access;
    (device.mode, device.uid, device.gid) = (found.mode & 0o777, found.uid, found.gid);
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    fn asked(path: &str) -> AskedDevice {
        let target = Some("/dev/x".parse().unwrap());
        AskedDevice { path: path.parse().unwrap(), target, access: "r".parse().unwrap() }
    }

    #[test]
    fn a_device_is_what_it_is_when_it_is_looked_at() {
        let found = look(&[asked("/dev/full")]).unwrap().remove(0);
        assert_eq!((found.number.major, found.number.minor), (1, 7));
        assert_eq!((found.kind, found.access.as_str()), (DeviceKind::Character, "r"));
        assert_eq!((found.path.as_str(), found.target.as_str()), ("/dev/full", "/dev/x"));
    }

    #[test]
    fn all_devices_are_known_but_for_those_of_terminals() {
        let found = all(false);
        let at = |path: &str| found.iter().find(|device| device.path.as_str() == path);
        for entry in std::fs::read_dir("/dev").unwrap().map(Result::unwrap) {
            let path = entry.path().to_str().unwrap().to_owned();
            let is_device = entry.file_type().unwrap().is_char_device();
            // Some are in every container: the runtime makes those.
            if is_device && path != "/dev/console" && path.parse::<MountTarget>().is_ok() {
                let number = entry.metadata().unwrap().rdev();
                let number = (rustix::fs::major(number), rustix::fs::minor(number));
                let found = at(&path).unwrap().number;
                assert_eq!((found.major, found.minor), number, "{path}");
            }
        }
        assert!(at("/dev/console").is_none());
        assert!(found.iter().all(|device| !device.path.as_str().starts_with("/dev/pts/")));
        for (name, want) in [("tty7", true), ("tty", false), ("ttyS0", false), ("full", false)] {
            assert_eq!(is_console(name), want, "{name}");
        }
    }

    #[test]
    fn what_is_no_device_or_not_in_dev_is_refused() {
        for path in ["/dev/no-such", "/dev/fd/0", "/dev/./..", "/etc/passwd", "/dev/pts"] {
            let Ok(path) = path.parse() else { continue };
            let asked = AskedDevice { path, ..asked("/dev/null") };
            assert!(
                matches!(look(std::slice::from_ref(&asked)), Err(Error::NoDevice(_))),
                "{asked:?}"
            );
        }
    }
}
