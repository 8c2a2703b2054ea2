//! Every step of every operation fails once.

use std::cell::{Cell, RefCell};
use std::{fmt, io};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tare_netns::{
    Attachment, Element, Error, ErrorKind, Firewall, IpFamily, Link, MacvlanMode, Namespace,
    Ownership, PortRequest, Protocol, Reach, Wanted, attach, detach, fault, remove_bridge, reserve,
    teardown,
};

use crate::common::{
    bridge, command, container, ensure, ensure_bridge, name, on_scratch_host, setup, world,
};
use crate::lab::{Lab, plan, port, within};

thread_local! {
    /// Steps that this thread still lets pass. Steps are begun on the thread that calls.
    static LET_PASS: Cell<Option<usize>> = const { Cell::new(None) };
    /// What the step after them fails with.
    static ERRNO: Cell<i32> = const { Cell::new(Errno::IO.raw_os_error()) };
}

fn countdown(_: &dyn fmt::Display) -> io::Result<()> {
    let left = LET_PASS.get();
    LET_PASS.set(left.and_then(|left| left.checked_sub(1)));
    if left == Some(0) { Err(io::Error::from_raw_os_error(ERRNO.get())) } else { Ok(()) }
}

/// Runs `operation` with a failure at step 0, 1, 2 ... until it passes; `check` sees each error.
fn fail_everywhere<T>(operation: impl Fn() -> Result<T, Error>, check: impl Fn(&Error)) -> usize {
    fault::set_hook(countdown);
    for step in 0.. {
        LET_PASS.set(Some(step));
        let result = operation();
        LET_PASS.set(None);
        match result {
            Ok(_) => return step,
            Err(error) => check(&error),
        }
    }
    unreachable!()
}

/// A container with addresses of both families, and one more interface, on one of the host's.
fn with_all() -> Wanted {
    command("ip", &["link", "add", "lan0", "type", "veth", "peer", "lan0-sw"]);
    let mut wanted = container(&bridge(), 2);
    let first = &mut wanted.attachments[0];
    first.addresses.push(name("fd00:88::2/64"));
    first.gateways.push(name("fd00:88::1"));
    let second = Attachment {
        link: Link::Macvlan { parent: name("lan0"), mode: MacvlanMode::Bridge, mtu: None },
        interface: name("eth1"),
        mac: name("02:00:00:00:00:02"),
        addresses: vec![name("192.0.2.2/24"), name("2001:db8::2/64")],
        gateways: Vec::new(),
        position: 1,
    };
    wanted.attachments.push(second);
    wanted
}

/// B4: a namespace stayed when its network could not be taken down, or made.
#[test]
fn privileged_a_setup_that_fails_anywhere_leaves_nothing() {
    on_scratch_host(|| {
        ensure(&bridge());
        setup(&container(&bridge(), 9)).unwrap();
        let wanted = with_all();
        let before = world();
        let steps = fail_everywhere(
            || setup(&wanted),
            |error| {
                assert_ne!(error.kind(), ErrorKind::NeedsRepair, "{error:?}");
                assert_eq!(world(), before, "{error:?}");
            },
        );
        assert_eq!(steps, tare_netns::plan(&wanted).len());
    });
}

#[test]
fn privileged_a_bridge_that_fails_anywhere_is_not_left() {
    on_scratch_host(|| {
        let before = world();
        let steps = fail_everywhere(
            || ensure_bridge(&bridge()),
            |error| assert_eq!(world(), before, "{error:?}"),
        );
        assert_eq!(steps, 5);
        assert!(fail_everywhere(|| remove_bridge(&bridge().name), |_| {}) == 1);
    });
}

/// B4: a namespace stayed when its network could not be taken down, or made.
#[test]
fn privileged_a_teardown_that_fails_anywhere_removes_the_rest_and_can_be_repeated() {
    on_scratch_host(|| {
        ensure(&bridge());
        setup(&container(&bridge(), 9)).unwrap();
        let mut wanted = with_all();
        // Of a macvlan that stays nothing is seen but in its namespace.
        wanted.attachments.truncate(1);
        let before = world();
        // Else the pair could go with its namespace before it is looked for.
        let held = RefCell::new(None);
        let steps = fail_everywhere(
            || {
                held.replace(Some(setup_unhindered(&wanted)));
                teardown(&wanted)
            },
            |error| {
                assert_eq!(error.kind(), ErrorKind::NeedsRepair);
                assert_ne!(world(), before, "{error:?}");
                teardown(&wanted).unwrap();
                assert_eq!(world(), before, "{error:?}");
            },
        );
        assert_eq!(steps, 3);
        assert_eq!(world(), before);
    });
}

fn setup_unhindered(wanted: &Wanted) -> Namespace {
    let left = LET_PASS.take();
    let namespace = setup(wanted).unwrap();
    LET_PASS.set(left);
    namespace
}

#[test]
fn privileged_an_interface_that_fails_anywhere_is_not_left() {
    on_scratch_host(|| {
        ensure(&bridge());
        let web = setup(&container(&bridge(), 2)).unwrap();
        let inside = || within(Some(&web), || command("ip", &["-o", "addr"]));
        // Its link-local address is found to be free meanwhile.
        while inside().contains("tentative") {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let (before, inside_before) = (world(), inside());
        let mut attachment = container(&bridge(), 3).attachments.remove(0);
        (attachment.interface, attachment.position) = (name("eth1"), 1);
        let namespace = name("tare0-2");
        let check = |error: &Error| {
            assert_ne!(error.kind(), ErrorKind::NeedsRepair, "{error:?}");
            assert_eq!((world(), inside()), (before.clone(), inside_before.clone()), "{error:?}");
        };
        let steps = fail_everywhere(|| attach(&namespace, &attachment), check);
        assert_eq!(steps, tare_netns::plan_attachment(&namespace, &attachment).len());
        let steps = fail_everywhere(
            || detach(&namespace, &attachment),
            |error| assert_eq!(error.kind(), ErrorKind::NeedsRepair),
        );
        assert_eq!(steps, 1);
        assert_eq!((world(), inside()), (before, inside_before));
    });
}

#[test]
fn privileged_a_container_that_is_admitted_in_part_is_not_admitted() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        let ports = [port(None, Protocol::Tcp, 80, 80), port(None, Protocol::Udp, 53, 53)];
        let (_, rules, _) = plan(&network, 2, &ports);
        // The loopback stays guarded: others may need it.
        lab.firewall.admit(&rules).unwrap();
        lab.firewall.dismiss(&rules).unwrap();
        let before = world();
        let check = |error: &Error| {
            assert_ne!(error.kind(), ErrorKind::NeedsRepair, "{error:?}");
            assert_eq!(world(), before, "{error:?}");
        };
        assert_eq!(fail_everywhere(|| lab.firewall.admit(&rules), check), 3);
        assert_eq!(fail_everywhere(|| lab.firewall.take_over(&rules), |_| {}), 1);
        assert_ne!(world(), before);
        // Elements, connections, neighbours.
        assert_eq!(fail_everywhere(|| lab.firewall.dismiss(&rules), |_| {}), 3);
        assert_eq!(world(), before);
    });
}

#[test]
fn privileged_a_host_forwards_only_if_strangers_are_kept_out() {
    on_scratch_host(|| {
        let firewall = Firewall::open(&name("tare")).unwrap();
        let forwarding =
            || std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/lo/accept_ra", "1").unwrap();
        let check = |error: &Error| {
            assert_eq!(forwarding(), "0\n", "{error:?}");
            assert!(firewall.elements().unwrap().is_empty(), "{error:?}");
        };
        let enable = || firewall.enable_forwarding(IpFamily::V6);
        assert_eq!(fail_everywhere(enable, check), 3);
        assert_eq!(forwarding(), "1\n");
        assert_eq!(firewall.elements().unwrap(), [Element::Closed(IpFamily::V6)]);
    });
}

#[test]
fn privileged_ports_are_reserved_all_or_none() {
    on_scratch_host(|| {
        let port = |host, count| PortRequest::new(None, Protocol::Tcp, host, 80, count).unwrap();
        let all_are_free = |error: &Error| {
            assert!(matches!(error, Error::Reserve { .. }), "{error:?}");
            for port in [80, 8080, 8081] {
                std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
            }
        };
        let ports = [port(80, 1), port(8080, 2)];
        // Of each: both families, and what listens at `::1`.
        assert_eq!(fail_everywhere(|| reserve(&ports), all_are_free), 9);
    });
}

#[test]
fn privileged_a_firewall_that_cannot_be_loaded_is_not_there() {
    on_scratch_host(|| {
        let before = world();
        let check = |error: &Error| assert_eq!(world(), before, "{error:?}");
        assert_eq!(fail_everywhere(|| Firewall::open(&name("tare")), check), 1);
        let firewall = Firewall::open(&name("tare")).unwrap();
        let addresses = [name("10.88.0.2")];
        let nothing = |_: &Error| assert!(firewall.list().unwrap().is_empty());
        assert_eq!(fail_everywhere(|| firewall.add(&addresses), nothing), 1);
        assert_eq!(firewall.list().unwrap(), addresses);
    });
}

#[test]
fn privileged_a_shared_table_that_is_flushed_is_back_when_its_owner_is_told() {
    on_scratch_host(|| {
        fault::set_hook(countdown);
        ERRNO.set(Errno::OPNOTSUPP.raw_os_error());
        LET_PASS.set(Some(0));
        let firewall = Firewall::open(&name("tare")).unwrap();
        assert_eq!(firewall.ownership(), Ownership::Shared);
        let mut watcher = firewall.watch().unwrap();
        firewall.add(&[name("10.88.0.2")]).unwrap();
        assert!(!watcher.others_changed().unwrap(), "that was its own change");
        let (elements, before) =
            (firewall.elements().unwrap(), command("nft", &["list", "ruleset"]));
        for change in [
            ["flush", "ruleset"].as_slice(),
            &["flush", "chain", "inet", "tare", "forward"],
            &["delete", "element", "inet", "tare", "containers4", "{ 10.88.0.2 }"],
        ] {
            command("nft", change);
            assert_ne!(command("nft", &["list", "ruleset"]), before);
            let readable = PollFd::new(&watcher, PollFlags::IN);
            assert_eq!(poll(&mut [readable], None).unwrap(), 1);
            assert!(watcher.others_changed().unwrap(), "{change:?}");
            // Only on a kernel without owners is it the same that is loaded again.
            LET_PASS.set(Some(0));
            firewall.restore(&elements).unwrap();
            assert_eq!(command("nft", &["list", "ruleset"]), before, "{change:?}");
            assert!(!watcher.others_changed().unwrap());
        }
        command("nft", &["add", "table", "inet", "other"]);
        assert!(!watcher.others_changed().unwrap(), "no table of ours");
    });
}

#[test]
fn privileged_a_kernel_without_owners_gets_a_table_that_all_can_change() {
    on_scratch_host(|| {
        fault::set_hook(countdown);
        ERRNO.set(Errno::OPNOTSUPP.raw_os_error());
        let open = || {
            LET_PASS.set(Some(0));
            Firewall::open(&name("tare")).unwrap()
        };
        let firewall = open();
        assert_eq!(firewall.ownership(), Ownership::Shared);
        firewall.add(&[name("10.88.0.2")]).unwrap();
        drop(firewall);
        let firewall = open();
        assert_eq!(firewall.list().unwrap(), [name::<std::net::IpAddr>("10.88.0.2")]);
        drop(firewall);
        let firewall = Firewall::open(&name("tare")).unwrap();
        assert_eq!(firewall.ownership(), Ownership::Exclusive, "after an update of the kernel");
    });
}
