//! Devices of the host that a container may use, and rules for those it may make itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cgroup::DeviceRule;
use crate::effective::Effective;
use crate::facts::{HostFacts, Placement};
use crate::mount::MountTarget;
use crate::request::Privileged;
use crate::resources::DeviceNumber;
use crate::text::{AbsolutePath, InvalidText, Problem, string_form, word_type};
use crate::user::MAX_ID;

word_type! {
    /// What kind of device.
    DeviceKind, "kind of device",
    /// Bytes one after the other.
    #[default]
    "c" => Character,
    /// Blocks in any order.
    "b" => Block,
}

/// What may be done with a device: any of `r` (read), `w` (write) and `m` (make a node of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceAccess(u8);

impl DeviceAccess {
    /// Everything, which is what podman gives.
    pub const ALL: Self = Self(7);

    /// The letters in their usual order.
    pub const fn as_str(self) -> &'static str {
        ["", "r", "w", "rw", "m", "rm", "wm", "rwm"][self.0 as usize & 7]
    }
}

impl Default for DeviceAccess {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromStr for DeviceAccess {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = InvalidText::new("device access", Problem::Form("is not of r, w and m"));
        let bit = |letter| match letter {
            'r' => Some(1),
            'w' => Some(2),
            'm' => Some(4),
            _ => None,
        };
        let bits = text.chars().try_fold(0_u8, |bits, letter| {
            bit(letter).filter(|bit| bits & bit == 0).map(|bit| bits | bit)
        });
        bits.filter(|bits| *bits != 0).map(Self).ok_or(invalid)
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

string_form!(DeviceAccess);

/// A device of the host, as it was when it was opened and looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct DeviceRequest {
    /// Where it is on the host.
    pub path: AbsolutePath,
    /// Where it is in the container.
    pub target: MountTarget,
    /// Its kind.
    pub kind: DeviceKind,
    /// Its number.
    pub number: DeviceNumber,
    /// What may be done with it.
    #[serde(default)]
    pub access: DeviceAccess,
    /// Permission bits of its node, as on the host.
    pub mode: u32,
    /// Owner of its node, as on the host.
    #[serde(rename = "UID")]
    pub uid: u32,
    /// Group of its node, as on the host.
    #[serde(rename = "GID")]
    pub gid: u32,
}

impl DeviceRequest {
    /// A device that is used in all ways, at the same place as on the host, by root.
    ///
    /// # Errors
    /// When the path is none that the container may have a device on.
    pub fn new(
        path: AbsolutePath,
        kind: DeviceKind,
        number: DeviceNumber,
    ) -> Result<Self, InvalidText> {
        let target = path.as_str().parse()?;
        let access = DeviceAccess::ALL;
        Ok(Self { path, target, kind, number, access, mode: 0o600, uid: 0, gid: 0 })
    }

    /// Whether its numbers can be.
    pub(crate) fn is_possible(&self) -> bool {
        self.number.is_possible()
            && self.mode <= 0o777
            && self.uid <= MAX_ID
            && self.gid <= MAX_ID
            && self.target.as_str().starts_with("/dev/")
    }
}

/// A rule of the device cgroup, as in `c 189:* rwm`; `a` stands for both kinds, `*` for any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceCgroupRule {
    kind: Option<DeviceKind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: DeviceAccess,
}

impl FromStr for DeviceCgroupRule {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = InvalidText::new("device rule", Problem::Form("is not like c 189:* rwm"));
        let number = |text: &str, limit: u32| match text {
            "*" => Some(None),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|number| *number < limit).map(Some)
            }
            _ => None,
        };
        let words: Vec<&str> = text.split(' ').collect();
        let [kind, numbers, access] = words[..] else { return Err(invalid) };
        let kind = if kind == "a" { None } else { Some(kind.parse().map_err(|_| invalid)?) };
        let (major, minor) = numbers.split_once(':').ok_or(invalid)?;
        Ok(Self {
            kind,
            major: number(major, 1 << 12).ok_or(invalid)?,
            minor: number(minor, 1 << 20).ok_or(invalid)?,
            access: access.parse().map_err(|_| invalid)?,
        })
    }
}

impl fmt::Display for DeviceCgroupRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = self.kind.map_or("a", DeviceKind::as_str);
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

string_form!(DeviceCgroupRule);

impl From<DeviceCgroupRule> for DeviceRule {
    fn from(rule: DeviceCgroupRule) -> Self {
        Self {
            allow: true,
            kind: rule.kind.map_or(Some("a"), |kind| Some(kind.as_str())),
            major: rule.major,
            minor: rule.minor,
            access: rule.access.as_str(),
        }
    }
}

/// An entry of `linux.devices`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OciDevice<'a> {
    path: &'a str,
    #[serde(rename = "type")]
    kind: DeviceKind,
    major: u32,
    minor: u32,
    file_mode: u32,
    uid: u32,
    gid: u32,
}

/// The nodes to make: what was asked for, CDI's, and for a privileged container the host's, each
/// place once.
pub(crate) fn devices<'a>(
    effective: &'a Effective,
    host: &'a HostFacts,
    placement: &'a Placement,
) -> Vec<OciDevice<'a>> {
    let mut list: Vec<OciDevice<'a>> = Vec::new();
    for device in granted(effective, host, placement) {
        if list.iter().all(|other| other.path != device.target.as_str()) {
            list.push(OciDevice {
                path: device.target.as_str(),
                kind: device.kind,
                major: device.number.major,
                minor: device.number.minor,
                file_mode: device.mode,
                uid: device.uid,
                gid: device.gid,
            });
        }
    }
    list
}

fn granted<'a>(
    effective: &'a Effective,
    host: &'a HostFacts,
    placement: &'a Placement,
) -> impl Iterator<Item = &'a DeviceRequest> {
    let privileged = effective.request.privileged == Privileged::Yes;
    let all = privileged.then_some(&host.devices).into_iter().flatten();
    effective.request.devices.iter().chain(&placement.cdi.devices).chain(all)
}

/// What may be used: nothing, but for the few that runtimes add themselves (`null`, `zero`, `full`,
/// `random`, `urandom`, `tty`, terminals); then what was asked for.
pub(crate) fn rules(effective: &Effective, placement: &Placement) -> Vec<DeviceRule> {
    let access = DeviceAccess::ALL.as_str();
    let all = |allow| DeviceRule { allow, kind: None, major: None, minor: None, access };
    if effective.request.privileged == Privileged::Yes {
        return vec![all(true)];
    }
    let one = |device: &DeviceRequest| DeviceRule {
        allow: true,
        kind: Some(device.kind.as_str()),
        major: Some(device.number.major),
        minor: Some(device.number.minor),
        access: device.access.as_str(),
    };
    let devices = effective.request.devices.iter().chain(&placement.cdi.devices).map(one);
    let rules = effective.request.device_cgroup_rules.iter().copied().map(DeviceRule::from);
    [all(false)].into_iter().chain(devices).chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_and_rules() {
        for (text, want) in [
            ("r", Some("r")),
            ("mrw", Some("rwm")),
            ("", None),
            ("rr", None),
            ("x", None),
            ("rwm ", None),
        ] {
            let got = text.parse::<DeviceAccess>().ok().map(DeviceAccess::as_str);
            assert_eq!(got, want, "{text:?}");
        }
        for good in ["c 189:* rwm", "b 8:0 r", "a *:* m", "c 4095:1048575 w"] {
            assert_eq!(good.parse::<DeviceCgroupRule>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "c",
            "c 1 r",
            "c 1:2",
            "u 1:2 r",
            "c 1:2 x",
            "c -1:2 r",
            "c 4096:0 r",
            "c 1:2 r ",
            "c  1:2 r",
            "c 1:2 r\nc 1:3 r",
            "c +1:2 r",
        ] {
            assert!(bad.parse::<DeviceCgroupRule>().is_err(), "{bad:?}");
        }
    }
}
