//! What can be said on the command line; words and letters as in podman where it has them.

mod container;
mod image;
mod network;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use container::*;
pub(crate) use image::*;
pub(crate) use network::*;

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
    /// Write images as one archive.
    #[command(alias = "save")]
    Export {
        /// What to write: oci-archive or docker-archive; without it, the first.
        #[arg(long)]
        format: Option<String>,
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
    /// Have a stopped container go on from a checkpoint, or another one beside it.
    Restore {
        /// Name or id of the checkpoint; without it, the last one of the container.
        #[arg(long, value_name = "CHECKPOINT")]
        from: Option<String>,
        /// Make a container of that name, which goes on from there; prints its id.
        #[arg(long)]
        name: Option<String>,
        /// What the new container publishes in place of the ports of the other one:
        /// [[ADDRESS:]PORT:]PORT[/PROTOCOL].
        #[arg(short, long, value_name = "PORT", requires = "name")]
        publish: Vec<String>,
        /// Name or id.
        container: String,
    },
    /// List, show and remove checkpoints.
    #[command(subcommand)]
    Checkpoints(Checkpoints),
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
        /// How much it may hold, in bytes; the filesystem must have project quota.
        #[arg(long, value_name = "BYTES")]
        size: Option<u64>,
        /// Whose its directory is, as containers see it.
        #[arg(long, default_value_t = 0)]
        uid: u32,
        /// Of which group that is.
        #[arg(long, default_value_t = 0)]
        gid: u32,
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
