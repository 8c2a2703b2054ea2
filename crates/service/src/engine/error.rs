//! Why the engine did not do what it was asked.

mod name;

use std::error::Error as _;
use std::fmt::Write as _;

use tare_netns::{InterfaceName, NetworkName};
use tare_runtime::ContainerName;
use tare_specgen::{NamespaceKind, SecretName};
use tare_storage::{Digest, VolumeName};

use super::checkpoint::CheckpointId;
use super::view::State;
use crate::db;

/// Why no checkpoint of a container can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Uncheckpointable {
    /// Processes that were executed in it.
    #[error("something is being executed in it")]
    Sessions,
    /// Ids that nobody else may have by then.
    #[error("it has a user namespace of its own")]
    UserNamespace,
    /// It would be gone.
    #[error("it is removed when it ends, and its checkpoints with it")]
    AutoRemove,
    /// Namespaces that would not be in it.
    #[error("it is in namespaces of another container, or in ones that somebody else made")]
    Namespaces,
    /// Connections.
    #[error("it has TCP connections (option 'TCPEstablished')")]
    TcpEstablished,
    /// Locks.
    #[error("it has locks on files (option 'FileLocks')")]
    FileLocks,
    /// Sockets.
    #[error("it has unix sockets that lead out of it (option 'ExternalUnixSockets')")]
    ExternalUnixSockets,
}

/// Why no other container can go on from a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Uncopyable {
    /// Its memory would not fit to any files.
    #[error("the files that its container had changed are not in it")]
    NoFiles,
    /// Both would write to them.
    #[error("its container has volumes that were made for that one alone")]
    OwnVolumes,
    /// What it has changed of those is not in the checkpoint.
    #[error("its container writes to other images")]
    WrittenImages,
    /// CRIU gives its processes the label that they had.
    #[error("its container has an SELinux label that no other has")]
    Categories,
}

/// Everything that can go wrong in a use case.
///
/// `Display` is a sentence that every local user may read: it names no path, label or environment
/// variable of a container. What only the caller or an administrator may know is in `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container of that name or id.
    #[error("no container '{0}'")]
    NoSuchContainer(String),
    /// The beginning of an id fits several containers.
    #[error("'{0}' fits several containers")]
    AmbiguousName(String),
    /// Another container has the name.
    #[error("the name '{0}' is in use by another container")]
    NameInUse(ContainerName),
    /// Not a name a container can have.
    #[error("'{name}' is not a name for a container")]
    InvalidName {
        /// What was given, shortened.
        name: String,
        /// Which rule it breaks.
        source: tare_runtime::InvalidContainerName,
    },
    /// A name that could be the id of a container.
    #[error("'{0}' is not a name for a container: it could be the id of another")]
    NameLikeAnId(ContainerName),
    /// Not a name an image can have.
    #[error("'{reference}' is not a name for an image: {problem}")]
    InvalidReference {
        /// What was given, shortened.
        reference: String,
        /// Which rule it breaks.
        problem: String,
    },
    /// A name that leaves out the registry, and stands for nothing.
    #[error("'{reference}' names no registry, {problem}")]
    ShortName {
        /// The name.
        reference: String,
        /// Why it stands for nothing.
        problem: crate::pull::Unresolved,
    },
    /// No image of that name or digest here.
    #[error("no image '{0}' here")]
    NoSuchImage(String),
    /// Containers are made from the image.
    #[error("image '{image}' is in use by {by}")]
    ImageInUse {
        /// Which image.
        image: String,
        /// Names of the containers.
        by: String,
    },
    /// The image has more than one name.
    #[error("image '{image}' goes by several names: {names}")]
    ImageNamed {
        /// Which image.
        image: String,
        /// The names.
        names: String,
    },
    /// A registry does not give an image.
    #[error("image '{reference}' cannot be pulled")]
    Pull {
        /// Which image.
        reference: String,
        /// Why not.
        source: crate::pull::Error,
    },
    /// A registry does not take an image.
    #[error("the image cannot be pushed to '{reference}'")]
    Push {
        /// Where to.
        reference: String,
        /// Why not.
        source: crate::pull::Error,
    },
    /// Root wants nothing from there, or to get there.
    #[error("this host does not let image '{reference}' be pulled or pushed")]
    Blocked {
        /// Which image.
        reference: String,
        /// What says so.
        source: crate::pull::Blocked,
    },
    /// What root says of registries cannot be obeyed.
    #[error("a file of this host that says where images are, or who asks for them, cannot be used")]
    Registries(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The registry has the image for other platforms only.
    #[error("image '{reference}' is not there for this platform")]
    PlatformMissing {
        /// Which image.
        reference: String,
        /// For which it is there.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The policy of this host wants of an image what cannot be found out.
    #[error("the policy of this host does not let image '{reference}' in")]
    SignatureRejected {
        /// Which image.
        reference: String,
        /// What it wants.
        source: crate::pull::Unmet,
    },
    /// The caller's end of an archive does not take it.
    #[error("the archive cannot be written")]
    WriteArchive(#[source] std::io::Error),
    /// One name for several images.
    #[error("the archive has {0} images: option 'Reference' would name only one")]
    SeveralImages(usize),
    /// What is said of a root file system was said of images.
    #[error("the archive has images, which say themselves how they run: no option can")]
    NotForImages,
    /// No job of that number, or no longer.
    #[error("no job {0}")]
    NoSuchJob(u32),
    /// The user has as many unfinished jobs as one may have.
    #[error("{0} jobs are unfinished already")]
    TooManyJobs(usize),
    /// The user has as many open streams as one may have.
    #[error("{0} streams are open already")]
    TooManyStreams(usize),
    /// The job is over, or past its point of no return.
    #[error("job {0} cannot be canceled any more")]
    NotCancelable(u32),
    /// Somebody canceled the job.
    #[error("the job was canceled")]
    Canceled,
    /// The container is not in a state for this.
    #[error("container '{name}' is {state}, needs {needs}")]
    InvalidState {
        /// Which container.
        name: ContainerName,
        /// Where it is.
        state: State,
        /// Where it must be.
        needs: &'static str,
    },
    /// The container is not what it was when the caller asked.
    #[error("container '{0}' was changed meanwhile")]
    Changed(ContainerName),
    /// The container does not run.
    #[error("container '{0}' is not running")]
    NotRunning(ContainerName),
    /// Not all processes of the container stop.
    #[error("the processes of container '{0}' cannot be stopped in time: it goes on")]
    FreezeTimeout(ContainerName),
    /// The process is in none of our containers, or gone.
    #[error("the process is in no container")]
    NoContainerForProcess,
    /// A descriptor is not of a process.
    #[error("the descriptor is no pidfd")]
    NotAPidfd,
    /// The request and the image together make no valid container.
    #[error("no valid configuration for this container")]
    InvalidSpec(#[source] tare_specgen::Error),
    /// Neither the request nor the image names a program.
    #[error("option 'Command': neither it nor the image names a program")]
    NoCommand,
    /// The archive holds no image that can be used.
    #[error("the archive cannot be imported")]
    InvalidArchive(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The image store could not do it.
    #[error("the image store failed")]
    Storage(#[from] tare_storage::Error),
    /// The file systems of a container cannot be mounted.
    #[error("the file systems of container '{name}' cannot be mounted")]
    Mount {
        /// Which container.
        name: ContainerName,
        /// Why not.
        source: tare_storage::Error,
    },
    /// An image cannot be mounted to be read.
    #[error("image '{image}' cannot be mounted")]
    MountImage {
        /// Which image.
        image: Digest,
        /// Why not.
        source: tare_storage::Error,
    },
    /// A mount of a container would be where none may be.
    #[error(
        "in container '{name}', '{target}' leads to '{leads_to}', where nothing can be mounted"
    )]
    MountTarget {
        /// Which container.
        name: ContainerName,
        /// Where the mount was asked for.
        target: tare_specgen::MountTarget,
        /// Where that is.
        leads_to: String,
    },
    /// The root file system of an image cannot be looked into.
    #[error("cannot look into the image")]
    LookInside(#[source] tare_storage::Error),
    /// A mount is asked for that would be where nothing can be mounted.
    #[error("'{target}' leads to '{leads_to}', where nothing can be mounted")]
    ShownTarget {
        /// Where the mount was asked for.
        target: tare_specgen::MountTarget,
        /// Where that is.
        leads_to: String,
    },
    /// No volume of that name.
    #[error("no volume '{0}'")]
    NoSuchVolume(String),
    /// Another volume has the name, or something that may be somebody's data is there.
    #[error("there is a volume '{0}' already")]
    VolumeExists(VolumeName),
    /// Containers use the volume.
    #[error("volume '{volume}' is in use by {by}")]
    VolumeInUse {
        /// Which volume.
        volume: VolumeName,
        /// Names of the containers.
        by: String,
    },
    /// The volume is not the one it was when the caller asked.
    #[error("volume '{0}' was made anew meanwhile")]
    VolumeChanged(VolumeName),
    /// The volume has no such directory.
    #[error("volume '{volume}' has no directory '{path}'")]
    NoSubPath {
        /// Which volume.
        volume: VolumeName,
        /// What is missing.
        path: tare_specgen::SubPath,
    },
    /// The image has no such directory.
    #[error("image {image} has no directory '{path}'")]
    NoImagePath {
        /// Which image.
        image: tare_storage::Digest,
        /// What is missing.
        path: tare_specgen::SubPath,
    },
    /// More mounts than one container can have.
    #[error("a container cannot have more than {0} volumes and binds")]
    TooManyMounts(usize),
    /// Something of the host was asked for by a path, and not by root.
    #[error("option 'Mounts[{0}].Source' must be a file descriptor: only root gives paths")]
    SourcePath(usize),
    /// What is to be mounted is not there, or is none that can be opened.
    #[error("what option 'Mounts[{at}].Source' names cannot be opened")]
    OpenSource {
        /// Which mount.
        at: usize,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A path of the host was given by somebody who is not root.
    #[error("option '{0}': only root gives paths")]
    PathsOfOthers(&'static str),
    /// Files that say what is done on the host for a container cannot be used.
    #[error("what option '{option}' names cannot be read, or is not root's alone")]
    HostFiles {
        /// The option.
        option: &'static str,
        /// Which file, and why.
        source: super::of_host::Untrusted,
    },
    /// A hook that would change the configuration.
    #[error("option 'HooksDirs': hooks of the stage precreate are not run")]
    PrecreateHook,
    /// No secret of that name.
    #[error("no secret '{0}'")]
    NoSuchSecret(SecretName),
    /// Another secret has the name.
    #[error("there is a secret '{0}' already")]
    SecretExists(SecretName),
    /// Containers are given the secret.
    #[error("secret '{secret}' is in use by {by}")]
    SecretInUse {
        /// Which secret.
        secret: SecretName,
        /// Names of the containers.
        by: String,
    },
    /// What a secret is to say cannot be taken.
    #[error("argument 'data' {0}")]
    GivenValue(&'static str, #[source] Option<std::io::Error>),
    /// What a container writes cannot be kept in the journal: there is none, containers are no units of
    /// systemd, or `tare-spawn` is from before there was this.
    #[error(
        "option 'LogDriver' cannot be 'journald' here: it takes systemd, its journal and a new tare-spawn"
    )]
    NoJournal,
    /// Containers cannot be put there.
    #[error("option 'CgroupParent' {0}")]
    CgroupParent(&'static str),
    /// A hardware address is said twice.
    #[error("option 'MAC': the first of 'Networks' has a 'MAC', too")]
    TwoMacs,
    /// A file of variables is none.
    #[error("option 'EnvFile' {0}")]
    EnvFile(String),
    /// A file of variables cannot be read.
    #[error("option 'EnvFile' cannot be read")]
    ReadEnvFile(#[source] std::io::Error),
    /// What is to be mounted is nowhere on the host.
    #[error("what option 'Mounts[{0}].Source' is has no path on the host, or none that is text")]
    NoSourcePath(usize),
    /// What is to be mounted could not be found again.
    #[error("what option 'Mounts[{at}].Source' is cannot be mounted")]
    PinSource {
        /// Which mount.
        at: usize,
        /// Why not.
        source: tare_storage::Error,
    },
    /// What is to be mounted was moved while somebody was asked about it.
    #[error("what option 'Mounts[{0}].Source' is was moved meanwhile")]
    SourceMoved(usize),
    /// What a container mounts of the host is another thing by now.
    #[error("what container '{name}' mounts of the host is gone, or another thing by now")]
    HostMoved {
        /// Which container.
        name: ContainerName,
        /// What.
        source: tare_storage::Error,
    },
    /// A container has nothing at a place, or no directory where one is needed.
    #[error("there is no such file or directory in the container")]
    NoSuchPath,
    /// A container ended while files of it were moved.
    #[error("the container ended meanwhile")]
    EndedMeanwhile,
    /// No checkpoint of that id.
    #[error("no checkpoint '{0}'")]
    NoSuchCheckpoint(String),
    /// The container has something that no checkpoint can have, or that it was not told to.
    #[error("of container '{name}' no checkpoint can be taken: {why}")]
    NotCheckpointable {
        /// Which container.
        name: ContainerName,
        /// What it has.
        why: Uncheckpointable,
    },
    /// CRIU could not take a checkpoint.
    #[error("no checkpoint of container '{name}' was taken: it goes on")]
    Checkpoint {
        /// Which container.
        name: ContainerName,
        /// What CRIU says, or who has it run.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// CRIU could not restore a container.
    #[error("container '{name}' cannot go on from the checkpoint")]
    Restore {
        /// Which container.
        name: ContainerName,
        /// What CRIU says, or who has it run.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The checkpoint is of another container.
    #[error("checkpoint {checkpoint} was not taken of container '{name}'")]
    OtherCheckpoint {
        /// Which container.
        name: ContainerName,
        /// Which checkpoint.
        checkpoint: CheckpointId,
    },
    /// No other container can go on from that checkpoint.
    #[error("no other container can go on from checkpoint {checkpoint}: {why}")]
    NotCopyable {
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        why: Uncopyable,
    },
    /// The host has no such device.
    #[error("there is no device '{0}'")]
    NoDevice(tare_specgen::AbsolutePath),
    /// The network of a container cannot be set up.
    #[error("the network of container '{name}' cannot be set up")]
    Network {
        /// Which container.
        name: ContainerName,
        /// Why not.
        source: Box<tare_netns::Error>,
    },
    /// No network of that name.
    #[error("no network '{0}'")]
    NoSuchNetwork(String),
    /// Another network has the name.
    #[error("there is a network '{0}' already")]
    NetworkExists(NetworkName),
    /// Containers are on the network.
    #[error("network '{network}' is in use by {by}")]
    NetworkInUse {
        /// Which network.
        network: NetworkName,
        /// Names of the containers.
        by: String,
    },
    /// The host does not let go of it.
    #[error("network '{network}' cannot be taken off the host")]
    RemoveNetwork {
        /// Which network.
        network: NetworkName,
        /// Why not.
        source: Box<tare_netns::Error>,
    },
    /// It cannot be removed.
    #[error("network '{0}' is the default network: it stays")]
    DefaultNetwork(NetworkName),
    /// A network that cannot be had.
    #[error("no such network can be made")]
    InvalidNetwork(#[source] tare_netns::InvalidNetwork),
    /// A container cannot be on a network in this way.
    #[error("no such connection to network '{network}' can be made")]
    InvalidConnection {
        /// To which network.
        network: NetworkName,
        /// Why not.
        source: tare_netns::InvalidConnection,
    },
    /// A container is on a network already.
    #[error("container '{name}' is on network '{network}' already")]
    AlreadyConnected {
        /// Which container.
        name: ContainerName,
        /// On which network.
        network: NetworkName,
    },
    /// A container is not on a network.
    #[error("container '{name}' is not on network '{network}'")]
    NotConnected {
        /// Which container.
        name: ContainerName,
        /// Not on which network.
        network: NetworkName,
    },
    /// More networks than one container can be on.
    #[error("a container cannot be on more than {0} networks")]
    TooManyNetworks(usize),
    /// A network would have too many resolvers.
    #[error("network '{network}' would have more than {most} DNS servers: no resolver asks more")]
    TooManyServers {
        /// Which network.
        network: NetworkName,
        /// How many it may have.
        most: usize,
    },
    /// A network would have resolvers that nobody asks.
    #[error("on network '{0}', which is internal, other names are not asked of anybody")]
    ServerUnheard(NetworkName),
    /// Names are answered there, for containers: whoever is asked in their place is not to ask there again.
    #[error("network '{network}' cannot ask {server}: there the containers of network '{of}' ask")]
    ServerIsOurs {
        /// Which network.
        network: NetworkName,
        /// Whom it was to ask.
        server: std::net::IpAddr,
        /// The network that is answered there.
        of: NetworkName,
    },
    /// A network would have too many labels.
    #[error("network '{network}' would have more than {most} labels")]
    TooManyLabels {
        /// Which network.
        network: NetworkName,
        /// How many it may have.
        most: usize,
    },
    /// A container that has no network of its own cannot be on one, or publish ports.
    #[error("the container has no network of its own")]
    NoOwnNetwork,
    /// A namespace of a container is not its own, and so not its to share.
    #[error("container '{name}' has no {kind} namespace of its own that could be shared")]
    NothingToShare {
        /// Which container.
        name: ContainerName,
        /// Which of its namespaces.
        kind: NamespaceKind,
    },
    /// Other containers share namespaces of a container.
    #[error("the namespaces of container '{name}' are shared by {by}")]
    NamespacesShared {
        /// Which container.
        name: ContainerName,
        /// Names of the others.
        by: String,
    },
    /// There is no namespace of that kind at a path.
    #[error("there is no {kind} namespace at '{path}'")]
    NoNamespace {
        /// Which kind.
        kind: NamespaceKind,
        /// Where none is.
        path: tare_specgen::AbsolutePath,
    },
    /// The network namespace a container is to be in is another one by now.
    #[error("the network that container '{0}' was made for is not there any more")]
    NamespaceChanged(ContainerName),
    /// Another namespace a container is to be in is not the one it was made for.
    #[error("the {kind} namespace that container '{name}' was made for is not there any more")]
    OtherNamespace {
        /// Which container.
        name: ContainerName,
        /// Which of its namespaces.
        kind: NamespaceKind,
    },
    /// Ports lead to a container, and nothing outside reaches it.
    #[error("nothing outside reaches the networks of the container: no port leads to it")]
    Unreachable,
    /// A port is not published.
    #[error("port {port} of container '{name}' is not published")]
    NotPublished {
        /// Which container.
        name: ContainerName,
        /// Which port.
        port: String,
    },
    /// Ports that cannot be published.
    #[error("no such ports can be published")]
    InvalidPorts(#[source] tare_netns::InvalidPort),
    /// Somebody has a port of the host.
    #[error("port {port} is in use{}", .by.as_ref().map(|by| format!(" by container '{by}'")).unwrap_or_default())]
    PortInUse {
        /// Which.
        port: String,
        /// The container that has it, if it is one.
        by: Option<ContainerName>,
    },
    /// The host does not have the address that a port is to be offered at.
    #[error("the host has no address {0} to offer a port at")]
    NoHostAddress(std::net::IpAddr),
    /// The host has the address itself.
    #[error("address {address} of network '{network}' is one of the host's own")]
    AddressOfHost {
        /// Which.
        address: std::net::IpAddr,
        /// Of which network.
        network: NetworkName,
    },
    /// Another container has the address.
    #[error("address {address} of network '{network}' is in use by container {by}")]
    AddressInUse {
        /// Which.
        address: std::net::IpAddr,
        /// On which network.
        network: NetworkName,
        /// Name or id of the other container.
        by: String,
    },
    /// A network has other subnets by now than when a container was given an address of it.
    #[error("address {address} is not one of network '{network}'")]
    AddressElsewhere {
        /// Which.
        address: std::net::IpAddr,
        /// On which network.
        network: NetworkName,
    },
    /// Another container has the alias.
    #[error("alias '{alias}' on network '{network}' is that of container {by}")]
    AliasInUse {
        /// Which.
        alias: tare_netns::Alias,
        /// On which network.
        network: NetworkName,
        /// Name or id of the other container.
        by: String,
    },
    /// Another container has the hardware address.
    #[error("hardware address {mac} on network '{network}' is that of container {by}")]
    MacInUse {
        /// Which.
        mac: tare_netns::MacAddress,
        /// On which network.
        network: NetworkName,
        /// Name or id of the other container.
        by: String,
    },
    /// A subnet is taken.
    #[error("subnet {subnet} of network '{network}' overlaps {other}, which is in use")]
    SubnetOverlap {
        /// Of which network.
        network: NetworkName,
        /// Which.
        subnet: ipnet::IpNet,
        /// What is there already.
        other: ipnet::IpNet,
    },
    /// The host has an interface of that name.
    #[error("there is an interface {0} already")]
    InterfaceInUse(InterfaceName),
    /// Interfaces of containers cannot be on that one.
    #[error("the host has no Ethernet interface '{0}' to be a parent")]
    NoParent(InterfaceName),
    /// The network has no free address.
    #[error("network '{0}' has no free address")]
    AddressesExhausted(NetworkName),
    /// No subnet for a network.
    #[error("no subnet of {pool} is free for network '{network}'")]
    NoSubnet {
        /// Of which network.
        network: NetworkName,
        /// Where it was looked for.
        pool: ipnet::Ipv4Net,
    },
    /// The program to run is not in the container.
    #[error("the command was not found in container '{name}'")]
    CommandNotFound {
        /// Which container.
        name: ContainerName,
        /// What the runtime said.
        source: Box<tare_spawn::Error>,
    },
    /// The program to run is there, but cannot be executed.
    #[error("the command in container '{name}' cannot be executed")]
    CommandNotExecutable {
        /// Which container.
        name: ContainerName,
        /// What the runtime said.
        source: Box<tare_spawn::Error>,
    },
    /// Processes of an earlier life are there that nobody recorded.
    #[error("processes of an earlier life of container '{0}' are still there")]
    StillThere(ContainerName),
    /// conmon was killed: nothing can be executed in the container any more.
    #[error("the supervisor of container '{0}' is gone")]
    NoSupervisor(ContainerName),
    /// The OCI runtime or conmon failed.
    #[error("the OCI runtime could not {verb} container '{name}'")]
    Runtime {
        /// What it was to do.
        verb: &'static str,
        /// To which container.
        name: ContainerName,
        /// What it said.
        source: Box<tare_spawn::Error>,
    },
    /// Nobody has said which ids containers may have.
    #[error("{0} has no 65536 ids for user 'tare', as in 'tare:1879048192:67108864'")]
    NoSubordinateIds(&'static str),
    /// They are somebody else's by now.
    #[error(
        "the ids of container '{0}' are no longer of user 'tare' in /etc/subuid and /etc/subgid"
    )]
    IdsTakenBack(ContainerName),
    /// All of them are other containers'.
    #[error("the ids of user 'tare' in /etc/subuid and /etc/subgid are all in use")]
    SubordinateIdsExhausted,
    /// All pairs of categories are other containers'.
    #[error("all pairs of SELinux categories are in use")]
    CategoriesExhausted,
    /// There is no user namespace to map owners by.
    #[error("a user namespace cannot be made")]
    Users(#[source] Box<tare_spawn::Error>),
    /// The kernel of this host is too old.
    #[error("the kernel of this host has no {what}: {needs} is needed")]
    Unsupported {
        /// What it cannot.
        what: &'static str,
        /// What can.
        needs: &'static str,
    },
    /// Nothing counts what a volume holds.
    #[error("what a volume holds cannot be limited: its filesystem has no project quota")]
    NoQuota,
    /// An OCI runtime that does not do what it was told.
    #[error(
        "the OCI runtime has not set the clocks of container '{0}': crun 1.8.4 and runc 1.2 do"
    )]
    ClocksNotSet(ContainerName),
    /// No OCI runtime works on this host.
    #[error("no OCI runtime works on this host")]
    NoRuntime,
    /// Nothing can be written down, or go on.
    #[error("CRIU is not installed on this host")]
    NoCriu,
    /// A signal or another system call on a running container failed.
    #[error("cannot {what} container '{name}'")]
    Process {
        /// What was to be done.
        what: &'static str,
        /// To which container.
        name: ContainerName,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Something of an ended container could not be taken down.
    #[error("{count} parts of container '{name}' could not be taken down")]
    Teardown {
        /// Which container.
        name: ContainerName,
        /// How many.
        count: usize,
        /// The first of them.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk is full.
    #[error("no space left for the state of the service")]
    NoSpace(#[source] db::Error),
    /// The database could not do it.
    #[error("the state of the service cannot be kept")]
    Database(#[source] db::Error),
    /// A fact about the host cannot be had.
    #[error("cannot {what}")]
    Host {
        /// What was to be done.
        what: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// An exec session has ended.
    #[error("the process has ended")]
    SessionEnded,
    /// A process has no terminal.
    #[error("the process has no terminal")]
    NoTerminal,
    /// A container's standard input is nothing that somebody can write to.
    #[error("container '{0}' was created without a terminal and without an open standard input")]
    NoInput(ContainerName),
    /// So many have attached to a container that there is no room for one more.
    #[error("too many have attached to container '{0}'")]
    TooManyAttached(ContainerName),
    /// One user has asked for the root of one container very often.
    #[error("the root of container '{name}' is mounted {most} times for this user")]
    TooManyMounted {
        /// Which.
        name: ContainerName,
        /// How often it may be.
        most: usize,
    },
    /// Nothing is mounted that could be unmounted.
    #[error("the root of container '{0}' is not mounted for this caller")]
    RootNotMounted(ContainerName),
    /// It could not be unmounted.
    #[error("cannot unmount the root of container '{name}'")]
    Unmount {
        /// Which.
        name: ContainerName,
        /// Why.
        source: tare_storage::Error,
    },
    /// What goes away when it ends is not started again.
    #[error("container '{0}' is removed when it ends, and cannot be started again then")]
    RemovedAtEnd(ContainerName),
    /// The service is ending.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// A mistake of ours.
    #[error("a part of the service failed")]
    Bug(String),
}

impl Error {
    /// The sentence with all its causes, for the journal and the log of the job.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        if let Self::Bug(what) = self {
            let _ = write!(text, ": {what}");
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        text
    }
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        match error {
            db::Error::Closed => Self::ShuttingDown,
            full if full.is_full() => Self::NoSpace(full),
            other => Self::Database(other),
        }
    }
}
