//! What others may see of the engine's objects: immutable snapshots, replaced as a whole.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tare_netns::{
    InterfaceName, InvalidPort, MacAddress, NetworkName, PortRequest, Protocol, PublishedPort,
    Subnet,
};
use tare_runtime::{ContainerId, ContainerName};
use tare_specgen::{Resources, SecretName};
use tare_storage::{Digest, VolumeName};

use super::Health;
use super::checkpoint::{Changes, CheckpointId};
use super::clock::Usec;
use super::events::Event;
use super::lifecycle::Lifecycle;
use super::object::{Change, ObjectId, Seen};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum State {
    /// Made, and never started since the host booted.
    Configured,
    /// All of it is there, and its first process waits.
    Created,
    /// On the way to `Running`.
    Starting,
    /// Its first process runs.
    Running,
    /// All its processes are stopped where they are.
    Paused,
    /// On the way to `Exited`, because somebody asked.
    Stopping,
    /// It has ended.
    Exited,
    /// On the way out.
    Removing,
    /// It ended, but something of it could not be taken down.
    Broken,
}

impl State {
    /// The word for it on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Broken => "broken",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ExitReason {
    /// Its first process returned.
    Exited,
    /// Its first process was killed by a signal, and the kernel said so.
    Signaled,
    /// The kernel killed its processes because it had used up its memory.
    Oom,
    /// A checkpoint of it was taken, and it ended for that.
    Checkpointed,
    /// It never ran: the start failed.
    StartFailed,
    /// Its supervisor was killed, or the host went down, and nothing can tell any more.
    Lost,
}

impl ExitReason {
    /// The word for it on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signaled => "signaled",
            Self::Oom => "oom",
            Self::Checkpointed => "checkpointed",
            Self::StartFailed => "start-failed",
            Self::Lost => "lost",
        }
    }

    /// The reason of that word, as the database keeps it.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Exited, Self::Signaled, Self::Oom, Self::Checkpointed, Self::StartFailed, Self::Lost]
            .into_iter()
            .find(|reason| reason.as_str() == word)
    }
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As conmon counts: 128+n for signal n; -1 if nothing can tell.
    pub code: i32,
    /// The signal that killed it; 0 where there was none or it cannot be known.
    pub signal: i32,
    /// Why.
    pub reason: ExitReason,
}

impl Exit {
    /// Of a container that was made, and was never let run.
    pub(super) const NEVER_RAN: Self =
        Self { code: -1, signal: 0, reason: ExitReason::StartFailed };
}

/// The process a running container began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// In the host's numbering.
    pub pid: u32,
    /// Inode number of its pidfd, unique for the boot.
    pub pidfd_id: u64,
}

/// An address of a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The network it is an address of.
    pub network: NetworkName,
    /// Interface inside the container.
    pub interface: InterfaceName,
    /// With the length of the prefix.
    pub address: IpNet,
    /// The way out, if the network has one.
    pub gateway: Option<std::net::IpAddr>,
    /// Of the interface.
    pub mac: MacAddress,
}

/// Ports of a container that the host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The address of the host they are offered at; all if there is none.
    pub at: Option<std::net::IpAddr>,
    /// The first on the host; 0 while it is left open.
    pub host: u16,
    /// The first in the container.
    pub container: u16,
    /// How many in a row.
    pub count: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl Port {
    /// A request for them.
    ///
    /// # Errors
    ///
    /// [`InvalidPort`], if nobody can have published them.
    pub fn request(&self) -> Result<PortRequest, InvalidPort> {
        PortRequest::new(self.at, self.protocol, self.host, self.container, self.count)
    }
}

impl From<&PortRequest> for Port {
    fn from(port: &PortRequest) -> Self {
        Self {
            at: port.at(),
            host: port.host().unwrap_or(0),
            container: port.container(),
            count: port.count(),
            protocol: port.protocol(),
        }
    }
}

impl From<&PublishedPort> for Port {
    fn from(port: &PublishedPort) -> Self {
        Self {
            at: port.at(),
            host: port.host(),
            container: port.container(),
            count: port.count(),
            protocol: port.protocol(),
        }
    }
}

/// A container, as every local user may see it: nothing here is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Never changes.
    pub id: ContainerId,
    /// Counts the changes of what it is to be.
    pub revision: u64,
    /// Unique.
    pub name: ContainerName,
    /// What it was made from.
    pub image_id: Digest,
    /// As the creator named the image.
    pub image_reference: String,
    /// Who created it.
    pub owner_uid: u32,
    /// Whether its effective spec reaches the host.
    pub privileged: bool,
    /// Where it is in its life.
    pub state: State,
    /// Its first process, while it runs.
    pub process: Option<Process>,
    /// How it ended the last time.
    pub exit: Option<Exit>,
    /// When it was made.
    pub created: Usec,
    /// When it was last started; `None`: never.
    pub started: Option<Usec>,
    /// The same moment by `CLOCK_MONOTONIC`; `None` after a reboot.
    pub started_monotonic: Option<Usec>,
    /// When it last ended; `None` while it runs or never ran.
    pub finished: Option<Usec>,
    /// Whether it has a terminal of its own.
    pub terminal: bool,
    /// What follows its end.
    pub lifecycle: Lifecycle,
    /// The limits it was asked to have.
    pub limits: Resources,
    /// From its stop signal to SIGKILL, in microseconds, if that was asked for.
    pub stop_timeout_usec: Option<u64>,
    /// Whether it is well.
    pub health: Health,
    /// How often it was started by itself since somebody started it.
    pub restarts: u32,
    /// Below the cgroup2 root; empty while there is none.
    pub cgroup: String,
    /// Networks it is connected to.
    pub networks: Vec<NetworkName>,
    /// Addresses it has.
    pub addresses: Vec<Address>,
    /// Its ports that the host offers while it runs.
    pub ports: Vec<Port>,
    /// Labels whose prefix makes them public.
    pub public_labels: BTreeMap<String, String>,
    /// Jobs at work on it.
    pub jobs: Vec<u32>,
    /// Exec sessions it has.
    pub processes: Vec<u32>,
}

/// An image, as every local user may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of its configuration.
    pub id: Digest,
    /// Digests of the manifests it is known by, the one that came last first.
    pub digests: Vec<Digest>,
    /// Names it goes by.
    pub references: Vec<String>,
    /// As in the configuration.
    pub architecture: String,
    /// As in the configuration.
    pub os: String,
    /// As in the configuration; mostly empty.
    pub variant: String,
    /// When it was made, if it says so.
    pub created: Option<Usec>,
    /// When it came here.
    pub pulled: Usec,
    /// Bytes of unpacked content, with layers it shares.
    pub size: u64,
    /// How many layers.
    pub layers: u32,
    /// Containers made from it.
    pub containers: Vec<ContainerId>,
    /// Jobs at work on it.
    pub jobs: Vec<u32>,
    /// Labels whose prefix makes them public.
    pub public_labels: BTreeMap<String, String>,
}

/// What a network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NetworkDriver {
    /// A bridge of the host.
    Bridge,
    /// Interfaces on one of the host's.
    Macvlan,
}

impl NetworkDriver {
    /// The word for it on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
        }
    }
}

/// A network, as every local user may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Unique, and never changes.
    pub name: NetworkName,
    /// 64 hex digits.
    pub id: String,
    /// Who made it.
    pub owner_uid: u32,
    /// When.
    pub created: Usec,
    /// What it is made of.
    pub driver: NetworkDriver,
    /// The interface of the host it is on, once that is needed.
    pub interface: Option<InterfaceName>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// Whether nothing leaves it.
    pub internal: bool,
    /// Whether names of containers are answered on it.
    pub dns: bool,
    /// The containers that are on it, running or not.
    pub containers: Vec<ContainerId>,
    /// Labels whose prefix makes them public.
    pub public_labels: BTreeMap<String, String>,
}

/// What volumes are made by.
pub const VOLUME_DRIVER: &str = "local";

/// A volume, as every local user may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Unique, and never changes.
    pub name: VolumeName,
    /// Who made it.
    pub owner_uid: u32,
    /// When.
    pub created: Usec,
    /// Whether it was made for one container.
    pub anonymous: bool,
    /// How many bytes it may hold, if that is limited.
    pub size_limit: Option<u64>,
    /// The containers that use it, running or not.
    pub containers: Vec<ContainerId>,
    /// Labels whose prefix makes them public.
    pub public_labels: BTreeMap<String, String>,
}

/// A secret, as every local user may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Unique, and never changes.
    pub name: SecretName,
    /// Who made it.
    pub owner_uid: u32,
    /// When.
    pub created: Usec,
    /// When it got what it says.
    pub modified: Usec,
    /// The containers that are given it, running or not.
    pub containers: Vec<ContainerId>,
}

/// A checkpoint of a container, as every local user may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Never changes.
    pub id: CheckpointId,
    /// As it was called.
    pub name: ContainerName,
    /// The container that it was taken of.
    pub container: ContainerId,
    /// Who took it.
    pub owner_uid: u32,
    /// When.
    pub created: Usec,
    /// In bytes on the disk.
    pub size: u64,
    /// The version of CRIU that wrote it.
    pub criu: String,
    /// The version of the kernel it was taken on.
    pub kernel: String,
    /// The machine, in the kernel's words.
    pub architecture: String,
    /// Whether what the container had changed of its image is in it.
    pub changes: Changes,
}

/// An exec session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSession {
    /// The container it runs in.
    pub container: ContainerId,
    /// Counts up within the container.
    pub number: u32,
    /// In the host's numbering; 0 once it has ended.
    pub pid: u32,
    /// Inode number of its pidfd.
    pub pidfd_id: u64,
    /// How it ended.
    pub exit: Option<Exit>,
    /// When it began.
    pub started: Usec,
    /// Who asked for it.
    pub started_by_uid: u32,
    /// Whether it was given a terminal.
    pub terminal: bool,
}

impl Seen for Container {
    fn id(&self) -> ObjectId {
        ObjectId::Container(self.id.clone())
    }

    fn event(change: Change<Self>) -> Event {
        Event::Container(change)
    }
}

impl Seen for Image {
    fn id(&self) -> ObjectId {
        ObjectId::Image(self.id)
    }

    fn event(change: Change<Self>) -> Event {
        Event::Image(change)
    }
}

impl Seen for Network {
    fn id(&self) -> ObjectId {
        ObjectId::Network(self.name.clone())
    }

    fn event(change: Change<Self>) -> Event {
        Event::Network(change)
    }
}

impl Seen for Volume {
    fn id(&self) -> ObjectId {
        ObjectId::Volume(self.name.clone())
    }

    fn event(change: Change<Self>) -> Event {
        Event::Volume(change)
    }
}

impl Seen for Secret {
    fn id(&self) -> ObjectId {
        ObjectId::Secret(self.name.clone())
    }

    fn event(change: Change<Self>) -> Event {
        Event::Secret(change)
    }
}

impl Seen for Checkpoint {
    fn id(&self) -> ObjectId {
        ObjectId::Checkpoint(self.id.clone())
    }

    fn event(change: Change<Self>) -> Event {
        Event::Checkpoint(change)
    }
}

impl Seen for ExecSession {
    fn id(&self) -> ObjectId {
        ObjectId::Process(self.container.clone(), self.number)
    }

    fn event(change: Change<Self>) -> Event {
        Event::Process(change)
    }
}
