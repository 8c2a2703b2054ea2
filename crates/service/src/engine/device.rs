//! Devices of the host that containers are given.
//!
//! A device is looked at once, when the container is made; what is written down is its number, so
//! that nothing which is put in its place later is handed out.

use std::fs::File;

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
