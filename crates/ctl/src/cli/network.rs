//! What can be said about networks.

use clap::{Args, Subcommand};

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
