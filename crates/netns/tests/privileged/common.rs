//! What the privileged tests share: a host of their own, and eyes to see what is left on it.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;
use std::{fs, thread};

use host_world::{Scope, leaving_nothing, own_run};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{UnmountFlags, unmount};
use tare_netns::{
    Attachment, Bridge, Ensured, Error, Firewall, InterfaceName, IpFamily, Link, MacAddress,
    Namespace, Wanted, enable_forwarding, enter, release_directory, remove_bridge, teardown,
};

thread_local! {
    /// What the test of this thread has made.
    static MADE: RefCell<Made> = RefCell::default();
}

/// What a test has made and may leave to be taken away.
#[derive(Default)]
struct Made {
    containers: Vec<Wanted>,
    bridges: Vec<InterfaceName>,
    /// By hand: what takes it away.
    by_hand: Vec<(&'static str, Vec<String>)>,
}

impl Made {
    /// Takes everything away as who uses the crate does. What then is there has been left by it.
    fn remove(self) {
        for wanted in self.containers.iter().rev() {
            teardown(wanted).unwrap();
        }
        for (program, arguments) in self.by_hand.iter().rev() {
            // It may have gone with something else.
            let _ = match *program {
                // The program would leave a directory of its own.
                "umount" => unmount(arguments[0].as_str(), UnmountFlags::empty()).is_ok(),
                _ => Command::new(program).args(arguments).output().unwrap().status.success(),
            };
        }
        for bridge in &self.bridges {
            remove_bridge(bridge).unwrap();
        }
        if command("nft", &["list", "tables"]).lines().any(|line| line == "table inet tare") {
            Firewall::open(&name("tare")).unwrap().delete_table().unwrap();
        }
        release_directory().unwrap();
    }

    /// What `ip` and `nft` are told to make is taken away by them, too.
    fn note(&mut self, program: &str, arguments: &[&str]) {
        let words: Vec<&str> = arguments.iter().flat_map(|it| it.split(' ')).collect();
        let mut undo = |program, arguments: &[&str]| {
            let arguments = arguments.iter().map(ToString::to_string).collect();
            self.by_hand.push((program, arguments));
        };
        match (program, &words[..]) {
            ("ip", ["netns", "add", name]) => {
                // Unless it was a mount point before, it has become one.
                undo("umount", &["/run/netns"]);
                undo("ip", &["netns", "delete", name]);
            }
            ("ip", ["link", "add", name, ..]) => undo("ip", &["link", "delete", name]),
            ("ip", ["route", "add", "blackhole", to]) => undo("ip", &["route", "delete", to]),
            ("nft", ["add", "table", family, name]) => {
                undo("nft", &["delete", "table", family, name]);
            }
            _ => {}
        }
    }
}

/// The same of the crate; its container is taken away after the test.
pub(crate) fn setup(wanted: &Wanted) -> Result<Namespace, Error> {
    let namespace = tare_netns::setup(wanted)?;
    MADE.with_borrow_mut(|made| made.containers.push(wanted.clone()));
    Ok(namespace)
}

/// The same of the crate; its bridge is taken away after the test.
pub(crate) fn ensure_bridge(bridge: &Bridge) -> Result<Ensured, Error> {
    let ensured = tare_netns::ensure_bridge(bridge)?;
    MADE.with_borrow_mut(|made| made.bridges.push(bridge.name.clone()));
    Ok(ensured)
}

/// Runs `body` on a new thread with mount and network namespaces and a `/run` of its own.
///
/// # Panics
///
/// If not root: a privileged test that cannot run is a failure, never a silent pass.
pub(crate) fn on_scratch_host<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let isolated = move || {
        isolate();
        leaving_nothing(scope(), || {
            let done = body();
            MADE.take().remove();
            done
        })
    };
    thread::scope(|scope| {
        scope.spawn(isolated).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// All that is in the namespaces of a test; and no program, no thread and no descriptor of this process is
/// left in its network.
fn scope() -> Scope {
    let network = fs::read_link("/proc/thread-self/ns/net").unwrap();
    Scope::of_own_namespaces(vec![network.display().to_string()])
}

fn isolate() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("unshare");
    own_run();
    // It stays when the last namespace goes, as with `ip netns`.
    fs::create_dir("/run/netns").unwrap();
    command("ip", &["link", "set", "lo", "up"]);
    // The whole suite is run with both values.
    if let Ok(value) = std::env::var("TARE_BRIDGE_NF") {
        set_bridge_netfilter(&value);
    }
    // A new namespace begins with what the host has.
    for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{family}"), "0").unwrap();
    }
}

pub(crate) fn name<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// Runs a program in the namespaces of this thread and returns what it printed.
pub(crate) fn command(program: &str, arguments: &[&str]) -> String {
    MADE.with_borrow_mut(|made| made.note(program, arguments));
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Bridge `tare0` with the first address of 10.88.0.0/24.
pub(crate) fn bridge() -> Bridge {
    Bridge { name: name("tare0"), gateways: vec![name("10.88.0.1/24")], mtu: None, vlan: None }
}

/// Bridge `out0`, behind which the world begins.
pub(crate) fn outside() -> Bridge {
    Bridge { name: name("out0"), gateways: vec![name("192.0.2.1/24")], mtu: None, vlan: None }
}

pub(crate) fn ensure(bridge: &Bridge) {
    ensure_bridge(bridge).unwrap();
    enable_forwarding(IpFamily::V4).unwrap();
}

pub(crate) fn veth(bridge: &str, host_interface: &str) -> Link {
    Link::Bridge { bridge: name(bridge), host_interface: name(host_interface), vlan: None }
}

/// A container with one interface in `bridge`, whose address ends in `host`.
pub(crate) fn container(bridge: &Bridge, host: u8) -> Wanted {
    let gateway = bridge.gateways[0];
    let IpAddr::V4(v4) = gateway.addr() else { panic!("IPv4 here") };
    let [a, b, c, _] = v4.octets();
    let address = IpAddr::from([a, b, c, host]);
    let attachment = Attachment {
        link: veth(bridge.name.as_str(), &format!("ve-{}-{host}", &bridge.name.as_str()[..3])),
        interface: name("eth0"),
        mac: MacAddress::for_address(address),
        addresses: vec![name(&format!("{address}/{}", gateway.prefix_len()))],
        gateways: vec![gateway.addr()],
        position: 0,
    };
    Wanted { namespace: name(&format!("{}-{host}", bridge.name)), attachments: vec![attachment] }
}

/// Everything the crate can leave behind.
pub(crate) fn world() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let bound = mounts.lines().filter(|line| line.contains(" nsfs ")).map(str::to_owned);
    let files = fs::read_dir("/run/netns").map_or_else(
        |_| Vec::new(),
        |entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(),
    );
    let links = command("ip", &["-o", "link"]);
    // Which port a bridge waits on may change; what is there may not.
    let links = links.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned());
    let mut world: Vec<_> = bound.chain(files).chain(links).collect();
    world.push(command("ip", &["-o", "addr", "show", "scope", "global"]));
    world.push(command("nft", &["list", "ruleset"]));
    world.sort();
    world
}

/// A UDP socket in `place`, or on the host, that does not wait for ever.
pub(crate) fn socket(place: Option<&Namespace>, address: &str) -> UdpSocket {
    let open = || {
        let socket = UdpSocket::bind((name::<IpAddr>(address), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    };
    match place {
        Some(namespace) => enter(std::os::fd::AsFd::as_fd(namespace), open).unwrap(),
        None => open(),
    }
}

/// Sends a datagram and returns whom the receiver took for its sender; answers it, too.
pub(crate) fn there_and_back(from: &UdpSocket, to: &UdpSocket) -> IpAddr {
    let seen = arrives(from, to, to.local_addr().unwrap());
    to.send_to(b"back", seen).unwrap();
    let mut buffer = [0; 16];
    let (length, answer_from) = received(from, &mut buffer);
    assert_eq!((&buffer[..length], answer_from), (&b"back"[..], to.local_addr().unwrap()));
    seen.ip()
}

/// Sends a datagram to `target`, and returns whom the receiver took for its sender.
pub(crate) fn arrives(from: &UdpSocket, to: &UdpSocket, target: SocketAddr) -> SocketAddr {
    from.send_to(b"there", target).unwrap();
    let mut buffer = [0; 16];
    let (length, seen) = received(to, &mut buffer);
    assert_eq!(&buffer[..length], b"there");
    seen
}

/// What comes. The kernel may end a call that has a time limit early, for work of its own.
fn received(at: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match at.recv_from(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            got => return got.unwrap(),
        }
    }
}

/// Lets bridged packets pass the IP firewall (1) or not (0), in this network namespace.
///
/// # Panics
///
/// Where they never do: a test of both that sees one is a failure.
pub(crate) fn set_bridge_netfilter(value: &str) {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}; br_netfilter?"));
    }
}
