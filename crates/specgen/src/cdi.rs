//! Devices by the names of the Container Device Interface, and what they bring along.
//!
//! The files are those of the [CDI](https://github.com/cncf-tags/container-device-interface)
//! specification, from directories that root alone can write to. They are never taken from an image
//! or an archive (CVE-2026-53492).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::device::{DeviceAccess, DeviceKind, DeviceRequest};
use crate::error::{Cause, Error};
use crate::hooks::{HookProgram, HookStage, OciHooks};
use crate::mount::{MountOption, MountRequest, MountSource, MountTarget};
use crate::resources::DeviceNumber;
use crate::text::{AbsolutePath, Argument, EnvVar, InvalidText, Problem, check_bytes, text_type};
use crate::user::MAX_ID;

/// Largest CDI file that is read, in bytes.
pub const MAX_CDI_FILE: usize = 1 << 20;

text_type! {
    /// Name of a device, `vendor.com/class=device`, at most 255 bytes.
    CdiName, "CDI device", |text| {
        check_bytes(text, 255, |_, byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b':' | b'/' | b'=')
        })?;
        let good = |part: &str, more: &[u8]| {
            let inner = |b: &u8| b.is_ascii_alphanumeric() || more.contains(b);
            part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
                && part.bytes().all(|b| inner(&b))
        };
        match text.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name))) {
            Some(((vendor, class), name))
                if good(vendor, b"_-.") && good(class, b"_-") && good(name, b"_-.:") => Ok(()),
            _ => Err(Problem::Form("is not like vendor.com/class=device")),
        }
    }
}

/// What the CDI devices of one container add to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CdiEdits {
    /// Variables.
    pub env: Vec<EnvVar>,
    /// Devices.
    pub devices: Vec<DeviceRequest>,
    /// Files and directories of the host.
    pub mounts: Vec<MountRequest>,
    /// Programs that the runtime runs.
    pub hooks: OciHooks,
    /// Groups for the first process.
    pub additional_gids: Vec<u32>,
    /// What else the files say is to be changed, by its name, and is not: nothing is known of it here.
    pub unknown: BTreeSet<String>,
}

/// A CDI file.
#[derive(Clone, Debug)]
pub struct CdiFile(File);

impl CdiFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Cdi`] when it is larger than [`MAX_CDI_FILE`], or is not as the specification says.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let broken = |source: Cause| Error::Cdi { device: String::new(), source };
        if json.len() > MAX_CDI_FILE {
            return Err(broken(wrong("is larger than 1 MiB").into()));
        }
        serde_json::from_slice(json).map(Self).map_err(|error| broken(error.into()))
    }
}

fn wrong(rule: &'static str) -> InvalidText {
    InvalidText::new("the CDI file", Problem::Form(rule))
}

impl CdiEdits {
    /// What these devices add. `files` are in order of rising preference: of two that know a
    /// device, the later one counts. `look` tells kind and number of a device of the host that a
    /// file does not give.
    ///
    /// # Errors
    /// [`Error::Cdi`] for a device that no file knows or that is not there.
    pub fn resolve(
        names: &[CdiName],
        files: &[CdiFile],
        look: impl Fn(&AbsolutePath) -> Option<(DeviceKind, DeviceNumber)>,
    ) -> Result<Self, Error> {
        let mut all = Self::default();
        let mut whole: Vec<&File> = Vec::new();
        for name in names {
            let failed = |rule| Error::Cdi {
                device: name.to_string(),
                source: InvalidText::new("it", Problem::Form(rule)).into(),
            };
            let (kind, device) = name.as_str().split_once('=').unwrap_or_default();
            let found = files.iter().rev().filter(|file| file.0.kind == kind).find_map(|file| {
                file.0.devices.iter().find(|d| d.name == device).map(|d| (&file.0, d))
            });
            let (file, device) = found.ok_or_else(|| failed("is in no file"))?;
            // What a file has for all of its devices is added once.
            if !whole.iter().any(|seen| std::ptr::eq::<File>(*seen, file)) {
                whole.push(file);
                all.add(&file.container_edits, &look).map_err(failed)?;
            }
            all.add(&device.container_edits, &look).map_err(failed)?;
        }
        Ok(all)
    }

    fn add(
        &mut self,
        edits: &Edits,
        look: impl Fn(&AbsolutePath) -> Option<(DeviceKind, DeviceNumber)>,
    ) -> Result<(), &'static str> {
        self.env.extend(edits.env.iter().cloned());
        self.unknown.extend(edits.unknown.keys().cloned());
        for node in &edits.device_nodes {
            self.devices.push(node.device(&look)?);
        }
        for mount in &edits.mounts {
            let source = MountSource::Host(mount.host_path.clone());
            let mut request = MountRequest::new(mount.container_path.clone(), source);
            request.options.clone_from(&mount.options);
            self.mounts.push(request);
        }
        for hook in &edits.hooks {
            let program = HookProgram {
                path: hook.path.clone(),
                args: hook.args.clone(),
                env: hook.env.clone(),
                timeout: hook.timeout,
            };
            self.hooks.add(hook.stage, program);
        }
        for gid in &edits.additional_gids {
            match gid {
                1..=MAX_ID => self.additional_gids.push(*gid),
                0 => {}
                _ => return Err("has a group above 2147483647"),
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<EnvVar>,
    device_nodes: Vec<Node>,
    mounts: Vec<Mount>,
    hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: MountTarget,
    host_path: Option<AbsolutePath>,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<u32>,
    minor: Option<u32>,
    file_mode: Option<u32>,
    permissions: Option<DeviceAccess>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Node {
    fn device(
        &self,
        look: impl Fn(&AbsolutePath) -> Option<(DeviceKind, DeviceNumber)>,
    ) -> Result<DeviceRequest, &'static str> {
        let path = self.host_path.clone().or_else(|| self.path.as_str().parse().ok());
        let path = path.ok_or("has a device without a path")?;
        let kind = match self.kind.as_deref() {
            Some("c" | "u") => Some(DeviceKind::Character),
            Some("b") => Some(DeviceKind::Block),
            Some("") | None => None,
            Some(_) => return Err("has a node that is no device"),
        };
        let said = kind.zip(self.major).zip(self.minor);
        let (kind, number) = match said {
            Some(((kind, major), minor)) => (kind, DeviceNumber { major, minor }),
            None => look(&path).ok_or("has a device that the host does not have")?,
        };
        let device = DeviceRequest {
            path,
            target: self.path.clone(),
            kind,
            number,
            access: self.permissions.unwrap_or_default(),
            mode: self.file_mode.unwrap_or(0o666) & 0o777,
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        };
        if device.is_possible() { Ok(device) } else { Err("has a device that cannot be") }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    host_path: AbsolutePath,
    container_path: MountTarget,
    #[serde(default)]
    options: Vec<MountOption>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hook {
    #[serde(rename = "hookName")]
    stage: HookStage,
    path: AbsolutePath,
    #[serde(default)]
    args: Vec<Argument>,
    #[serde(default)]
    env: Vec<EnvVar>,
    timeout: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"cdiVersion":"0.6.0","kind":"vendor.com/gpu","containerEdits":{
        "env":["ALL=1"]},"devices":[{"name":"0","containerEdits":{"env":["GPU=0"],
        "deviceNodes":[{"path":"/dev/gpu0","type":"c","major":195,"minor":0,"permissions":"rw"},
            {"path":"/dev/gpuctl","hostPath":"/dev/vendor/ctl"}],
        "mounts":[{"hostPath":"/usr/lib/x.so","containerPath":"/usr/lib/x.so","options":["ro"]}],
        "hooks":[{"hookName":"createContainer","path":"/usr/bin/ldconfig","args":["ldconfig"]}],
        "additionalGids":[0,44]}},{"name":"1"}]}"#;

    fn resolve(names: &[&str], files: &[&str]) -> Result<CdiEdits, String> {
        let names: Vec<CdiName> = names.iter().map(|name| name.parse().unwrap()).collect();
        let files: Vec<_> =
            files.iter().map(|file| CdiFile::parse(file.as_bytes()).unwrap()).collect();
        let look = |path: &AbsolutePath| {
            let number = DeviceNumber { major: 10, minor: 7 };
            (path.as_str() == "/dev/vendor/ctl").then_some((DeviceKind::Character, number))
        };
        CdiEdits::resolve(&names, &files, look).map_err(|error| error.to_string())
    }

    #[test]
    fn devices_and_what_they_bring() {
        let edits = resolve(&["vendor.com/gpu=0", "vendor.com/gpu=1"], &[FILE]).unwrap();
        let env: Vec<_> = edits.env.iter().map(EnvVar::as_str).collect();
        assert_eq!(env, ["ALL=1", "GPU=0"], "what is for all is there once");
        let numbers: Vec<_> = edits.devices.iter().map(|d| d.number.to_string()).collect();
        assert_eq!(numbers, ["195:0", "10:7"]);
        assert_eq!(edits.devices[0].access.as_str(), "rw");
        assert_eq!((edits.mounts.len(), edits.additional_gids.as_slice()), (1, &[44][..]));
        assert!(!edits.hooks.is_empty_for_runtime());
        let other = FILE.replace("GPU=0", "GPU=other");
        let edits = resolve(&["vendor.com/gpu=0"], &[FILE, &other]).unwrap();
        assert_eq!(edits.env[1].as_str(), "GPU=other", "the later file counts");
        assert!(resolve(&["vendor.com/gpu=2"], &[FILE]).unwrap_err().contains("vendor.com/gpu=2"));
        assert!(edits.unknown.is_empty());
        let later = FILE
            .replace("\"additionalGids\"", "\"netDevices\":[{\"hostInterfaceName\":\"x\"}],\"x\"");
        let edits = resolve(&["vendor.com/gpu=0"], &[&later]).unwrap();
        let unknown: Vec<_> = edits.unknown.iter().map(String::as_str).collect();
        assert_eq!(unknown, ["netDevices", "x"], "what is not done is known");
        let absent = FILE.replace("/dev/vendor/ctl", "/dev/vendor/none");
        assert!(resolve(&["vendor.com/gpu=0"], &[&absent]).is_err());
    }

    #[test]
    fn names_and_broken_files() {
        for good in ["vendor.com/gpu=0", "a/b=all", "nvidia.com/gpu=GPU-1:2.3"] {
            assert!(good.parse::<CdiName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "gpu",
            "vendor.com/gpu",
            "vendor.com=0",
            "/gpu=0",
            "a/b=",
            "a/b=-",
            "a/../b=c",
            "a/b=c d",
            "a/b=c\n",
            "a/b=c=d",
        ] {
            assert!(bad.parse::<CdiName>().is_err(), "{bad:?}");
        }
        for bad in [
            "",
            "{}",
            &FILE.replace("/dev/gpu0", "/proc/x"),
            &FILE.replace("GPU=0", "GPU"),
            &FILE.replace("\"ro\"", "\"nonsense\""),
            &FILE.replace("createContainer", "now"),
        ] {
            assert!(CdiFile::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
