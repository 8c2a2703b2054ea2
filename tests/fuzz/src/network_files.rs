//! `resolv.conf` and `hosts` of the host, of which a container gets what it can use.

use std::net::IpAddr;

use serde_json::json;
use tare_specgen::{
    DnsOption, DomainName, Generated, HOST_NAME, MAX_NAMESERVERS, SearchDomain, stub,
};

use crate::Verdict;
use crate::config::Container;
use crate::text::assert_plain;

pub(crate) fn resolv_conf(data: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(data);
    // Of any text it is told whom it names, if it names a stub.
    let _ = stub(&text);
    let mut verdict = Verdict::Refused;
    for network in ["private", "host"] {
        let of_host = |text: &str| {
            let mut container = Container::new();
            container.host.resolv_conf = Some(text.to_owned());
            container.host.own_resolv_conf = Some(text.to_owned());
            let made = container.generate(json!({ "NetworkMode": network })).unwrap();
            for warning in &made.warnings {
                assert_plain(&warning.to_string());
            }
            content(&made, "/etc/resolv.conf")
        };
        let written = of_host(&text);
        written.lines().for_each(|line| assert_of_resolvers(line, network));
        let servers = written.lines().filter(|line| line.starts_with("nameserver ")).count();
        assert!(servers <= MAX_NAMESERVERS, "{written}");
        assert_eq!(of_host(&written), written, "{network}: read again it is the same");
        if !written.is_empty() {
            verdict = Verdict::Taken;
        }
    }
    verdict
}

fn assert_of_resolvers(line: &str, network: &str) {
    assert_plain(line);
    let (key, words) = line.split_once(' ').unwrap();
    let all = |is: fn(&str) -> bool| words.split(' ').all(is);
    let well_formed = match key {
        "nameserver" if network == "private" => words.parse::<IpAddr>().is_ok_and(is_reachable),
        "nameserver" => {
            let (address, zone) = words.split_once('%').unwrap_or((words, ""));
            address.parse::<IpAddr>().is_ok() && !zone.contains(' ')
        }
        "search" => all(|word| matches!(word.parse(), Ok(SearchDomain::Name(_)))),
        "options" => all(|word| word.parse::<DnsOption>().is_ok()),
        _ => false,
    };
    assert!(well_formed, "{network}: {line:?}");
}

/// Out of a network of its own, whatever form the address has.
fn is_reachable(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !address.is_loopback() && !address.is_unspecified()
}

pub(crate) fn hosts(data: &[u8]) -> Verdict {
    let begin_with = |file: &[u8]| {
        let mut container = Container::new();
        container.host.hosts = Some(file.to_vec());
        let request = json!({ "BaseHosts": "host", "Hosts": { "asked": "192.0.2.7" } });
        content(&container.generate(request).unwrap(), "/etc/hosts")
    };
    let written = begin_with(data);
    written.lines().for_each(assert_plain);
    for (name, address) in [
        ("localhost", "127.0.0.1"),
        ("asked", "192.0.2.7"),
        ("web", "10.88.0.2"),
        (HOST_NAME, "10.88.0.1"),
    ] {
        assert_eq!(first_address(&written, name), Some(address), "of {name}: {written}");
    }
    // What is ours ends with the line of the host's name; what follows is the file's.
    let ours = format!(" {HOST_NAME}\n");
    let (_, of_file) = written.split_once(&ours).unwrap();
    of_file.lines().for_each(assert_entry);
    let again = begin_with(of_file.as_bytes());
    assert_eq!(again.split_once(&ours).unwrap().1, of_file, "read again it is the same");
    if of_file.is_empty() { Verdict::Refused } else { Verdict::Taken }
}

/// As resolvers look it up: the first line that has the name.
fn first_address<'t>(hosts: &'t str, name: &str) -> Option<&'t str> {
    let line = hosts.lines().find(|line| line.split_whitespace().skip(1).any(|it| it == name))?;
    line.split_whitespace().next()
}

fn assert_entry(line: &str) {
    let (address, names) = line.split_once(' ').unwrap();
    assert!(address.parse::<IpAddr>().is_ok(), "{line:?}");
    let ours = ["asked", "web", "localhost"];
    for name in names.split(' ') {
        assert!(name.parse::<DomainName>().is_ok() && !ours.contains(&name), "{line:?}");
    }
}

fn content(made: &Generated, target: &str) -> String {
    let file = made.files.iter().find(|file| file.target.as_str() == target).unwrap();
    String::from_utf8(file.content.as_ref().to_vec()).unwrap()
}
