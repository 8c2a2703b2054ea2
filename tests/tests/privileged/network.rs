//! What containers reach, and as whom.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use rustix::mount::UnmountFlags;
use system_tests::{Client, Tared, on_scratch_host, run};
use tokio::io::AsyncWriteExt;
use zbus::OwnedObjectPath;

use super::main_job::address;
use super::started;

/// Whether bridged packets pass the IP firewall: most hosts have one setting or the other.
const NETFILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Longer than a container tries to get through.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn privileged_containers_reach_each_other_and_the_host() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let server =
            started(&client, "server", "while :; do echo hello | nc -l -p 5000; done").await;
        let caller = started(&client, "caller", "sleep 1000").await;
        for value in netfilter_settings() {
            if let Some(value) = value {
                fs::write(NETFILTER, value).unwrap();
            }
            reach_each_other(&client, &server, &caller).await;
            reach_the_host(&client, &caller).await;
        }
        for path in [server, caller] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_the_world_sees_the_hosts_address() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        make_outside();
        let path = started(&client, "c", "sleep 1000").await;
        for value in netfilter_settings() {
            if let Some(value) = value {
                fs::write(NETFILTER, value).unwrap();
            }
            let listener = host.in_network("outside", || listen("203.0.113.2"));
            let seen = called_from(&client, &path, listener).await;
            assert_eq!(seen, "203.0.113.1".parse::<IpAddr>().unwrap(), "netfilter {value:?}");
        }
        client.remove(&path).await.done();
        tared.stop();
        remove_outside().await;
    });
}

#[test]
fn privileged_an_address_rests_before_it_is_used_again() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mut seen = Vec::new();
        for name in ["a", "b", "c"] {
            let path = started(&client, name, "sleep 1000").await;
            seen.push(address(&client, &path).await["Address"].clone());
            client.remove(&path).await.done();
        }
        let mut different = seen.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 3, "{seen:?}");
        tared.stop();
    });
}

/// Both settings where there is one.
fn netfilter_settings() -> Vec<Option<&'static str>> {
    if Path::new(NETFILTER).exists() { vec![Some("0"), Some("1")] } else { vec![None] }
}

async fn reach_each_other(client: &Client, server: &OwnedObjectPath, caller: &OwnedObjectPath) {
    let address = address(client, server).await;
    let (ip, _) = address["Address"].split_once('/').unwrap();
    let heard = client.exec(caller, &format!("nc -w 5 {ip} 5000")).await;
    assert_eq!(heard.stdout, "hello\n", "{heard:?}");
}

/// The host sees who it is: nothing is translated on the way to the gateway.
async fn reach_the_host(client: &Client, caller: &OwnedObjectPath) {
    let address = address(client, caller).await;
    let (ip, _) = address["Address"].split_once('/').unwrap();
    let seen = called_from(client, caller, listen(&address["Gateway"])).await;
    assert_eq!(seen, ip.parse::<IpAddr>().unwrap());
}

fn listen(address: &str) -> TcpListener {
    TcpListener::bind((address.parse::<IpAddr>().unwrap(), 0)).unwrap()
}

/// Lets a container call, talks with it, and returns whom the server took it for.
async fn called_from(client: &Client, path: &OwnedObjectPath, listener: TcpListener) -> IpAddr {
    let to = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let serve = async {
        let (mut stream, peer) = listener.accept().await.unwrap();
        stream.write_all(b"welcome\n").await.unwrap();
        peer.ip()
    };
    let script = format!("nc -w 5 {} {}", to.ip(), to.port());
    let serve = tokio::time::timeout(PATIENCE, serve);
    let (seen, heard) = tokio::join!(serve, client.exec(path, &script));
    assert_eq!(heard.stdout, "welcome\n", "{heard:?}");
    seen.expect("somebody called")
}

/// A network namespace that knows no way back to containers, on a veth pair of the host.
fn make_outside() {
    for command in [
        "netns add outside",
        "link add out0 type veth peer name eth0 netns outside",
        "addr add 203.0.113.1/24 dev out0",
        "link set out0 up",
        "-n outside addr add 203.0.113.2/24 dev eth0",
        "-n outside link set eth0 up",
    ] {
        run("ip", &command.split(' ').collect::<Vec<_>>());
    }
}

/// And what `ip` made of the directory of names, which so is not the daemon's to undo.
async fn remove_outside() {
    run("ip", &["netns", "del", "outside"]);
    rustix::mount::unmount("/run/netns", UnmountFlags::empty()).unwrap();
    // A veth pair goes a moment after its namespace.
    while run("ip", &["-o", "link"]).contains("out0") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
