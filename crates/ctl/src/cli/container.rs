//! What can be said about containers.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
    /// Without the files that it has changed of its image.
    #[arg(long)]
    pub(crate) ignore_rootfs: bool,
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
    /// Mount the root file system of a container to be read, until it is unmounted or the container is
    /// removed; prints where.
    Mount {
        /// Name or id.
        container: String,
    },
    /// Undo one mount.
    Unmount {
        /// Name or id.
        container: String,
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
    /// Pause the container until its changes are read.
    #[arg(short, long)]
    pub(crate) pause: bool,
    /// Name or id.
    pub(crate) container: String,
    /// The name of the image; without one, it has none.
    pub(crate) image: Option<String>,
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
    /// Its process numbers: private, host, container:NAME or ns:PATH.
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// Its shared memory and message queues: private, host, container:NAME or ns:PATH.
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// Its host name: private, host, container:NAME or ns:PATH.
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// Its view of control groups: private, host, container:NAME or ns:PATH.
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
    /// Its clocks: host, or private.
    #[arg(long, value_name = "MODE")]
    pub(crate) timens: Option<String>,
    /// Its users: host, or private for ids of its own.
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,
    /// With private, which ids it has: its first, the host's first, and how many, as in 0:100000:65536.
    #[arg(long, value_name = "RANGE")]
    pub(crate) uidmap: Vec<String>,
    /// The same for groups; without it, they are as users.
    #[arg(long, value_name = "RANGE")]
    pub(crate) gidmap: Vec<String>,
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
    /// Where what it writes is kept: journald or k8s-file; without it, where the service keeps all.
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Changes to its config.json, as a JSON merge patch.
    #[arg(long, value_name = "JSON")]
    pub(crate) spec_patch: Option<String>,
    /// Its label, where the host has labels: label=disable for none, or a part of that of its processes, as in
    /// `label=type:spc_t`; user, role and level are others.
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
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
