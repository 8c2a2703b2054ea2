//! What is set by file in `/proc/sys/net`, which shows the namespace of the calling thread.

use std::fs;
use std::io;

use crate::{InterfaceName, IpFamily};

const IPV6: &str = "/proc/sys/net/ipv6/conf";

/// Takes no router advertisements on `interface`, or with `default` on those to come.
///
/// Without IPv6 there is no such file, and no advertisement is taken.
pub(super) fn ignore_advertisements(interface: &str) -> io::Result<()> {
    match fs::write(format!("{IPV6}/{interface}/accept_ra"), "0") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Takes router advertisements although the host forwards.
pub(super) fn keep_advertisements(interface: &InterfaceName) -> io::Result<()> {
    match fs::write(format!("{IPV6}/{interface}/accept_ra"), "2") {
        // The interface is gone meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The interfaces that take router advertisements as long as the host does not forward.
pub(super) fn advertised() -> io::Result<Vec<InterfaceName>> {
    let entries = match fs::read_dir(IPV6) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        // `all` and `default` are no names of interfaces.
        let Some(name) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if takes_advertisements(&name)? {
            found.push(name);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn takes_advertisements(name: &InterfaceName) -> io::Result<bool> {
    let read = |file| match fs::read_to_string(format!("{IPV6}/{name}/{file}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text,
    };
    Ok(read("accept_ra")?.trim_end() == "1" && read("forwarding")?.trim_end() == "0")
}

fn forwarding(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "/proc/sys/net/ipv4/ip_forward",
        IpFamily::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}

pub(super) fn forwards(family: IpFamily) -> io::Result<bool> {
    Ok(fs::read_to_string(forwarding(family))?.trim_end() != "0")
}

pub(super) fn enable_forwarding(family: IpFamily) -> io::Result<()> {
    fs::write(forwarding(family), "1")
}

pub(super) fn route_localnet(interface: &InterfaceName) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet"), "1")
}
