//! Which namespaces a container has of its own, shares, or joins; see namespaces(7).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{CgroupMode, HostFacts, Placement};
use crate::request::{NetworkMode, Request};
use crate::text::{
    AbsolutePath, InvalidText, Problem, check_bytes, is_default, string_form, text_type, word_type,
};

text_type! {
    /// Id of another container: 64 hexadecimal digits in lower case.
    ContainerRef, "container id", |text| {
        check_bytes(text, 64, |_, byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))?;
        if text.len() == 64 { Ok(()) } else { Err(Problem::Form("does not have 64 digits")) }
    }
}

word_type! {
    /// One of the eight kinds; named as in the runtime-spec.
    NamespaceKind, "namespace",
    /// Process numbers.
    #[default]
    "pid" => Pid,
    /// System V IPC, POSIX message queues, `/dev/shm`.
    "ipc" => Ipc,
    /// Names of host and domain.
    "uts" => Uts,
    /// Mounts.
    "mount" => Mount,
    /// Network devices, addresses, ports.
    "network" => Network,
    /// Users, groups and capabilities.
    "user" => User,
    /// The view of the control groups.
    "cgroup" => Cgroup,
    /// The monotonic and the boot time clock.
    "time" => Time,
}

/// Where a namespace comes from: `private`, `host`, `container:<id>` or `ns:<path>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum NamespaceMode {
    /// A new one.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of another container, which must be running.
    Container(ContainerRef),
    /// The one that this file of the host stands for.
    Path(AbsolutePath),
}

impl FromStr for NamespaceMode {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "private" => Ok(Self::Private),
            None if text == "host" => Ok(Self::Host),
            Some(("container", id)) => id.parse().map(Self::Container),
            Some(("ns", path)) => path.parse().map(Self::Path),
            _ => Err(InvalidText::new(
                "namespace mode",
                Problem::Form("is none of: private host container:ID ns:PATH"),
            )),
        }
    }
}

impl fmt::Display for NamespaceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::Host => f.write_str("host"),
            Self::Container(id) => write!(f, "container:{id}"),
            Self::Path(path) => write!(f, "ns:{path}"),
        }
    }
}

string_form!(NamespaceMode);

/// The modes of all kinds but the network's, which has one more: see [`NetworkMode`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Namespaces {
    /// Process numbers.
    #[serde(rename = "PIDMode", skip_serializing_if = "is_default")]
    pub pid: NamespaceMode,
    /// System V IPC, message queues and `/dev/shm`.
    #[serde(rename = "IPCMode", skip_serializing_if = "is_default")]
    pub ipc: NamespaceMode,
    /// Name of the host.
    #[serde(rename = "UTSMode", skip_serializing_if = "is_default")]
    pub uts: NamespaceMode,
    /// Mounts; it cannot be the host's.
    #[serde(rename = "MountMode", skip_serializing_if = "is_default")]
    pub mount: NamespaceMode,
    /// Users and groups; the host's if nobody says otherwise.
    #[serde(rename = "UserNamespace", skip_serializing_if = "is_host")]
    pub user: NamespaceMode,
    /// View of the control groups.
    #[serde(rename = "CgroupMode", skip_serializing_if = "is_default")]
    pub cgroup: NamespaceMode,
    /// Clocks; the host's if nobody says otherwise.
    #[serde(rename = "TimeMode", skip_serializing_if = "is_host")]
    pub time: NamespaceMode,
}

fn is_host(mode: &NamespaceMode) -> bool {
    *mode == NamespaceMode::Host
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            pid: NamespaceMode::Private,
            ipc: NamespaceMode::Private,
            uts: NamespaceMode::Private,
            mount: NamespaceMode::Private,
            user: NamespaceMode::Host,
            cgroup: NamespaceMode::Private,
            time: NamespaceMode::Host,
        }
    }
}

impl Namespaces {
    /// The kinds with their modes, in the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = (NamespaceKind, &NamespaceMode)> {
        use NamespaceKind::{Cgroup, Ipc, Mount, Pid, Time, User, Uts};
        [
            (Pid, &self.pid),
            (Ipc, &self.ipc),
            (Uts, &self.uts),
            (Mount, &self.mount),
            (Cgroup, &self.cgroup),
            (User, &self.user),
            (Time, &self.time),
        ]
        .into_iter()
    }
}

impl Namespaces {
    fn of(&mut self, kind: NamespaceKind) -> Option<&mut NamespaceMode> {
        Some(match kind {
            NamespaceKind::Pid => &mut self.pid,
            NamespaceKind::Ipc => &mut self.ipc,
            NamespaceKind::Uts => &mut self.uts,
            NamespaceKind::Mount => &mut self.mount,
            NamespaceKind::Cgroup => &mut self.cgroup,
            NamespaceKind::User => &mut self.user,
            NamespaceKind::Time => &mut self.time,
            NamespaceKind::Network => return None,
        })
    }
}

impl Request {
    /// Which namespaces of which other containers the container shares.
    pub fn shares(&self) -> impl Iterator<Item = (NamespaceKind, &ContainerRef)> {
        let others = self.namespaces.iter().filter_map(|(kind, mode)| match mode {
            NamespaceMode::Container(id) => Some((kind, id)),
            _ => None,
        });
        let network = match &self.network_mode {
            NetworkMode::Container(id) => Some((NamespaceKind::Network, id)),
            _ => None,
        };
        others.chain(network)
    }

    /// Whom the container shares namespaces with: they have to run before it does.
    pub fn shares_with(&self) -> BTreeSet<&ContainerRef> {
        self.shares().map(|(_, id)| id).collect()
    }

    /// Which namespaces it is in that files of the host stand for.
    pub fn namespace_paths(&self) -> impl Iterator<Item = (NamespaceKind, &AbsolutePath)> {
        let others = self.namespaces.iter().filter_map(|(kind, mode)| match mode {
            NamespaceMode::Path(path) => Some((kind, path)),
            _ => None,
        });
        let network = match &self.network_mode {
            NetworkMode::Path(path) => Some((NamespaceKind::Network, path)),
            _ => None,
        };
        others.chain(network)
    }

    /// Has the container share a namespace of another one.
    pub fn share(&mut self, kind: NamespaceKind, other: ContainerRef) {
        match self.namespaces.of(kind) {
            Some(mode) => *mode = NamespaceMode::Container(other),
            None => self.network_mode = NetworkMode::Container(other),
        }
    }

    /// Whether the container gets a namespace of that kind that is its own, and may be shared. That of
    /// a network is made beforehand: with none, there is nothing to be shared.
    pub fn has_own(&self, kind: NamespaceKind) -> bool {
        match kind {
            NamespaceKind::Network => self.network_mode == NetworkMode::Private,
            kind => self
                .namespaces
                .iter()
                .any(|(its, mode)| its == kind && *mode == NamespaceMode::Private),
        }
    }
}

/// Follows a chain of containers that share a namespace to the one that has it.
///
/// `next` says whose namespace a container uses, if it is not its own.
///
/// # Errors
/// [`Error::Cycle`] when the chain comes back to where it was: no container has the namespace.
pub fn owner_of_shared(
    first: &ContainerRef,
    next: impl Fn(&ContainerRef) -> Option<ContainerRef>,
) -> Result<ContainerRef, Error> {
    let mut seen = BTreeSet::new();
    let mut at = first.clone();
    loop {
        let Some(further) = next(&at) else { return Ok(at) };
        if !seen.insert(at) {
            return Err(Error::Cycle { container: further.to_string() });
        }
        at = further;
    }
}

/// An entry of `linux.namespaces`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Namespace<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: NamespaceKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<&'a str>,
}

/// The namespaces of the container; what is not listed is the host's.
///
/// # Errors
/// [`Error::Namespace`] when a container whose namespace is to be joined is not known to run.
pub(crate) fn namespaces<'a>(
    effective: &'a Effective,
    host: &HostFacts,
    placement: &'a Placement,
) -> Result<Vec<Namespace<'a>>, Error> {
    let mut list = Vec::with_capacity(8);
    for (kind, mode) in effective.request.namespaces.iter() {
        // On version 1 the paths of all controllers would have to agree for one to be of use.
        let useless = kind == NamespaceKind::Cgroup && host.cgroup_mode == CgroupMode::V1;
        match mode {
            NamespaceMode::Host => {}
            NamespaceMode::Private | NamespaceMode::Container(_) if useless => {}
            NamespaceMode::Private => list.push(Namespace { kind, path: None }),
            NamespaceMode::Container(id) => {
                list.push(Namespace { kind, path: Some(joined(kind, id, &placement.joined)?) });
            }
            NamespaceMode::Path(path) => list.push(Namespace { kind, path: Some(path.as_str()) }),
        }
    }
    list.extend(network(effective, placement)?);
    Ok(list)
}

fn network<'a>(
    effective: &'a Effective,
    placement: &'a Placement,
) -> Result<Option<Namespace<'a>>, Error> {
    let kind = NamespaceKind::Network;
    let path = match &effective.request.network_mode {
        NetworkMode::Host => return Ok(None),
        NetworkMode::Private | NetworkMode::None => {
            placement.netns.as_ref().map(AbsolutePath::as_str)
        }
        NetworkMode::Container(id) => Some(joined(kind, id, &placement.joined)?),
        NetworkMode::Path(path) => Some(path.as_str()),
    };
    Ok(Some(Namespace { kind, path }))
}

fn joined<'a>(
    kind: NamespaceKind,
    id: &ContainerRef,
    known: &'a BTreeMap<NamespaceKind, AbsolutePath>,
) -> Result<&'a str, Error> {
    known
        .get(&kind)
        .map(AbsolutePath::as_str)
        .ok_or_else(|| Error::Namespace { kind, container: id.to_string() })
}

#[cfg(test)]
#[path = "namespace_tests.rs"]
mod tests;
