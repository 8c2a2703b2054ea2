//! What `--volume`, `--mount` and `--tmpfs` say, in podman's words.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use zbus::{Fd, Variant};

use crate::Failure;

/// One of the dictionaries of an option.
pub(crate) type Entry = HashMap<&'static str, Variant<'static>>;

/// A mount that was said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    kind: Kind,
    source: Option<String>,
    target: String,
    sub_path: Option<String>,
    options: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Volume,
    Bind,
    Image,
    Tmpfs,
}

impl Kind {
    /// The option of `CreateContainer` that has such mounts.
    fn option(self) -> &'static str {
        match self {
            Self::Volume => "Volumes",
            Self::Bind | Self::Image => "Mounts",
            Self::Tmpfs => "Tmpfs",
        }
    }
}

/// The options of `CreateContainer` that all these make. What is bound is opened here, as whoever
/// called, and handed over open.
pub(crate) fn options(
    volumes: &[String],
    mounts: &[String],
    tmpfs: &[String],
) -> Result<HashMap<&'static str, Vec<Entry>>, Failure> {
    let mut said: Vec<Said> = volumes.iter().map(|text| volume(text)).collect();
    for text in mounts {
        said.push(mount(text).map_err(|problem| Failure::Usage(format!("{text}: {problem}")))?);
    }
    said.extend(tmpfs.iter().map(|text| memory(text)));
    let mut rows: HashMap<_, Vec<Entry>> = HashMap::new();
    for said in said {
        rows.entry(said.kind.option()).or_default().push(entry(said)?);
    }
    Ok(rows)
}

fn entry(said: Said) -> Result<Entry, Failure> {
    let Said { kind, source, target, sub_path, options } = said;
    let mut entry = Entry::from([("Target", target.into()), ("Options", options.into())]);
    if let Some(source) = source {
        match kind {
            Kind::Volume => entry.insert("Name", source.into()),
            Kind::Image => entry.insert("Image", source.into()),
            Kind::Bind => entry.insert("Source", Variant::Fd(Fd::from(open(&source)?))),
            Kind::Tmpfs => None,
        };
    }
    if let Some(path) = sub_path {
        entry.insert("SubPath", path.into());
    }
    Ok(entry)
}

fn open(path: &str) -> Result<OwnedFd, Failure> {
    let opened = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|errno| Failure::io(format!("cannot open {path}"))(errno.into()))
}

/// `[SOURCE:]TARGET[:OPTION,...]`, where a source with a slash or point in front is of the host.
fn volume(text: &str) -> Said {
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    let (source, target, options) = match parts[..] {
        [source, target, options] => (Some(source), target, options),
        [source, target] if target.starts_with('/') => (Some(source), target, ""),
        [target, options] => (None, target, options),
        _ => (None, text, ""),
    };
    let is_of_host = source.is_some_and(|source| source.starts_with(['/', '.']));
    Said {
        kind: if is_of_host { Kind::Bind } else { Kind::Volume },
        source: source.map(Into::into),
        target: target.into(),
        options: words(options),
        sub_path: None,
    }
}

/// `TARGET[:OPTION,...]`.
fn memory(text: &str) -> Said {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    Said { kind: Kind::Tmpfs, target: target.into(), options: words(options), ..Said::default() }
}

fn words(options: &str) -> Vec<String> {
    options.split(',').filter(|word| !word.is_empty()).map(Into::into).collect()
}

/// `type=TYPE,source=SOURCE,destination=TARGET,OPTION,...`.
fn mount(text: &str) -> Result<Said, String> {
    let mut said = Said::default();
    for word in words(text) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (&*word, None),
        };
        match (key, value) {
            ("type", Some(kind)) => said.kind = kind_of(kind)?,
            ("source" | "src", Some(source)) => said.source = Some(source.into()),
            ("target" | "destination" | "dst", Some(target)) => said.target = target.into(),
            ("subpath" | "volume-subpath", Some(path)) => said.sub_path = Some(path.into()),
            _ => said.options.extend(option(key, value)?),
        }
    }
    let needs_source = matches!(said.kind, Kind::Bind | Kind::Image);
    if said.target.is_empty() {
        Err("destination= is needed".into())
    } else if needs_source && said.source.is_none() {
        Err("source= is needed".into())
    } else {
        Ok(said)
    }
}

fn kind_of(text: &str) -> Result<Kind, String> {
    match text {
        "volume" => Ok(Kind::Volume),
        "bind" => Ok(Kind::Bind),
        "image" => Ok(Kind::Image),
        "tmpfs" => Ok(Kind::Tmpfs),
        other => Err(format!("no type {other}: bind, volume, image or tmpfs")),
    }
}

/// A further word, as the service has it.
fn option(key: &str, value: Option<&str>) -> Result<Option<String>, String> {
    Ok(Some(match (key, value) {
        ("ro" | "readonly", None | Some("true")) => "ro".into(),
        ("ro" | "readonly" | "bind-nonrecursive", Some("false")) => return Ok(None),
        ("bind-nonrecursive", None | Some("true")) => "bind".into(),
        ("relabel", Some("shared")) => "z".into(),
        ("relabel", Some("private")) => "Z".into(),
        ("tmpfs-size" | "size", Some(size)) => format!("size={size}"),
        ("tmpfs-mode" | "mode", Some(mode)) => format!("mode={mode}"),
        ("bind-propagation", Some(word)) | (word, None) => word.into(),
        (key, Some(_)) => return Err(format!("no option {key}")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: Kind, source: Option<&str>, target: &str, options: &str) -> Said {
        let (source, target) = (source.map(Into::into), target.into());
        Said { kind, source, target, options: words(options), sub_path: None }
    }

    #[test]
    fn volumes_are_said_as_in_podman() {
        for (text, want) in [
            ("data:/data", said(Kind::Volume, Some("data"), "/data", "")),
            ("data:/data:ro,noexec", said(Kind::Volume, Some("data"), "/data", "ro,noexec")),
            ("/data", said(Kind::Volume, None, "/data", "")),
            ("/data:ro", said(Kind::Volume, None, "/data", "ro")),
            ("/srv:/data", said(Kind::Bind, Some("/srv"), "/data", "")),
            ("./a:/data:ro,z", said(Kind::Bind, Some("./a"), "/data", "ro,z")),
        ] {
            assert_eq!(volume(text), want, "{text}");
        }
        assert_eq!(memory("/tmp:size=64m"), said(Kind::Tmpfs, None, "/tmp", "size=64m"));
    }

    #[test]
    fn mounts_are_said_as_in_podman() {
        for (text, want) in [
            (
                "type=bind,source=/srv,destination=/data,ro",
                said(Kind::Bind, Some("/srv"), "/data", "ro"),
            ),
            (
                "type=bind,src=/srv,dst=/data,readonly=true,bind-propagation=rslave,relabel=shared",
                said(Kind::Bind, Some("/srv"), "/data", "ro,rslave,z"),
            ),
            (
                "type=bind,src=/srv,target=/data,ro=false,bind-nonrecursive,noexec",
                said(Kind::Bind, Some("/srv"), "/data", "bind,noexec"),
            ),
            ("source=v,target=/data", said(Kind::Volume, Some("v"), "/data", "")),
            ("type=volume,dst=/data", said(Kind::Volume, None, "/data", "")),
            ("type=image,src=debian,dst=/i", said(Kind::Image, Some("debian"), "/i", "")),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700",
                said(Kind::Tmpfs, None, "/t", "size=1m,mode=0700"),
            ),
        ] {
            assert_eq!(mount(text).unwrap(), want, "{text}");
        }
        let sub = mount("src=v,dst=/d,subpath=a/b").unwrap();
        assert_eq!(sub.sub_path.as_deref(), Some("a/b"));
        for bad in [
            "",
            "type=bind,dst=/d",
            "type=image,dst=/d",
            "type=bind,src=/s",
            "type=npipe,src=/s,dst=/d",
            "type=bind,src=/s,dst=/d,consistency=x",
            "type=bind,src=/s,dst=/d,ro=maybe",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }
}
