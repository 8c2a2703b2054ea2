//! What is mounted in a container, and devices it is given.

use tare_specgen::{AbsolutePath, MountOption, MountRequest, MountSource, MountTarget};

use super::error::ApiError;
use super::options::Options;
use super::text::{list, text, wrong};
use crate::engine::{AskedDevice, AskedVolume};

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

/// Option `Volumes` of `CreateContainer`.
pub(super) fn volumes(o: &mut Options) -> Result<Vec<AskedVolume>, ApiError> {
    o.dictionaries("Volumes")?.into_iter().map(volume).collect()
}

fn volume(mut o: Options) -> Result<AskedVolume, ApiError> {
    let asked = AskedVolume {
        name: text(&mut o, "Name")?,
        sub_path: text(&mut o, "SubPath")?,
        target: needed(&mut o, "Target")?,
        access: o.boolean("ReadOnly")?.unwrap_or_default().into(),
        options: list(&mut o, "Options")?.unwrap_or_default(),
    };
    let name = o.name("Options");
    o.finish()?;
    check_options(&asked.options).map_err(|problem| wrong(&name, &problem))?;
    Ok(asked)
}

/// What is bound into a container is a mount of its own that belongs to nobody else: nothing
/// spreads to it or from it.
fn check_options(options: &[MountOption]) -> Result<(), &'static str> {
    let is_any = |words: &[&str]| {
        options.iter().any(|it| words.contains(&it.to_string().split('=').next().unwrap_or("")))
    };
    if is_any(&["shared", "rshared", "slave", "rslave"]) {
        Err("nothing can be mounted from outside into a container, or out of it")
    } else if is_any(&["z", "Z"]) {
        Err("files are not labelled")
    } else if is_any(&["idmap"]) {
        Err("owners are not mapped")
    } else {
        Ok(())
    }
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
