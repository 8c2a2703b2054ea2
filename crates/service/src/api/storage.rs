//! What is mounted in a container, and devices it is given.

use tare_specgen::{AbsolutePath, MountRequest, MountSource, MountTarget};

use super::error::ApiError;
use super::options::Options;
use super::text::{list, text, wrong};
use crate::engine::AskedDevice;

/// Option `Tmpfs` of `CreateContainer`.
pub(super) fn tmpfs(o: &mut Options) -> Result<Vec<MountRequest>, ApiError> {
    o.dictionaries("Tmpfs")?.into_iter().map(one_tmpfs).collect()
}

fn one_tmpfs(mut o: Options) -> Result<MountRequest, ApiError> {
    let mount = mount(&mut o, MountSource::Tmpfs)?;
    o.finish()?;
    Ok(mount)
}

/// What mounts of all kinds have.
fn mount(o: &mut Options, source: MountSource) -> Result<MountRequest, ApiError> {
    let target: MountTarget = needed(o, "Target")?;
    let mut mount = MountRequest::new(target, source);
    mount.access = o.boolean("ReadOnly")?.unwrap_or_default().into();
    mount.options = list(o, "Options")?.unwrap_or_default();
    Ok(mount)
}

/// Option `Devices` of `CreateContainer`.
pub(super) fn devices(o: &mut Options) -> Result<Vec<AskedDevice>, ApiError> {
    o.dictionaries("Devices")?.into_iter().map(device).collect()
}

fn device(mut o: Options) -> Result<AskedDevice, ApiError> {
    let path: AbsolutePath = needed(&mut o, "Path")?;
    let name = o.name("Path");
    let asked = AskedDevice {
        target: text(&mut o, "Target")?,
        access: text(&mut o, "Access")?.unwrap_or_default(),
        path,
    };
    o.finish()?;
    if !asked.path.as_str().starts_with("/dev/") {
        return Err(wrong(&name, &"must be in /dev"));
    }
    Ok(asked)
}

fn needed<T>(o: &mut Options, key: &'static str) -> Result<T, ApiError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let name = o.name(key);
    text(o, key)?.ok_or_else(|| wrong(&name, &"is needed"))
}
