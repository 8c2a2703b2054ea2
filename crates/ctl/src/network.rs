//! Networks, and the networks and ports of containers.

use std::collections::HashMap;
use std::process::ExitCode;

use zbus::{Connection, Variant};

use crate::cli::{CreateNetwork, Network, UpdateNetwork};
use crate::client::{self, ManagerProxy, Options};
use crate::output::{number, say, text};
use crate::{Failure, Outcome};

/// `Network.Remove`: take containers off it first.
const DISCONNECT: u64 = 1;

/// A dictionary in a list.
type Entry<'a> = HashMap<&'static str, Variant<'a>>;

pub(crate) async fn run(bus: &Connection, command: Network) -> Outcome {
    match command {
        Network::Ls => list(bus).await?,
        Network::Create(command) => create(bus, command).await?,
        Network::Rm { force, networks } => {
            for name in networks {
                let network = client::network(bus, &name).await?;
                network.remove(if force { DISCONNECT } else { 0 }).await?;
            }
        }
        Network::Update(command) => update(bus, command).await?,
        Network::Inspect { network } => {
            say(&client::network(bus, &network).await?.inspect(0).await?)?;
        }
        Network::Connect { ip, alias, network, container } => {
            let mut options = Options::new();
            for (key, list) in [("Addresses", ip), ("Aliases", alias)] {
                if !list.is_empty() {
                    options.insert(key, list.into());
                }
            }
            let path = ManagerProxy::new(bus).await?.get_network(&network).await?;
            let container = client::container(bus, &container).await?;
            container.connect_network(&path, options).await?;
        }
        Network::Disconnect { network, container } => {
            let path = ManagerProxy::new(bus).await?.get_network(&network).await?;
            client::container(bus, &container).await?.disconnect_network(&path, 0).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(bus: &Connection) -> Result<(), Failure> {
    let (rows, _) = ManagerProxy::new(bus).await?.list_networks(Options::new()).await?;
    say(&format!("{:<12}  {:<20}  {:<8}  CONTAINERS", "NETWORK ID", "NAME", "DRIVER"))?;
    for row in &rows {
        let (id, name, driver) = (text(row, "Id"), text(row, "Name"), text(row, "Driver"));
        say(&format!("{id:.12}  {name:<20}  {driver:<8}  {}", number(row, "NContainers")))?;
    }
    Ok(())
}

async fn create(bus: &Connection, command: CreateNetwork) -> Result<(), Failure> {
    let mut options = Options::new();
    for (key, value) in [("Driver", command.driver), ("Parent", command.parent)] {
        if let Some(value) = value {
            options.insert(key, value.into());
        }
    }
    let flags =
        [("IPv6", command.ipv6), ("Internal", command.internal), ("Isolate", command.isolate)];
    for (key, on) in flags {
        if on {
            options.insert(key, true.into());
        }
    }
    if let Some(dns) = command.dns {
        options.insert("DNS", dns.into());
    }
    if !command.subnet.is_empty() {
        let subnet = |subnet: String| Entry::from([("Subnet", subnet.into())]);
        let subnets: Vec<_> = command.subnet.into_iter().map(subnet).collect();
        options.insert("Subnets", subnets.into());
    }
    ManagerProxy::new(bus).await?.create_network(&command.name, options).await?;
    say(&command.name)
}

async fn update(bus: &Connection, command: UpdateNetwork) -> Result<(), Failure> {
    let mut options = Options::new();
    for (key, list) in [
        ("AddDNSServers", command.dns_add),
        ("RemoveDNSServers", command.dns_rm),
        ("RemoveLabels", command.label_rm),
    ] {
        if !list.is_empty() {
            options.insert(key, list.into());
        }
    }
    if !command.label_add.is_empty() {
        let pair = |label: &String| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            (key.to_owned(), value.to_owned())
        };
        let labels: HashMap<_, _> = command.label_add.iter().map(pair).collect();
        options.insert("AddLabels", labels.into());
    }
    client::network(bus, &command.name).await?.update(options).await?;
    Ok(())
}

/// Options of a container that is on these networks, and publishes these ports.
pub(crate) fn of_container(
    networks: &[String],
    ports: &[String],
) -> Result<Options<'static>, Failure> {
    let mut options = Options::new();
    match networks {
        [] => {}
        [mode] if is_mode(mode) => {
            options.insert("NetworkMode", mode.clone().into());
        }
        names => {
            let entry = |name: &String| Entry::from([("Network", name.clone().into())]);
            options.insert("Networks", names.iter().map(entry).collect::<Vec<_>>().into());
        }
    }
    publish(&mut options, ports)?;
    Ok(options)
}

/// Says which ports are published, if any are.
pub(crate) fn publish(options: &mut Options<'_>, ports: &[String]) -> Result<(), Failure> {
    if !ports.is_empty() {
        let ports: Vec<_> = ports.iter().map(|text| port(text)).collect::<Result<_, _>>()?;
        options.insert("PublishedPorts", ports.into());
    }
    Ok(())
}

/// Whether this is no network's name, but says how a container is connected.
fn is_mode(text: &str) -> bool {
    matches!(text, "none" | "host" | "private")
        || text.starts_with("container:")
        || text.starts_with("ns:")
}

/// `[[ADDRESS:]PORT:]PORT[/PROTOCOL]`, where an IPv6 address is in brackets.
fn port(text: &str) -> Result<Entry<'static>, Failure> {
    let wrong = || Failure::Usage(format!("'{text}' is not [[ADDRESS:]PORT:]PORT[/PROTOCOL]"));
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => (address, host),
        None => ("", rest),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Ok(Entry::from([
        ("HostAddress", address.to_owned().into()),
        ("HostPort", if host.is_empty() { 0 } else { number(host)? }.into()),
        ("ContainerPort", number(container)?.into()),
        ("Protocol", protocol.to_owned().into()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let entry = port(text).ok()?;
        let text = |key: &str| String::try_from(entry[key].try_clone().unwrap()).unwrap();
        let number = |key: &str| u16::try_from(entry[key].try_clone().unwrap()).unwrap();
        let (host, container) = (number("HostPort"), number("ContainerPort"));
        Some(format!("{} {host} {container} {}", text("HostAddress"), text("Protocol")))
    }

    #[test]
    fn ports_are_read_as_people_write_them() {
        for (text, want) in [
            ("80", Some(" 0 80 tcp")),
            ("8080:80", Some(" 8080 80 tcp")),
            ("53:53/udp", Some(" 53 53 udp")),
            ("127.0.0.1:8080:80", Some("127.0.0.1 8080 80 tcp")),
            ("[::1]:8080:80", Some("::1 8080 80 tcp")),
            ("127.0.0.1::80", Some("127.0.0.1 0 80 tcp")),
            ("", None),
            ("web", None),
            ("70000:80", None),
            ("80:", None),
        ] {
            assert_eq!(read(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_mode_is_told_from_the_name_of_a_network() {
        let keys = |networks: &[&str]| {
            let networks: Vec<String> = networks.iter().map(|&name| name.to_owned()).collect();
            let options = of_container(&networks, &[]).unwrap();
            options.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(keys(&["none"]), ["NetworkMode"]);
        assert_eq!(keys(&["container:web"]), ["NetworkMode"]);
        assert_eq!(keys(&["ns:/run/netns/x"]), ["NetworkMode"]);
        assert_eq!(keys(&["web"]), ["Networks"]);
        assert_eq!(keys(&["web", "none"]), ["Networks"]);
        assert_eq!(keys(&[]), Vec::<&str>::new());
    }
}
