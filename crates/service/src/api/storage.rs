//! What is mounted in a container, and devices it is given.

use tare_specgen::{AbsolutePath, MountOption, MountRequest, MountSource, MountTarget};

use super::error::ApiError;
use super::options::Options;
use super::text::{list, parsed, text, wrong};
use super::value::FdOrText;
use crate::engine::{AskedDevice, AskedMount, AskedSource, AskedVolume};

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

/// Option `Mounts` of `CreateContainer`.
pub(super) fn mounts(o: &mut Options) -> Result<Vec<AskedMount>, ApiError> {
    o.dictionaries("Mounts")?.into_iter().map(one_mount).collect()
}

fn one_mount(mut o: Options) -> Result<AskedMount, ApiError> {
    let (source, image) = (o.fd_or_text("Source")?, o.string("Image")?);
    let sub_path = text(&mut o, "SubPath")?;
    if sub_path.is_some() && source.is_some() {
        return Err(wrong(&o.name("SubPath"), &"is of images and volumes: open what is wanted"));
    }
    let name = o.name("Source");
    let source = match (source, image) {
        (Some(FdOrText::Fd(fd)), None) => AskedSource::Open(fd),
        (Some(FdOrText::Text(path)), None) => AskedSource::Path(parsed(&name, &path)?),
        (None, Some(name)) => AskedSource::Image { name, sub_path },
        _ => return Err(wrong(&name, &"either it or Image is needed")),
    };
    let asked = AskedMount {
        source,
        target: needed(&mut o, "Target")?,
        access: o.boolean("ReadOnly")?.unwrap_or_default().into(),
        options: list(&mut o, "Options")?.unwrap_or_default(),
    };
    let name = o.name("Options");
    o.finish()?;
    let checked = match asked.source {
        AskedSource::Image { .. } => check_options_of_image(&asked.options),
        _ => check_options_of_bind(&asked.options),
    };
    checked.map_err(|problem| wrong(&name, &problem))?;
    Ok(asked)
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

/// What a volume is bound with is a mount of its own that belongs to nobody else: nothing spreads to it
/// or from it.
fn check_options(options: &[MountOption]) -> Result<(), &'static str> {
    if is_any(options, &["slave", "rslave"]) {
        Err("nothing can be mounted from outside into a volume")
    } else {
        check_options_of_bind(options)
    }
}

fn check_options_of_bind(options: &[MountOption]) -> Result<(), &'static str> {
    if is_any(options, &["shared", "rshared"]) {
        Err("nothing can be mounted out of a container")
    } else if is_any(options, &["unbindable", "runbindable"]) {
        Err("what is bound into a container can be bound in it")
    } else if is_any(options, &["idmap"]) {
        Err("owners are not mapped")
    } else {
        Ok(())
    }
}

fn check_options_of_image(options: &[MountOption]) -> Result<(), &'static str> {
    if is_any(options, &["dev", "suid"]) {
        return Err("device nodes and set-user-ID programs of an image have no effect");
    }
    if is_any(options, &["z", "Z"]) {
        return Err("files of an image are not labelled");
    }
    check_options(options)
}

fn is_any(options: &[MountOption], words: &[&str]) -> bool {
    options.iter().any(|it| words.contains(&it.to_string().split('=').next().unwrap_or_default()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::value::Value;
    use std::collections::{BTreeMap, HashMap};

    fn read(pairs: &[(&str, Value)]) -> Result<Vec<AskedMount>, ApiError> {
        let copy = |value: &Value| match value {
            Value::Text(text) => Value::Text(text.clone()),
            Value::List(list) => Value::List(
                list.iter()
                    .map(|it| {
                        if let Value::Text(text) = it {
                            Value::Text(text.clone())
                        } else {
                            panic!()
                        }
                    })
                    .collect(),
            ),
            _ => panic!("{value:?}"),
        };
        let map: BTreeMap<String, Value> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), copy(value))).collect();
        let mut o = Options::new(HashMap::from([(
            "Mounts".to_owned(),
            Value::List(vec![Value::Map(map)]),
        )]));
        mounts(&mut o)
    }

    fn words(words: &[&str]) -> Value {
        Value::List(words.iter().map(|word| Value::Text((*word).into())).collect())
    }

    #[test]
    fn a_mount_has_one_source_and_options_that_have_an_effect() {
        let host = || ("Source", Value::from("/srv"));
        let image = || ("Image", Value::from("debian"));
        let target = || ("Target", Value::from("/x"));
        for good in [
            vec![host(), target()],
            vec![image(), target()],
            vec![
                host(),
                target(),
                ("Options", words(&["ro", "rslave", "z", "nosymfollow", "suid"])),
            ],
            vec![image(), target(), ("Options", words(&["ro", "noexec"]))],
            vec![image(), target(), ("Options", words(&["rw"]))],
            vec![image(), target(), ("SubPath", Value::from("usr/share"))],
        ] {
            assert!(read(&good).is_ok(), "{good:?}");
        }
        for (bad, at) in [
            (vec![target()], "Mounts[0].Source"),
            (vec![host(), image(), target()], "Mounts[0].Source"),
            (vec![("Source", Value::from("srv")), target()], "Mounts[0].Source"),
            (vec![("Source", Value::from("/a/../b")), target()], "Mounts[0].Source"),
            (vec![host()], "Mounts[0].Target"),
            (vec![host(), ("Target", Value::from("/sys/x"))], "Mounts[0].Target"),
            (vec![host(), target(), ("Options", words(&["rshared"]))], "Mounts[0].Options"),
            (vec![host(), target(), ("Options", words(&["idmap"]))], "Mounts[0].Options"),
            (vec![image(), target(), ("Options", words(&["suid"]))], "Mounts[0].Options"),
            (vec![image(), target(), ("Options", words(&["z"]))], "Mounts[0].Options"),
            (vec![host(), target(), ("SubPath", Value::from("a"))], "Mounts[0].SubPath"),
            (vec![image(), target(), ("SubPath", Value::from("/a"))], "Mounts[0].SubPath"),
            (vec![image(), target(), ("SubPath", Value::from("a/../b"))], "Mounts[0].SubPath"),
        ] {
            let error = read(&bad).unwrap_err();
            assert!(error.message().contains(at), "{bad:?}: {error:?}");
        }
    }
}
