//! Networks, and what a container asks for on one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tare_netns::{
    AddressRange, Connection, Names, NetworkName, PortRequest, Protocol, Reach, VlanId,
};

use super::error::ApiError;
use super::options::{Options, Values};
use super::text::{list, parsed, text, wrong};
use crate::engine::{
    AskedConnection, AskedDriver, AskedNetwork, AskedSubnet, Error, NetworkChanges,
};
use crate::names::is_server;

/// The name of a network to be made.
pub(crate) fn name(name: &str) -> Result<NetworkName, ApiError> {
    name.parse().map_err(|error| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
        ApiError::own("InvalidName", format!("'{shown}' is not a name for a network: {error}"))
    })
}

/// Options of `CreateNetwork`.
pub(crate) fn create(options: Values) -> Result<AskedNetwork, ApiError> {
    let mut o = Options::new(options);
    let driver = driver(&mut o)?;
    let asked = AskedNetwork {
        names: names(&mut o, &driver)?,
        driver,
        subnets: o.dictionaries("Subnets")?.into_iter().map(subnet).collect::<Result<_, _>>()?,
        ipv6: o.boolean("IPv6")?.unwrap_or_default(),
        reach: reach(&mut o)?,
        mtu: o.number("MTU")?,
        labels: o.string_map("Labels")?.unwrap_or_default(),
    };
    o.finish()?;
    check_labels("Labels", &asked.labels)?;
    Ok(asked)
}

/// Options of `Network.Update`.
pub(crate) fn update(options: Values) -> Result<NetworkChanges, ApiError> {
    let mut o = Options::new(options);
    let changes = NetworkChanges {
        remove_servers: list(&mut o, "RemoveDNSServers")?.unwrap_or_default().into_iter().collect(),
        add_servers: list(&mut o, "AddDNSServers")?.unwrap_or_default(),
        remove_labels: o.strings("RemoveLabels")?.unwrap_or_default().into_iter().collect(),
        add_labels: o.string_map("AddLabels")?.unwrap_or_default(),
    };
    o.finish()?;
    check_labels("AddLabels", &changes.add_labels)?;
    match changes.add_servers.iter().find(|server| !is_server(**server)) {
        Some(server) => Err(wrong("AddDNSServers", &format!("no container reaches {server}"))),
        None => Ok(changes),
    }
}

fn driver(o: &mut Options) -> Result<AskedDriver, ApiError> {
    let vlan = o.number::<u16>("VLAN")?.map(VlanId::new).transpose();
    let vlan = vlan.map_err(|error| wrong("VLAN", &error))?;
    let (interface, parent) = (text(o, "Interface")?, text(o, "Parent")?);
    let mode = o.string("Mode")?;
    match o.string("Driver")?.as_deref().unwrap_or("bridge") {
        "bridge" if parent.is_some() => Err(wrong("Parent", &"a bridge has none")),
        "bridge" if mode.is_some() => Err(wrong("Mode", &"a bridge has none")),
        "bridge" => Ok(AskedDriver::Bridge(interface, vlan)),
        "macvlan" if interface.is_some() => {
            Err(wrong("Interface", &"a macvlan network has none of its own"))
        }
        "macvlan" if vlan.is_some() => {
            Err(wrong("VLAN", &"a macvlan network takes that of its parent"))
        }
        "macvlan" => match parent {
            None => Err(wrong("Parent", &"a macvlan network needs one")),
            Some(parent) => {
                let mode = mode.map(|mode| parsed("Mode", &mode)).transpose()?;
                Ok(AskedDriver::Macvlan(parent, mode.unwrap_or_default()))
            }
        },
        _ => Err(wrong("Driver", &"must be bridge or macvlan")),
    }
}

fn reach(o: &mut Options) -> Result<Reach, ApiError> {
    let (internal, isolate) = (o.boolean("Internal")?, o.boolean("Isolate")?);
    Ok(match (internal.unwrap_or_default(), isolate.unwrap_or_default()) {
        (true, _) => Reach::Internal,
        (false, true) => Reach::Isolated,
        (false, false) => Reach::Open,
    })
}

/// The host has a place to answer from only on a bridge.
fn names(o: &mut Options, driver: &AskedDriver) -> Result<Names, ApiError> {
    match (o.boolean("DNS")?, driver) {
        (None | Some(true), AskedDriver::Bridge(..)) => Ok(Names::Answered),
        (Some(true), AskedDriver::Macvlan(..)) => {
            Err(wrong("DNS", &"names are not answered on a macvlan network"))
        }
        (None | Some(false), _) => Ok(Names::Off),
    }
}

fn subnet(mut o: Options) -> Result<AskedSubnet, ApiError> {
    let subnet: Option<IpNet> = text(&mut o, "Subnet")?;
    let name = o.name("Subnet");
    let gateway = text(&mut o, "Gateway")?;
    let (first, last) = (text(&mut o, "RangeStart")?, text(&mut o, "RangeEnd")?);
    let range = match (first, last) {
        (None, None) => None,
        (Some(first), Some(last)) => Some(AddressRange { first, last }),
        _ => return Err(wrong(&o.name("RangeStart"), &"a range has two ends")),
    };
    o.finish()?;
    let subnet = subnet.ok_or_else(|| wrong(&name, &"is needed"))?;
    Ok(AskedSubnet { subnet, gateway, range })
}

/// They end in JSON and in properties.
fn check_labels(option: &str, labels: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let fits = |text: &String| text.len() <= 4096 && !text.contains('\0');
    if labels.iter().all(|(key, value)| !key.is_empty() && fits(key) && fits(value)) {
        Ok(())
    } else {
        Err(wrong(option, &"a key is empty, or a text longer than 4096 bytes"))
    }
}

/// Option `Networks` of `CreateContainer`.
pub(super) fn connections(o: &mut Options) -> Result<Vec<AskedConnection>, ApiError> {
    o.dictionaries("Networks")?.into_iter().map(asked_connection).collect()
}

fn asked_connection(mut o: Options) -> Result<AskedConnection, ApiError> {
    let network = o.network("Network")?;
    let name = o.name("Network");
    let connection = connection_of(&mut o)?;
    o.finish()?;
    let network = network.ok_or_else(|| wrong(&name, &"is needed"))?;
    Ok(AskedConnection { network, connection })
}

/// Options of `ConnectNetwork`.
pub(crate) fn connection(options: Values) -> Result<Connection, ApiError> {
    let mut o = Options::new(options);
    let connection = connection_of(&mut o)?;
    o.finish()?;
    Ok(connection)
}

fn connection_of(o: &mut Options) -> Result<Connection, ApiError> {
    Ok(Connection {
        addresses: list(o, "Addresses")?.unwrap_or_default(),
        mac: text(o, "MAC")?,
        interface: text(o, "Interface")?,
        aliases: list(o, "Aliases")?.unwrap_or_default(),
    })
}

/// Option `PublishedPorts` of `CreateContainer`.
pub(super) fn ports(o: &mut Options) -> Result<Vec<PortRequest>, ApiError> {
    o.dictionaries("PublishedPorts")?.into_iter().map(port).collect()
}

/// Argument of `PublishPorts` and `UnpublishPorts`.
pub(crate) fn port_list(list: Vec<Values>) -> Result<Vec<PortRequest>, ApiError> {
    let ports: Vec<_> =
        list.into_iter().map(|values| port(Options::new(values))).collect::<Result<_, _>>()?;
    tare_netns::check_ports(&ports).map_err(|error| ApiError::from(Error::InvalidPorts(error)))?;
    Ok(ports)
}

fn port(mut o: Options) -> Result<PortRequest, ApiError> {
    let address = o.string("HostAddress")?.filter(|address| !address.is_empty());
    let name = o.name("HostAddress");
    let address: Option<IpAddr> = address.map(|text| parsed(&name, &text)).transpose()?;
    let host = o.number("HostPort")?.unwrap_or(0);
    let container: Option<u16> = o.number("ContainerPort")?;
    let container = container.ok_or_else(|| wrong(&o.name("ContainerPort"), &"is needed"))?;
    let count = o.number("Range")?.unwrap_or(1);
    let protocol = text(&mut o, "Protocol")?.unwrap_or(Protocol::Tcp);
    let request = PortRequest::new(address, protocol, host, container, count);
    let request = request.map_err(|error| wrong(&o.name("ContainerPort"), &error));
    o.finish()?;
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::value::Value;
    use crate::engine::object::ObjectId;

    fn values(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Values {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn map(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
        Value::Map(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    #[test]
    fn a_network_arrives() {
        let subnet = map([
            ("Subnet", "10.99.0.0/24".into()),
            ("Gateway", "10.99.0.254".into()),
            ("RangeStart", "10.99.0.10".into()),
            ("RangeEnd", "10.99.0.20".into()),
        ]);
        let asked = create(values([
            ("Subnets", Value::List(vec![subnet])),
            ("Isolate", Value::Bool(true)),
            ("VLAN", 7.into()),
            ("MTU", 1400.into()),
        ]))
        .unwrap();
        assert_eq!(asked.driver, AskedDriver::Bridge(None, Some(VlanId::new(7).unwrap())));
        assert_eq!((asked.reach, asked.mtu), (Reach::Isolated, Some(1400)));
        assert_eq!(asked.subnets[0].range.unwrap().last.to_string(), "10.99.0.20");
        let nothing = create(Values::new()).unwrap();
        assert_eq!(nothing.names, Names::Answered);
        let macvlan = |dns: Option<bool>| {
            let pairs = [("Driver", "macvlan".into()), ("Parent", "eth0".into())];
            create(values(pairs.into_iter().chain(dns.map(|dns| ("DNS", Value::Bool(dns))))))
        };
        assert_eq!(macvlan(None).unwrap().names, Names::Off);
        let error = macvlan(Some(true)).unwrap_err();
        assert!(error.message().contains("'DNS'"), "{error:?}");
        assert_eq!(nothing.driver, AskedDriver::Bridge(None, None));
        assert_eq!((nothing.subnets, nothing.labels), (Vec::new(), BTreeMap::new()));
    }

    #[test]
    fn changes_arrive_and_what_nobody_can_ask_is_refused() {
        let texts = |texts: &[&str]| Value::List(texts.iter().map(|&text| text.into()).collect());
        let changes = update(values([
            ("AddDNSServers", texts(&["192.0.2.1", "2001:db8::1"])),
            ("RemoveDNSServers", texts(&["192.0.2.2"])),
            ("AddLabels", map([("a", "b".into())])),
            ("RemoveLabels", texts(&["c"])),
        ]))
        .unwrap();
        assert_eq!(changes.add_servers.len(), 2);
        assert_eq!(changes.remove_servers, ["192.0.2.2".parse().unwrap()].into());
        assert_eq!(changes.add_labels, [("a".to_owned(), "b".to_owned())].into());
        assert_eq!(changes.remove_labels, ["c".to_owned()].into());
        for (key, value) in [
            ("AddDNSServers", texts(&["localhost"])),
            ("AddDNSServers", texts(&["127.0.0.53"])),
            ("AddDNSServers", texts(&["::ffff:127.0.0.1"])),
            ("AddDNSServers", texts(&["0.0.0.0"])),
            ("AddDNSServers", texts(&["224.0.0.1"])),
            ("AddDNSServers", texts(&["255.255.255.255"])),
            ("AddDNSServers", texts(&["fe80::1"])),
            ("AddDNSServers", texts(&["::1"])),
            ("RemoveDNSServers", texts(&["x"])),
            ("AddLabels", map([("", "x".into())])),
            ("Labels", map([("a", "x".into())])),
        ] {
            let about = format!("{value:?}");
            let error = update(values([(key, value)])).unwrap_err();
            assert!(error.message().contains(&format!("'{key}'")), "{about}: {error:?}");
        }
    }

    #[test]
    fn what_is_wrong_names_itself() {
        let subnets = |pairs: Vec<(&'static str, Value)>| Value::List(vec![map(pairs)]);
        for (key, value, named) in [
            ("Driver", "ipvlan".into(), "Driver"),
            ("Driver", "macvlan".into(), "Parent"),
            ("DNS", "yes".into(), "DNS"),
            ("Parent", "eth0".into(), "Parent"),
            ("Interface", "a/b".into(), "Interface"),
            ("VLAN", 4095.into(), "VLAN"),
            ("Subnets", subnets(vec![]), "Subnets[0].Subnet"),
            ("Subnets", subnets(vec![("Subnet", "10.0.0.0/99".into())]), "Subnets[0].Subnet"),
            ("Subnets", subnets(vec![("Gatewy", "x".into())]), "Subnets[0].Gatewy"),
            ("Subnets", subnets(vec![("RangeStart", "10.0.0.1".into())]), "Subnets[0].RangeStart"),
            ("Labels", map([("", "x".into())]), "Labels"),
        ] {
            let error = create(values([(key, value)])).unwrap_err();
            assert!(error.message().contains(&format!("'{named}'")), "{key}: {error:?}");
        }
        assert_eq!(name("a/b").unwrap_err().short_name(), "InvalidName");
    }

    #[test]
    fn ports_and_connections_name_themselves_too() {
        let ports = |pairs: Vec<(&'static str, Value)>| {
            let list = vec![map(pairs)];
            self::ports(&mut Options::new(values([("PublishedPorts", Value::List(list))])))
        };
        let port = ports(vec![("ContainerPort", 80.into()), ("Protocol", "udp".into())]).unwrap();
        assert_eq!((port[0].host(), port[0].container(), port[0].count()), (None, 80, 1));
        for (pairs, named) in [
            (vec![], "ContainerPort"),
            (vec![("ContainerPort", 0.into())], "ContainerPort"),
            (vec![("ContainerPort", 70_000.into())], "ContainerPort"),
            (vec![("ContainerPort", 1.into()), ("Protocol", "icmp".into())], "Protocol"),
            (vec![("ContainerPort", 1.into()), ("HostAddress", "x".into())], "HostAddress"),
        ] {
            let error = ports(pairs).unwrap_err();
            let named = format!("'PublishedPorts[0].{named}'");
            assert!(error.message().contains(&named), "{error:?}");
        }
        let asked = |pairs: Vec<(&'static str, Value)>| {
            let list = vec![map(pairs)];
            connections(&mut Options::new(values([("Networks", Value::List(list))])))
        };
        assert_eq!(asked(vec![("Network", "web".into())]).unwrap()[0].network, "web");
        let by_object = vec![("Network", Value::Object(ObjectId::Network("web".parse().unwrap())))];
        assert_eq!(asked(by_object).unwrap()[0].network, "web");
        for (pairs, named) in [
            (vec![], "Network"),
            (vec![("MAC", "nonsense".into())], "MAC"),
            (vec![("Aliases", Value::List(vec!["a b".into()]))], "Aliases"),
            (vec![("Interface", "abcdefghijklmnop".into())], "Interface"),
            (vec![("Addresses", Value::List(vec!["x".into()]))], "Addresses"),
        ] {
            let error = asked(pairs).unwrap_err();
            let named = format!("'Networks[0].{named}'");
            assert!(error.message().contains(&named), "{error:?}");
        }
    }
}
