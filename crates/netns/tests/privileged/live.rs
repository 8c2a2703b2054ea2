//! Networks of containers that run already.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tare_netns::{
    Attachment, Error, ErrorKind, Reach, Wanted, attach, configure, detach, namespace_cookie,
    open_namespace_at, teardown,
};

use crate::common::{bridge, command, container, ensure, name, on_scratch_host, world};
use crate::lab::{Lab, plan, to, udp, udp_exchange, within};

/// A process with a network namespace of its own, as a runtime makes it.
struct Process(Child);

impl Process {
    fn start() -> Self {
        use std::io::Read;
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Self(child)
    }

    fn pidfd(&self) -> OwnedFd {
        pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As `eth1` in the container that `wanted` describes.
fn second_interface(mut wanted: Wanted) -> Attachment {
    let mut attachment = wanted.attachments.remove(0);
    (attachment.interface, attachment.position) = (name("eth1"), 1);
    attachment
}

#[test]
fn privileged_a_network_is_joined_and_left_while_the_container_runs() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let (first, second) = (lab.network(0, Reach::Open), lab.network(1, Reach::Isolated));
        let web = lab.container(&first, 2);
        let neighbour = lab.container(&second, 3);
        let before = world();
        let routes = || within(Some(&web.namespace), || command("ip", &["route"]));
        let routes_before = routes();
        let (wanted, rules, addresses) = plan(&second, 2, &[]);
        let attachment = second_interface(wanted);
        for _ in 0..2 {
            attach(&web.wanted.namespace, &attachment).unwrap();
            lab.firewall.admit(&rules).unwrap();
            for at in [0, 1] {
                let from = udp(Some(&web.namespace), to(addresses[at], 0));
                let to = udp(Some(&neighbour.namespace), to(neighbour.addresses[at], 0));
                assert_eq!(udp_exchange(&from, &to, to.local_addr().unwrap()), addresses[at]);
            }
            let now = routes();
            let default = now.lines().next().unwrap();
            assert!(default.contains("dev eth0"), "the way out stays: {now}");
            lab.firewall.dismiss(&rules).unwrap();
            detach(&web.wanted.namespace, &attachment).unwrap();
            assert_eq!(routes(), routes_before);
            assert_eq!(world(), before);
        }
        detach(&web.wanted.namespace, &attachment).unwrap();
    });
}

#[test]
fn privileged_an_interface_that_cannot_be_joined_leaves_nothing() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        let web = lab.container(&network, 2);
        let (wanted, ..) = plan(&network, 3, &[]);
        let good = second_interface(wanted);
        let taken = Attachment { interface: name("eth0"), ..good.clone() };
        let before = world();
        let error = attach(&web.wanted.namespace, &taken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error:?}");
        // The last step fails: two default routes of one metric.
        let same = Attachment { position: 0, ..good.clone() };
        let error = attach(&web.wanted.namespace, &same).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error:?}");
        assert_eq!(attach(&name("absent"), &good).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(world(), before);
        detach(&name("absent"), &good).unwrap();
        let inside = within(Some(&web.namespace), || command("ip", &["-o", "link"]));
        assert!(!inside.contains("eth1"), "{inside}");
    });
}

#[test]
fn privileged_the_namespace_of_a_process_is_taken_over() {
    on_scratch_host(|| {
        ensure(&bridge());
        let before = world();
        let process = Process::start();
        let wanted = container(&bridge(), 2);
        let namespace = configure(&wanted, process.pidfd().as_fd()).unwrap();
        let link = format!("/proc/{}/ns/net", process.0.id());
        let inode = std::fs::read_link(link).unwrap();
        assert_eq!(inode.to_str().unwrap(), format!("net:[{}]", namespace.inode));
        let from = udp(Some(&namespace), to("10.88.0.2", 0));
        let gateway = udp(None, to("10.88.0.1", 0));
        udp_exchange(&from, &gateway, gateway.local_addr().unwrap());
        let again = configure(&wanted, process.pidfd().as_fd()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::InUse);
        drop(process);
        udp_exchange(&from, &gateway, gateway.local_addr().unwrap());
        teardown(&wanted).unwrap();
        assert_eq!(world(), before);
    });
}

#[test]
fn privileged_a_process_keeps_its_namespace_if_it_cannot_be_configured() {
    on_scratch_host(|| {
        let process = Process::start();
        let before = world();
        let error = configure(&container(&bridge(), 2), process.pidfd().as_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "there is no bridge: {error:?}");
        assert_eq!(world(), before);
    });
}

#[test]
fn privileged_the_hosts_own_namespace_is_not_configured() {
    on_scratch_host(|| {
        ensure(&bridge());
        let before = world();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let error = configure(&container(&bridge(), 2), pidfd.as_fd()).unwrap_err();
        assert!(matches!(error, Error::HostNamespace), "{error:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        let error = configure(&container(&bridge(), 2), pidfd.as_fd()).unwrap_err();
        assert!(matches!(error, Error::Inspect { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(world(), before);
    });
}

#[test]
fn privileged_teardown_works_when_the_namespace_is_gone() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        let before = world();
        let web = lab.container(&network, 2);
        let _held_by_a_process = web.namespace.as_fd().try_clone_to_owned().unwrap();
        command("ip", &["netns", "delete", "tare0-2"]);
        lab.remove(&web);
        assert_eq!(world(), before);
    });
}

#[test]
fn privileged_several_interfaces_keep_their_order() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let attachments: Vec<Attachment> = (0..4_u8)
            .map(|number| {
                let (mut wanted, ..) = plan(&lab.network(number, Reach::Open), 2, &[]);
                let mut attachment = wanted.attachments.remove(0);
                attachment.interface = name(&format!("eth{number}"));
                attachment.position = number.into();
                attachment
            })
            .collect();
        let wanted = Wanted { namespace: name("web"), attachments };
        let namespace = crate::common::setup(&wanted).unwrap();
        let (addresses, routes) = within(Some(&namespace), || {
            (command("ip", &["-o", "-4", "addr"]), command("ip", &["route", "show", "default"]))
        });
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let got: Vec<_> =
            addresses.lines().skip(1).map(|line| words(line)[1..4].join(" ")).collect();
        let want: Vec<_> = (0..4).map(|n| format!("eth{n} inet 10.88.{n}.2/24")).collect();
        assert_eq!(got, want);
        let metrics: Vec<_> = routes
            .lines()
            .map(|line| {
                let words = words(line);
                let metric = words.iter().position(|word| word == "metric").unwrap();
                words[metric + 1].clone()
            })
            .collect();
        assert_eq!(metrics, ["100", "101", "102", "103"]);
    });
}

#[test]
fn privileged_a_namespace_has_a_number_of_its_own() {
    on_scratch_host(|| {
        let cookie = |path: &str| {
            let namespace = open_namespace_at(Path::new(path)).unwrap();
            namespace_cookie(namespace.as_fd()).unwrap().expect("Linux 5.14 or later")
        };
        let own = cookie("/proc/thread-self/ns/net");
        assert_eq!(cookie("/proc/thread-self/ns/net"), own);
        let mut seen = vec![own];
        for _ in 0..3 {
            command("ip", &["netns", "add", "n"]);
            seen.push(cookie("/run/netns/n"));
            command("ip", &["netns", "del", "n"]);
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count, "also where the name and the inode are used again");
    });
}
