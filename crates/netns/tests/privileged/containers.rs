//! The crate against the running kernel, on hosts of the tests' own.

use std::io::Read;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::{fs, thread};

use crate::common::{
    arrives, bridge, command, container, ensure, ensure_bridge, name, on_scratch_host, outside,
    set_bridge_netfilter, setup, socket, there_and_back, veth, world,
};
use tare_netns::{
    Bridge, Ensured, Error, ErrorKind, Removed, Step, enter, find_bridge, has_own_bridge,
    host_prefixes, open_namespace, remove_bridge, teardown,
};

#[test]
fn privileged_containers_reach_the_gateway_and_each_other() {
    for bridge_netfilter in ["0", "1"] {
        on_scratch_host(|| {
            set_bridge_netfilter(bridge_netfilter);
            ensure(&bridge());
            let a = setup(&container(&bridge(), 2)).unwrap();
            let b = setup(&container(&bridge(), 3)).unwrap();
            let from_a = socket(Some(&a), "10.88.0.2");
            let at_b = socket(Some(&b), "10.88.0.3");
            let at_gateway = socket(None, "10.88.0.1");
            assert_eq!(there_and_back(&from_a, &at_b), name::<IpAddr>("10.88.0.2"));
            assert_eq!(there_and_back(&from_a, &at_gateway), name::<IpAddr>("10.88.0.2"));
            assert_eq!(there_and_back(&at_gateway, &at_b), name::<IpAddr>("10.88.0.1"));
            let at_loopback = socket(Some(&a), "127.0.0.1");
            arrives(&at_loopback, &at_loopback, at_loopback.local_addr().unwrap());
        });
    }
}

#[test]
fn privileged_containers_speak_ipv6_where_they_have_addresses() {
    on_scratch_host(|| {
        let mut bridge = bridge();
        bridge.gateways.push(name("fd00:88::1/64"));
        ensure(&bridge);
        let both = |host| {
            let mut wanted = container(&bridge, host);
            let attachment = &mut wanted.attachments[0];
            attachment.addresses.push(name(&format!("fd00:88::{host}/64")));
            attachment.gateways.push(name("fd00:88::1"));
            setup(&wanted).unwrap()
        };
        let (a, b) = (both(2), both(3));
        // No waiting for duplicate address detection: the addresses can be bound at once.
        let (from_a, at_b) = (socket(Some(&a), "fd00:88::2"), socket(Some(&b), "fd00:88::3"));
        assert_eq!(there_and_back(&from_a, &at_b), name::<IpAddr>("fd00:88::2"));
        let routes = enter(a.as_fd(), || command("ip", &["-6", "route", "show", "default"]));
        assert!(routes.unwrap().starts_with("default via fd00:88::1 dev eth0"));
    });
}

#[test]
fn privileged_an_interface_is_what_was_wanted() {
    on_scratch_host(|| {
        ensure(&Bridge { mtu: Some(1400), ..bridge() });
        let namespace = setup(&container(&bridge(), 2)).unwrap();
        let (link, route, advertisements) = enter(namespace.as_fd(), || {
            (
                command("ip", &["-o", "link", "show", "eth0"]),
                command("ip", &["route", "show", "default"]),
                fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra").unwrap(),
            )
        })
        .unwrap();
        assert!(link.contains("link/ether 02:74:0a:58:00:02"), "{link}");
        assert!(link.contains("mtu 1400"), "{link}");
        assert!(route.starts_with("default via 10.88.0.1 dev eth0 "), "{route}");
        assert_eq!(advertisements, "0\n");
        let port = command("ip", &["-o", "link", "show", "ve-tar-2"]);
        assert!(port.contains("master tare0") && port.contains("mtu 1400"), "{port}");
    });
}

#[test]
fn privileged_enter_moves_only_the_closure() {
    on_scratch_host(|| {
        let current = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        let wanted = container(&bridge(), 2);
        ensure(&bridge());
        let (namespace, before) = (setup(&wanted).unwrap(), current());
        let inside = enter(namespace.as_fd(), current).unwrap();
        assert_eq!(inside.to_str().unwrap(), format!("net:[{}]", namespace.inode));
        assert_eq!(current(), before, "the caller stayed");
        let opened = open_namespace(&wanted.namespace).unwrap();
        assert_eq!((opened.inode, &opened.path), (namespace.inode, &namespace.path));
    });
}

#[test]
fn privileged_iproute2_takes_our_namespaces_for_its_own() {
    on_scratch_host(|| {
        ensure(&bridge());
        let wanted = container(&bridge(), 2);
        setup(&wanted).unwrap();
        command("ip", &["netns", "add", "theirs"]);
        assert!(command("ip", &["netns", "list"]).contains("tare0-2"));
        command("ip", &["-n", "tare0-2", "link", "show", "eth0"]);
        command("ip", &["netns", "delete", "tare0-2"]);
        teardown(&wanted).unwrap();
        assert!(fs::exists("/run/netns/theirs").unwrap(), "not ours");
    });
}

#[test]
fn privileged_teardown_leaves_nothing_and_can_be_repeated() {
    on_scratch_host(|| {
        ensure(&bridge());
        drop(setup(&container(&bridge(), 9)).unwrap());
        let before = world();
        let wanted = container(&bridge(), 2);
        let namespace = setup(&wanted).unwrap();
        assert_ne!(world(), before);
        teardown(&wanted).unwrap();
        assert_eq!(world(), before, "although somebody still holds the namespace");
        drop(namespace);
        teardown(&wanted).unwrap();
        assert_eq!(world(), before);
    });
}

#[test]
fn privileged_a_setup_that_fails_leaves_nothing() {
    on_scratch_host(|| {
        ensure(&bridge());
        drop(setup(&container(&bridge(), 9)).unwrap());
        let good = container(&bridge(), 2);
        let mut no_bridge = good.clone();
        no_bridge.attachments[0].link = veth("absent0", "ve-tar-2");
        let mut not_a_bridge = good.clone();
        not_a_bridge.attachments[0].link = veth("lo", "ve-tar-2");
        let mut far_gateway = good.clone();
        far_gateway.attachments[0].gateways = vec![name("203.0.113.1")];
        let mut twice = good.clone();
        twice.attachments.push(good.attachments[0].clone());
        let mut taken_file = good.clone();
        taken_file.namespace = name("tare0-9");
        let mut taken_link = good.clone();
        taken_link.attachments[0].link = veth("tare0", "ve-tar-9");
        let mut multicast = good.clone();
        multicast.attachments[0].addresses = vec![name("224.0.0.1/24")];
        let cases = [
            ("bridge missing", no_bridge, ErrorKind::NotFound),
            ("joined to a link that is no bridge", not_a_bridge, ErrorKind::InUse),
            ("gateway out of reach", far_gateway, ErrorKind::Other),
            ("one attachment twice", twice, ErrorKind::InUse),
            ("namespace of another", taken_file, ErrorKind::InUse),
            ("interface of another", taken_link, ErrorKind::InUse),
            ("address nobody can have", multicast, ErrorKind::Other),
        ];
        let before = world();
        for (about, wanted, kind) in cases {
            let error = setup(&wanted).unwrap_err();
            assert_eq!(error.kind(), kind, "{about}: {error:?}");
            assert_eq!(world(), before, "{about}");
        }
        setup(&good).unwrap();
    });
}

#[test]
fn privileged_teardown_spares_interfaces_of_other_kinds() {
    on_scratch_host(|| {
        ensure(&bridge());
        let mut wanted = container(&bridge(), 2);
        wanted.attachments[0].link = veth("tare0", "tare0");
        let error = teardown(&wanted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NeedsRepair);
        assert!(world().contains(&"tare0:".to_owned()));
        assert_eq!(remove_bridge(&name("lo")).unwrap_err().kind(), ErrorKind::InUse);
    });
}

#[test]
fn privileged_a_file_that_is_no_namespace_is_told_so() {
    on_scratch_host(|| {
        let absent = open_namespace(&name("absent")).unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
        assert_eq!(absent.to_string(), "cannot open network namespace /run/netns/absent");
        fs::write("/run/netns/file", "").unwrap();
        let file = open_namespace(&name("file")).unwrap_err();
        assert_eq!(file.to_string(), "no network namespace is mounted on /run/netns/file");
        fs::remove_file("/run/netns/file").unwrap();
    });
}

#[test]
fn privileged_a_bridge_is_created_once_completed_and_removed() {
    on_scratch_host(|| {
        let before = world();
        let forwarding = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        assert_eq!(forwarding(), "0\n");
        assert_eq!(ensure_bridge(&bridge()).unwrap(), Ensured::Created);
        assert_eq!(forwarding(), "0\n", "that is another call");
        let link = command("ip", &["-o", "link", "show", "tare0"]);
        assert!(link.contains("link/ether 02:74:0a:58:00:01"), "{link}");
        let advertisements = fs::read_to_string("/proc/sys/net/ipv6/conf/tare0/accept_ra");
        assert_eq!(advertisements.unwrap(), "0\n");

        let complete = world();
        command("ip", &["addr", "del", "10.88.0.1/24", "dev", "tare0"]);
        command("ip", &["link", "set", "tare0", "down"]);
        assert_eq!(ensure_bridge(&bridge()).unwrap(), Ensured::AlreadyThere);
        assert_eq!(world(), complete);
        assert!(command("ip", &["-o", "link", "show", "tare0"]).contains(",UP"));

        let steps = ensure_bridge(&Bridge { name: name("lo"), ..bridge() });
        assert_eq!(steps.unwrap_err().kind(), ErrorKind::InUse);

        assert_eq!(remove_bridge(&name("tare0")).unwrap(), Removed::Removed);
        assert_eq!(remove_bridge(&name("tare0")).unwrap(), Removed::NotThere);
        assert_eq!(world(), before);
    });
}

#[test]
fn privileged_a_bridge_of_the_hosts_own_is_left_alone_whatever_its_name() {
    on_scratch_host(|| {
        command("ip", &["link", "add", "tare0", "type", "bridge"]);
        // Not even with an address of ours.
        for more in [None, Some("10.88.0.1/24")] {
            if let Some(address) = more {
                command("ip", &["addr", "add", address, "dev", "tare0"]);
            }
            let shown = || command("ip", &["-d", "addr", "show", "tare0"]);
            let before = shown();
            let refused = ensure_bridge(&bridge()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InUse);
            assert_eq!(refused.to_string(), "bridge tare0 is one of the host's own");
            let refused =
                [find_bridge(&bridge()).map(drop), remove_bridge(&name("tare0")).map(drop)];
            for refused in refused.map(Result::unwrap_err) {
                assert!(matches!(refused, Error::ForeignBridge { .. }), "{refused:?}");
            }
            assert!(!has_own_bridge(&name("tare0")).unwrap());
            assert_eq!(shown(), before);
        }
    });
}

/// It has the hardware address from the beginning, and the alias a moment later.
#[test]
fn privileged_a_bridge_whose_maker_was_killed_is_completed() {
    on_scratch_host(|| {
        let alias = || command("ip", &["-o", "link", "show", "tare0"]).contains("alias tare-netns");
        assert!(!find_bridge(&bridge()).unwrap());
        let as_made = ["address", "02:74:0a:58:00:01", "type", "bridge"];
        command("ip", &[&["link", "add", "tare0"][..], &as_made].concat());
        assert!(find_bridge(&bridge()).unwrap() && !alias());
        assert_eq!(ensure_bridge(&bridge()).unwrap(), Ensured::AlreadyThere);
        assert!(alias());
        assert_eq!(remove_bridge(&name("tare0")).unwrap(), Removed::Removed);
        assert!(!has_own_bridge(&name("tare0")).unwrap() && !has_own_bridge(&name("lo")).unwrap());
        assert_eq!(ensure_bridge(&bridge()).unwrap(), Ensured::Created);
        assert!(alias() && has_own_bridge(&name("tare0")).unwrap());
    });
}

#[test]
fn privileged_a_bridge_that_cannot_be_completed_is_not_left_half_made() {
    on_scratch_host(|| {
        let before = world();
        let mut bridge = bridge();
        bridge.gateways.push(name("224.0.0.1/24"));
        let error = ensure_bridge(&bridge).unwrap_err();
        let want = "cannot add address 224.0.0.1/24 to tare0";
        assert_eq!(error.to_string(), want);
        assert_eq!(world(), before);
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");
    });
}

#[test]
fn privileged_many_threads_at_once() {
    on_scratch_host(|| {
        let before = world();
        thread::scope(|scope| {
            for worker in 0..16_u8 {
                scope.spawn(move || {
                    ensure(&bridge());
                    for round in 0..4 {
                        let wanted = container(&bridge(), 10 + worker * 4 + round);
                        let namespace = setup(&wanted).unwrap();
                        let address = wanted.attachments[0].addresses[0].addr().to_string();
                        let from = socket(Some(&namespace), &address);
                        there_and_back(&from, &socket(None, "10.88.0.1"));
                        teardown(&wanted).unwrap();
                    }
                });
            }
        });
        remove_bridge(&bridge().name).unwrap();
        assert_eq!(world(), before);
    });
}

#[test]
fn privileged_the_hosts_networks_are_found() {
    on_scratch_host(|| {
        ensure(&bridge());
        ensure(&outside());
        command("ip", &["route", "add", "172.16.0.0/12", "via", "192.0.2.9"]);
        command("ip", &["route", "add", "default", "via", "192.0.2.9"]);
        command("ip", &["route", "add", "128.0.0.0/1", "via", "192.0.2.9"]);
        command("ip", &["route", "add", "blackhole", "198.51.100.0/24"]);
        let mut v4: Vec<String> = host_prefixes()
            .unwrap()
            .iter()
            .filter(|net| net.addr().is_ipv4())
            .map(ToString::to_string)
            .collect();
        v4.sort();
        let want =
            ["10.88.0.0/24", "127.0.0.0/8", "172.16.0.0/12", "192.0.2.0/24", "198.51.100.0/24"];
        assert_eq!(v4, want);
    });
}

#[test]
fn privileged_a_failed_step_names_itself() {
    on_scratch_host(|| {
        let error = setup(&container(&bridge(), 2)).unwrap_err();
        let tare_netns::Error::Step { step, leftovers, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**step, Step::CreateVeth { .. }));
        assert!(leftovers.is_empty());
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "No such device (os error 19)");
    });
}

#[test]
fn privileged_the_directory_is_left_as_it_was_when_the_last_namespace_is_gone() {
    on_scratch_host(|| {
        assert!(!directory_is_mount_point());
        ensure(&bridge());
        let wanted = container(&bridge(), 2);
        setup(&wanted).unwrap();
        assert!(directory_is_mount_point());
        tare_netns::release_directory().unwrap();
        assert!(directory_is_mount_point(), "a namespace is still there");
        teardown(&wanted).unwrap();
        tare_netns::release_directory().unwrap();
        assert!(!directory_is_mount_point());
        tare_netns::release_directory().unwrap();
        for _ in 0..2 {
            tare_netns::prepare_directory().unwrap();
            assert!(directory_is_mount_point());
        }
        tare_netns::release_directory().unwrap();
        assert!(!directory_is_mount_point());
    });
}

#[test]
fn privileged_a_mount_point_that_iproute_made_is_left_to_it() {
    on_scratch_host(|| {
        command("ip", &["netns", "add", "theirs"]);
        command("ip", &["netns", "del", "theirs"]);
        ensure(&bridge());
        let wanted = container(&bridge(), 2);
        setup(&wanted).unwrap();
        teardown(&wanted).unwrap();
        tare_netns::release_directory().unwrap();
        assert!(directory_is_mount_point());
    });
}

/// Locking takes a descriptor for reading: so every local user can lock the directory, for ever.
#[test]
fn privileged_a_directory_that_somebody_keeps_locked_is_replaced() {
    on_scratch_host(|| {
        ensure(&bridge());
        let wanted = container(&bridge(), 2);
        let mut locked = Locked::by_nobody();
        // Whoever was killed there is in nobody's way.
        fs::create_dir_all("/run/.tare-netns/netns").unwrap();
        thread::scope(|scope| {
            for host in 3..7 {
                scope.spawn(move || drop(setup(&container(&bridge(), host)).unwrap()));
            }
        });
        setup(&wanted).unwrap();
        locked.still();
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert_eq!(mounts.matches(" /run/netns ").count(), 1, "once: {mounts}");
        assert_eq!(fs::metadata("/run/netns").unwrap().mode() & 0o777, 0o755);
        assert!(!fs::exists("/run/.tare-netns").unwrap());
        // Others wait for the lock; they have another one by now.
        command("ip", &["netns", "add", "theirs"]);
        locked.still();
        for host in 3..7 {
            teardown(&container(&bridge(), host)).unwrap();
        }
    });
}

/// Nor can what is in it be carried to another one.
#[test]
fn privileged_nobody_who_locks_the_directory_is_waited_for_for_ever() {
    on_scratch_host(|| {
        ensure(&bridge());
        let wanted = container(&bridge(), 2);
        fs::write("/run/netns/file", "").unwrap();
        let mut locked = Locked::by_nobody();
        let error = setup(&wanted).unwrap_err();
        locked.still();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error:?}");
        let tare_netns::Error::Step { step, leftovers, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**step, Step::PrepareDirectory));
        assert!(leftovers.is_empty());
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "another process keeps /run/netns locked");
        assert!(!directory_is_mount_point() && !fs::exists("/run/.tare-netns").unwrap());
        drop(locked);
        fs::remove_file("/run/netns/file").unwrap();
        setup(&wanted).unwrap();
        let mut locked = Locked::by_nobody();
        // What is ready needs no lock, and neither does what is not to go.
        let second = container(&bridge(), 3);
        setup(&second).unwrap();
        tare_netns::release_directory().unwrap();
        for wanted in [&wanted, &second] {
            teardown(wanted).unwrap();
        }
        let error = tare_netns::release_directory().unwrap_err();
        locked.still();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error:?}");
        assert!(directory_is_mount_point());
        drop(locked);
        tare_netns::release_directory().unwrap();
        assert!(!directory_is_mount_point());
    });
}

/// The directory of namespaces as long as another user has it locked: a minute at most.
struct Locked(Child);

impl Locked {
    fn by_nobody() -> Self {
        let mut flock = Command::new("flock");
        flock.args(["--no-fork", "/run/netns", "sh", "-c", "echo; exec sleep 60"]);
        flock.uid(65_534).gid(65_534).stdout(Stdio::piped());
        let mut child = flock.spawn().unwrap();
        let said = child.stdout.take().unwrap().read_exact(&mut [0]);
        let locked = Self(child);
        said.unwrap();
        locked
    }

    fn still(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it was waited for");
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

fn directory_is_mount_point() -> bool {
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    mounts.lines().any(|mount| mount.split(' ').nth(4) == Some("/run/netns"))
}
