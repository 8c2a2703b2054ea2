//! What can be said about images.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
    /// Take any certificate of the registry, or none; without it, registries.conf says.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// A file with credentials, as containers-auth.json(5) describes; without it, those of the host are used.
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// The image. Without a registry it is what registries.conf says of it.
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Take any certificate of the registry, or none; without it, registries.conf says.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// A file with credentials, as containers-auth.json(5) describes; without it, those of the host are used.
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
