//! What can be said on the command line; words and letters as in podman where it has them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Talks to tared, the container service.
#[derive(Debug, Parser)]
#[command(name = "tarectl", version)]
pub(crate) struct Arguments {
    /// D-Bus address of the bus tared is on; without it, the system bus.
    #[arg(long, env = "TARE_BUS_ADDRESS", value_name = "ADDRESS", global = true)]
    pub(crate) address: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Import images from an archive, or one from a root file system in a tar; `-` is standard input.
    #[command(alias = "load")]
    Import(Import),
    /// List images.
    Images,
    /// Pull an image from a registry; prints its id.
    Pull(Pull),
    /// Put an image into a registry; prints the digest of its manifest.
    Push(Push),
    /// Write images as an archive of the OCI.
    #[command(alias = "save")]
    Export {
        /// The file to write; without it, standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Names or digests.
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove images.
    Rmi {
        /// With all their names, and with the containers made from them.
        #[arg(short, long)]
        force: bool,
        /// Names or digests.
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Give an image further names.
    Tag {
        /// Name or digest.
        image: String,
        /// The names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Take names from an image, which stays; all of them if none is said.
    Untag {
        /// Name or digest.
        image: String,
        /// The names.
        names: Vec<String>,
    },
    /// Show how an image was made.
    History {
        /// Name or digest.
        image: String,
    },
    /// Images one by one.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Create a container from an image; prints its id.
    Create(Box<Create>),
    /// Create a container from an image and start it. With -i or -t, stays and ends as it ends, unless
    /// Ctrl-P and Ctrl-Q are typed at its terminal; else prints its id.
    Run(Box<Run>),
    /// Stay with a container that runs, and end as it ends; at a terminal, Ctrl-P and Ctrl-Q leave it.
    Attach {
        /// It reads nothing of what is typed here.
        #[arg(long)]
        no_stdin: bool,
        /// Name or id.
        container: String,
    },
    /// Show the configuration that a container would be made with; nothing is made.
    Spec {
        /// Only what the options change, as a JSON merge patch.
        #[arg(long)]
        changes: bool,
        /// As for create.
        #[command(flatten)]
        container: Box<Create>,
    },
    /// Make containers ready to run; they wait to be started.
    Init {
        /// Names or ids.
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Start containers.
    Start {
        /// Names or ids.
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Stop containers.
    Stop {
        /// Seconds from the stop signal to SIGKILL; without it, as the container has it.
        #[arg(short, long, value_name = "SECONDS")]
        time: Option<u32>,
        /// Names or ids.
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Stop containers, if they run, and start them again.
    Restart {
        /// Seconds from the stop signal to SIGKILL; without it, as the container has it.
        #[arg(short, long, value_name = "SECONDS")]
        time: Option<u32>,
        /// Names or ids.
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Stop all processes of containers where they are.
    Pause {
        /// Names or ids.
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Let containers go on that are paused.
    Unpause {
        /// Names or ids.
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Send a signal to the first process of containers.
    Kill {
        /// Number of the signal.
        #[arg(short, long, default_value_t = 9)]
        signal: i32,
        /// Names or ids.
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Give a container another name.
    Rename {
        /// Name or id.
        container: String,
        /// The new name.
        name: String,
    },
    /// Change the limits of a container, also while it runs.
    Update(Update),
    /// Remove containers and their data.
    Rm {
        /// Kill them first if they run.
        #[arg(short, long)]
        force: bool,
        /// Also remove the volumes that were made for them alone.
        #[arg(short, long)]
        volumes: bool,
        /// Names or ids.
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// List containers.
    Ps {
        /// Also those that do not run.
        #[arg(short, long)]
        all: bool,
    },
    /// Wait for the end of a container; prints its exit code.
    Wait {
        /// Name or id.
        container: String,
    },
    /// Show everything about a container, as JSON.
    Inspect {
        /// Name or id.
        container: String,
    },
    /// List the processes of a container.
    Top {
        /// Name or id.
        container: String,
    },
    /// Show what containers that run use of the host.
    Stats {
        /// Names or ids; without any, all.
        containers: Vec<String>,
    },
    /// Run a command in a container; ends with its exit code.
    Exec(Exec),
    /// Show what happens: number, type, action, object, and what that is since.
    Events {
        /// First those that followed this number; 0: all that are kept.
        #[arg(long, value_name = "NUMBER")]
        since: Option<u64>,
        /// Do not wait for more.
        #[arg(long)]
        no_stream: bool,
    },
    /// Show what a container has written.
    Logs(Logs),
    /// Show what a container changed: A is added, C changed, D deleted.
    Diff {
        /// Name or id.
        container: String,
    },
    /// Make an image of a container; prints its id.
    Commit(Commit),
    /// Copy files into a container or out of it: CONTAINER:PATH is one side, and a path or `-`, for a tar,
    /// the other.
    Cp {
        /// What.
        from: String,
        /// Into which directory.
        to: String,
    },
    /// Containers one by one.
    #[command(subcommand)]
    Container(ContainerCommand),
    /// List, make, remove networks, and put containers on them.
    #[command(subcommand)]
    Network(Network),
    /// List, make and remove what containers may know and nobody is told again.
    #[command(subcommand)]
    Secret(Secret),
    /// List, make, remove and show volumes.
    #[command(subcommand)]
    Volume(Volume),
    /// Write down what a container that runs is, for it to go on from there, and end it; prints the id
    /// of the checkpoint.
    Checkpoint(Checkpoint),
    /// Have a stopped container go on from a checkpoint.
    Restore {
        /// Name or id of the checkpoint; without it, the last one of the container.
        #[arg(long, value_name = "CHECKPOINT")]
        from: Option<String>,
        /// Name or id.
        container: String,
    },
    /// List, show and remove checkpoints.
    #[command(subcommand)]
    Checkpoints(Checkpoints),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Checkpoint {
    /// It is not ended, but goes on.
    #[arg(short = 'R', long)]
    pub(crate) leave_running: bool,
    /// With the TCP connections that it has.
    #[arg(long)]
    pub(crate) tcp_established: bool,
    /// With the locks on files that it has.
    #[arg(long)]
    pub(crate) file_locks: bool,
    /// With the unix sockets that lead out of it.
    #[arg(long)]
    pub(crate) external_unix_sockets: bool,
    /// How the checkpoint is to be called.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Name or id.
    pub(crate) container: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Checkpoints {
    /// List checkpoints.
    Ls,
    /// Show all about a checkpoint, as JSON.
    Inspect {
        /// Name or id.
        checkpoint: String,
    },
    /// Remove checkpoints.
    Rm {
        /// Names or ids.
        #[arg(required = true)]
        checkpoints: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// List networks.
    Ls,
    /// Make a network.
    Create(CreateNetwork),
    /// Remove networks.
    Rm {
        /// Take containers off them first.
        #[arg(short, long)]
        force: bool,
        /// Names.
        #[arg(required = true)]
        networks: Vec<String>,
    },
    /// Change whom containers of a network ask for other names, and its labels.
    Update(UpdateNetwork),
    /// Show all about a network, as JSON.
    Inspect {
        /// Name.
        network: String,
    },
    /// Put a container on a network, also while it runs.
    Connect {
        /// An address that it is to have there.
        #[arg(long, value_name = "ADDRESS")]
        ip: Vec<String>,
        /// A further name that it is found by there.
        #[arg(long, value_name = "NAME")]
        alias: Vec<String>,
        /// Name of the network.
        network: String,
        /// Name or id of the container.
        container: String,
    },
    /// Take a container off a network, also while it runs.
    Disconnect {
        /// Name of the network.
        network: String,
        /// Name or id of the container.
        container: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UpdateNetwork {
    /// A DNS server that is asked about names that are no container's.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns_add: Vec<String>,
    /// One that is asked no more.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns_rm: Vec<String>,
    /// A label that comes, or gets another value.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label_add: Vec<String>,
    /// A label that goes.
    #[arg(long, value_name = "KEY")]
    pub(crate) label_rm: Vec<String>,
    /// Its name.
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateNetwork {
    /// bridge or macvlan.
    #[arg(short, long)]
    pub(crate) driver: Option<String>,
    /// A subnet; without one, one is chosen.
    #[arg(long, value_name = "SUBNET")]
    pub(crate) subnet: Vec<String>,
    /// An IPv6 subnet, too.
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Nothing leaves it.
    #[arg(long)]
    pub(crate) internal: bool,
    /// It and other networks do not reach each other.
    #[arg(long)]
    pub(crate) isolate: bool,
    /// Whether names of containers are answered on it; on a bridge they are, if nothing is said.
    #[arg(long, value_name = "true|false")]
    pub(crate) dns: Option<bool>,
    /// The interface of the host that a macvlan network is on.
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) parent: Option<String>,
    /// Its name.
    pub(crate) name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// List secrets.
    Ls,
    /// Make a secret; prints its name.
    Create {
        /// If it is there, it gets the new value.
        #[arg(long)]
        replace: bool,
        /// Its name.
        name: String,
        /// A file with what it says; `-` is standard input.
        file: PathBuf,
    },
    /// Remove secrets.
    Rm {
        /// Their names.
        #[arg(required = true)]
        secrets: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// List volumes.
    Ls,
    /// Make a volume; prints its name.
    Create {
        /// A label, KEY=VALUE.
        #[arg(short, long, value_name = "KEY=VALUE")]
        label: Vec<String>,
        /// Its name.
        name: String,
    },
    /// Remove volumes with all that is in them.
    Rm {
        /// Their names.
        #[arg(required = true)]
        volumes: Vec<String>,
    },
    /// Print all about a volume, as JSON.
    Inspect {
        /// Its name.
        volume: String,
    },
    /// Write what is in a volume as a tar.
    Export {
        /// The file to write; without it, standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Its name.
        volume: String,
    },
    /// Unpack a tar in a volume.
    Import {
        /// Remove what is in it first.
        #[arg(long)]
        replace: bool,
        /// Its name.
        volume: String,
        /// The archive: plain, gzip or zstd; `-` is standard input.
        archive: PathBuf,
    },
    /// Print how many bytes volumes take on the disk.
    Usage {
        /// Their names.
        #[arg(required = true)]
        volumes: Vec<String>,
    },
    /// Remove all volumes that no container uses; prints their names.
    Prune {
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    /// Take down what there is on the host of containers that do not run.
    Cleanup {
        /// Names or ids.
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Remove all containers that do not run; prints their ids.
    Prune {
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the root file system of a container as a tar.
    Export {
        /// The file to write; without it, standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Name or id.
        container: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Commit {
    /// Who makes it.
    #[arg(short, long)]
    pub(crate) author: Option<String>,
    /// What was done.
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// What the image is to say, in the words of a Dockerfile, as in CMD /bin/sh.
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Name or id.
    pub(crate) container: String,
    /// The name of the image; without one, it has none.
    pub(crate) image: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Remove images without a name that no container is made from; prints their ids.
    Prune {
        /// Also those with names.
        #[arg(short, long)]
        all: bool,
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show all about an image, as JSON.
    Inspect {
        /// Name or digest.
        image: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// When: missing, always or newer.
    #[arg(long, value_name = "WHEN")]
    pub(crate) policy: Option<String>,
    /// What it is to run on: OS/ARCH or OS/ARCH/VARIANT.
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Take any certificate of the registry, or none.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// A file with credentials, as containers-auth.json(5) describes.
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// The image.
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Take any certificate of the registry, or none.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// A file with credentials, as containers-auth.json(5) describes.
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Name or digest.
    pub(crate) image: String,
    /// Its name there; without it, the name it has here.
    pub(crate) destination: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The name to give the image, in place of what the archive says.
    #[arg(short, long)]
    pub(crate) reference: Option<String>,
    /// What is in the archive: oci-archive, docker-archive or rootfs; without it, it is looked at.
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// What the images are to run on: OS/ARCH or OS/ARCH/VARIANT.
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// What a container of it runs if nobody says otherwise; once for each argument.
    #[arg(short, long, value_name = "ARGUMENT")]
    pub(crate) command: Vec<String>,
    /// Environment of its containers, NAME=VALUE.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The archive: plain, gzip or zstd.
    pub(crate) archive: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Do not stay, also with -i or -t.
    #[arg(short, long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) container: Create,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Create {
    /// What it reads is what those write who stay with it.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// It has a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Its name; without it, one is made up.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Environment, NAME=VALUE.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// A file with such lines; those of --env win.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// An init that reaps processes is put in front of the command.
    #[arg(long)]
    pub(crate) init: bool,
    /// The OCI runtime: crun or runc.
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime: Option<String>,
    /// Its hardware address on the first of its networks.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mac_address: Option<String>,
    /// Who its process is: USER, UID, USER:GROUP or UID:GID.
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Whether its user is added to its passwd and group if it is not in them; it is, if nothing is
    /// said.
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) passwd: Option<bool>,
    /// Where its process starts.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// A network to be on, by name; or none, host, container:NAME or ns:PATH.
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Vec<String>,
    /// A port to publish: [[ADDRESS:]PORT:]PORT[/PROTOCOL], the host's before the container's.
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    /// Remove it when it ends.
    #[arg(long)]
    pub(crate) rm: bool,
    /// Start it again when it ends: no, on-failure[:COUNT], always or unless-stopped.
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    #[command(flatten)]
    pub(crate) health: Health,
    /// Its root file system cannot be written.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Most memory, in bytes.
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<u64>,
    /// Most processes and threads.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pids_limit: Option<u64>,
    /// A capability beyond the default ones, or ALL.
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// A capability to take away, or ALL.
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// A further group of its process.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Its process numbers: private or host.
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// Its shared memory and message queues: private or host.
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// A volume: NAME:TARGET[:OPTION,...], or TARGET for one of its own; or, with a path in place of the
    /// name, a file or directory of the host. ro is an option.
    #[arg(short, long, value_name = "VOLUME")]
    pub(crate) volume: Vec<String>,
    /// A mount: type=bind|volume|image|tmpfs,source=SOURCE,destination=TARGET[,OPTION,...].
    #[arg(long, value_name = "MOUNT")]
    pub(crate) mount: Vec<String>,
    /// Memory: TARGET[:OPTION,...], as in /tmp:size=64m.
    #[arg(long, value_name = "TARGET")]
    pub(crate) tmpfs: Vec<String>,
    /// A device of the host: PATH[:TARGET[:ACCESS]], where ACCESS is of r, w and m; or its name in
    /// the Container Device Interface, as in vendor.com/class=device.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<String>,
    /// Where its control group is made: a slice of systemd, or without that a path.
    #[arg(long, value_name = "PARENT")]
    pub(crate) cgroup_parent: Option<String>,
    /// A directory with OCI hooks that it gets.
    #[arg(long, value_name = "DIR")]
    pub(crate) hooks_dir: Vec<String>,
    /// A secret it is given: NAME[,type=mount|env][,target=TARGET][,uid=UID][,gid=GID][,mode=MODE].
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Vec<String>,
    /// Its time zone, or local for the host's.
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// Changes to its config.json, as a JSON merge patch.
    #[arg(long, value_name = "JSON")]
    pub(crate) spec_patch: Option<String>,
    /// It may do nearly everything that the host may.
    #[arg(long)]
    pub(crate) privileged: bool,
    /// The image.
    pub(crate) image: String,
    /// What it runs; without it, what the image says.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// It is well if this command of a shell in it ends with 0; none: nothing is checked.
    #[arg(long = "health-cmd", value_name = "COMMAND")]
    pub(crate) cmd: Option<String>,
    /// Seconds from one check to the next.
    #[arg(long = "health-interval", value_name = "SECONDS")]
    pub(crate) interval: Option<f64>,
    /// Seconds that a check may take.
    #[arg(long = "health-timeout", value_name = "SECONDS")]
    pub(crate) timeout: Option<f64>,
    /// Seconds after its start in which failures do not count.
    #[arg(long = "health-start-period", value_name = "SECONDS")]
    pub(crate) start_period: Option<f64>,
    /// So many checks have to fail in a row.
    #[arg(long = "health-retries", value_name = "NUMBER")]
    pub(crate) retries: Option<u32>,
    /// What is done with it then: none, kill, restart or stop.
    #[arg(long = "health-on-failure", value_name = "ACTION")]
    pub(crate) on_failure: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Most memory, in bytes.
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<u64>,
    /// Most memory and swap together, in bytes.
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_swap: Option<u64>,
    /// Memory that is taken away last when the host runs short, in bytes.
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<u64>,
    /// Most processor time, in processors, as in 1.5.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<f64>,
    /// Share of the processors when they are busy: 1 to 10000, 100 is usual.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpu_weight: Option<u64>,
    /// The processors it may run on, as in 0-3,7.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// The memory nodes it may have memory of.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Most processes and threads.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pids_limit: Option<u64>,
    /// Share of the disks when they are busy: 1 to 10000, 100 is usual.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) io_weight: Option<u64>,
    /// Start it again when it ends: no, on-failure[:COUNT], always or unless-stopped.
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// Seconds from its stop signal to SIGKILL.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<u32>,
    /// Name or id.
    pub(crate) container: String,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The process gets a terminal of its own.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Environment, NAME=VALUE.
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Who the process is.
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Where the process starts.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Name or id.
    pub(crate) container: String,
    /// What to run.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on until the container ends.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last of the lines that are there.
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<u32>,
    /// Name or id.
    pub(crate) container: String,
}
