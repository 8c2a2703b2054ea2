//! What podman calls for the network of a container.

use std::fs;
use std::time::{Duration, Instant};

use super::run;
use crate::Result;

/// As Debian has it.
const PROGRAM: &str = "/usr/lib/podman/netavark";
/// Where it keeps what it has given out.
const CONFIG: &str = "/run/tare-bench-netavark";
/// The namespace that is its host: with that, all goes that it leaves there.
const HOST: &str = "tare-bench-host";

/// The time of `netavark setup`, for a namespace that is there. It is entered into its host by a
/// program more, which takes a millisecond of its fifty.
pub(super) fn set_up(number: u8) -> Result<Duration> {
    if number == 0 {
        run(&["ip", "netns", "add", HOST], "")?;
        fs::create_dir_all(CONFIG)?;
    }
    let name = format!("tare-bench-{number}");
    run(&["ip", "netns", "add", &name], "")?;
    let request = request(number);
    let begun = Instant::now();
    call("setup", &name, &request)?;
    let took = begun.elapsed();
    call("teardown", &name, &request)?;
    run(&["ip", "netns", "delete", &name], "")?;
    Ok(took)
}

/// Takes away what it leaves.
pub(super) fn clean() -> Result<()> {
    run(&["ip", "netns", "delete", HOST], "")?;
    Ok(fs::remove_dir_all(CONFIG)?)
}

fn call(verb: &str, name: &str, request: &str) -> Result<()> {
    let (host, path) = (format!("--net=/run/netns/{HOST}"), format!("/run/netns/{name}"));
    run(&["nsenter", &host, PROGRAM, "--config", CONFIG, verb, &path], request)
}

fn request(number: u8) -> String {
    let id = "0".repeat(62) + &format!("{number:02x}");
    let address = format!("10.99.0.{}", number + 2);
    format!(
        r#"{{"container_id":"{id}","container_name":"bench-{number}",
        "networks":{{"bench":{{"static_ips":["{address}"],"interface_name":"eth0"}}}},
        "network_info":{{"bench":{{"name":"bench","id":"{id}","driver":"bridge",
        "network_interface":"bench0","created":"2026-01-01T00:00:00Z",
        "subnets":[{{"subnet":"10.99.0.0/24","gateway":"10.99.0.1"}}],"ipv6_enabled":false,
        "internal":false,"dns_enabled":false,"ipam_options":{{"driver":"host-local"}}}}}}}}"#
    )
}
