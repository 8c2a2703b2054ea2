//! What containers reach, and as whom: over whatever bus, on whatever host.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, TcpListener};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use zbus::OwnedObjectPath;

use crate::main_job::address;
use crate::{Client, run, started, sys};

/// Whether bridged packets pass the IP firewall: most hosts have one setting or the other.
const NETFILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Longer than a container tries to get through.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server and a caller reach each other, and the caller the host, with both settings of
/// `bridge-nf-call-iptables`.
///
/// # Panics
///
/// If they do not.
pub async fn containers_reach_each_other_and_the_host(client: &Client) {
    let server = started(client, "server", "while :; do echo hello | nc -l -p 5000; done").await;
    let caller = started(client, "caller", "sleep 1000").await;
    for setting in netfilter_settings() {
        setting.apply();
        reach_each_other(client, &server, &caller).await;
        reach_the_host(client, &caller).await;
    }
    for path in [server, caller] {
        client.remove(&path).await.done();
    }
}

/// Whoever is called from a container outside of the host takes it for the host, with both
/// settings of `bridge-nf-call-iptables`.
///
/// # Panics
///
/// If it does not.
pub async fn the_world_sees_the_hosts_address(client: &Client) {
    make_outside();
    let path = started(client, "c", "sleep 1000").await;
    for setting in netfilter_settings() {
        setting.apply();
        let listener = in_network("outside", || listen("203.0.113.2"));
        let seen = called_from(client, &path, listener).await;
        assert_eq!(seen, "203.0.113.1".parse::<IpAddr>().unwrap(), "netfilter {setting:?}");
    }
    client.remove(&path).await.done();
    remove_outside().await;
}

/// Runs `body` in the network namespace of that name, on a thread that ends with it. Sockets it
/// returns stay there.
///
/// # Panics
///
/// If there is no such namespace.
pub fn in_network<T: Send>(name: &str, body: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(Path::new("/run/netns").join(name)).unwrap();
    thread::scope(|scope| {
        let inside = move || {
            sys::enter_network(&namespace).unwrap();
            body()
        };
        scope.spawn(inside).join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Says `hello` and a newline to one caller; who that is.
///
/// # Panics
///
/// In its thread, if nobody can be served.
pub fn greet_once(server: TcpListener) -> thread::JoinHandle<IpAddr> {
    thread::spawn(move || {
        let (mut stream, peer) = server.accept().unwrap();
        io::Write::write_all(&mut stream, b"hello\n").unwrap();
        peer.ip()
    })
}

/// A value of `bridge-nf-call-iptables`.
#[derive(Debug)]
pub struct Netfilter(&'static str);

impl Netfilter {
    /// Sets it, in the network namespace of this thread.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn apply(&self) {
        let set = fs::write(NETFILTER, self.0);
        set.unwrap_or_else(|error| panic!("{NETFILTER}: {error}; is br_netfilter loaded?"));
    }
}

/// What the whole suite is to run with: `0` or `1`, or what the kernel has. `make` runs it with both.
const ASKED: &str = "TARE_BRIDGE_NF";

impl Netfilter {
    /// What the suite was asked to run with.
    pub fn asked() -> Option<String> {
        std::env::var(ASKED).ok()
    }

    /// Sets that, of IPv4 and IPv6, in the network namespace of this thread. Where the kernel has no such
    /// setting, one test says so, and not all of them.
    pub(crate) fn apply_asked() {
        let Some(asked) = Self::asked() else { return };
        for family in ["iptables", "ip6tables"] {
            let _ = fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), &asked);
        }
    }

    /// What is set in the network namespace of this thread.
    ///
    /// # Panics
    ///
    /// Where the kernel has no such setting.
    pub fn now() -> String {
        let now = fs::read_to_string(NETFILTER);
        let now =
            now.unwrap_or_else(|error| panic!("{NETFILTER}: {error}; is br_netfilter loaded?"));
        now.trim_end().into()
    }
}

/// Both settings.
pub fn netfilter_settings() -> [Netfilter; 2] {
    ["0", "1"].map(Netfilter)
}

async fn reach_each_other(client: &Client, server: &OwnedObjectPath, caller: &OwnedObjectPath) {
    let address = address(client, server).await;
    let (ip, _) = address["Address"].split_once('/').unwrap();
    let heard = client.exec(caller, &format!("nc -w 5 {ip} 5000")).await;
    assert_eq!(heard.stdout, "hello\n", "{heard:?}");
}

/// The host sees who a container is: nothing is translated on the way to the gateway.
///
/// # Panics
///
/// If it does not, or the container gets no answer.
pub async fn reach_the_host(client: &Client, caller: &OwnedObjectPath) {
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
pub fn make_outside() {
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

async fn remove_outside() {
    run("ip", &["netns", "del", "outside"]);
    // A veth pair goes a moment after its namespace.
    while run("ip", &["-o", "link"]).contains("out0") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
