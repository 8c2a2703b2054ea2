//! What others have in the way.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use tare_netns::{
    Firewall, ForeignWatcher, IpFamily, Protocol, Reach, foreign_forward_chains, leave_user_chain,
    legacy_iptables_drops, pass_user_chain,
};

use crate::common::{command, name, on_scratch_host};
use crate::lab::{CLIENT, HOST, Lab, listen, port, tcp_exchange, tcp_is_lost, to};

/// `chain ip filter FORWARD drop`, for each.
fn found() -> Vec<String> {
    let chains = foreign_forward_chains(&name("tare")).unwrap();
    let drops = |drops| if drops { "drop" } else { "accept" };
    let mut lines: Vec<String> = chains
        .iter()
        .map(|it| format!("{} {} {} {}", it.family, it.table, it.chain, drops(it.drops)))
        .collect();
    lines.sort();
    lines
}

#[test]
fn privileged_chains_of_others_that_may_drop_what_is_forwarded_are_found() {
    on_scratch_host(|| {
        let _ours = Firewall::open(&name("tare")).unwrap();
        assert_eq!(found(), Vec::<String>::new());
        for line in [
            "add table ip filter",
            "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
            "add chain ip filter INPUT { type filter hook input priority 0; policy drop; }",
            "add chain ip filter USER",
            "add table inet other",
            "add chain inet other f { type filter hook forward priority 10; policy accept; }",
            "add table ip6 tare",
            "add chain ip6 tare forward { type filter hook forward priority 0; policy drop; }",
        ] {
            command("nft", &[line]);
        }
        let want = ["inet other f accept", "ip filter FORWARD drop", "ip6 tare forward drop"];
        assert_eq!(found(), want);
        command("nft", &["delete table ip filter"]);
        assert_eq!(found(), [want[0], want[2]]);
    });
}

/// As Docker sets it up.
fn docker(family: &str) {
    for line in [
        "add table FAMILY filter",
        "add chain FAMILY filter FORWARD { type filter hook forward priority 0; policy drop; }",
        "add chain FAMILY filter DOCKER-USER",
        "add rule FAMILY filter DOCKER-USER counter return",
        "add rule FAMILY filter FORWARD counter jump DOCKER-USER",
    ] {
        command("nft", &[&line.replace("FAMILY", family)]);
    }
}

/// Takes the client outside off its bridge.
fn unbridge() {
    command("ip", &["link", "del", "out0"]);
    for address in ["192.0.2.1/24", "2001:db8::1/64"] {
        command("ip", &["addr", "add", address, "dev", "ve-client"]);
    }
}

#[test]
fn privileged_containers_pass_docker() {
    on_scratch_host(|| {
        let lab = Lab::new();
        unbridge();
        let network = lab.network(0, Reach::Open);
        let web = lab.publishing(&network, 2, &[port(None, Protocol::Tcp, 8080, 80)]);
        for (at, family, table) in [(0, IpFamily::V4, "ip"), (1, IpFamily::V6, "ip6")] {
            let inside = listen(Some(&web.namespace), to(web.addresses[at], 80));
            let outside = listen(Some(&lab.client), to(CLIENT[at], 80));
            docker(table);
            assert_eq!(foreign_forward_chains(&name("tare")).unwrap()[at].passable, Some(family));
            let before = command("nft", &["list", "table", table, "filter"]);
            assert!(tcp_is_lost(Some(&lab.client), to(HOST[at], 8080)));
            assert!(tcp_is_lost(Some(&web.namespace), to(CLIENT[at], 80)));
            for _ in 0..2 {
                pass_user_chain(family, &name("tare0")).unwrap();
            }
            let passed = command("nft", &["list", "table", table, "filter"]);
            assert_eq!(passed.matches("tare-netns tare0").count(), 3, "{passed}");
            tcp_exchange(Some(&lab.client), &inside, to(HOST[at], 8080));
            tcp_exchange(Some(&web.namespace), &outside, to(CLIENT[at], 80));
            for _ in 0..2 {
                leave_user_chain(family, &name("tare0")).unwrap();
            }
            let counters = |text: &str| -> Vec<String> {
                let words = text.split_whitespace().filter(|it| it.parse::<u64>().is_err());
                words.map(str::to_owned).collect()
            };
            let after = command("nft", &["list", "table", table, "filter"]);
            assert_eq!(counters(&after), counters(&before));
        }
        command("nft", &["delete table ip filter"]);
        leave_user_chain(IpFamily::V4, &name("tare0")).expect("there is nothing any more");
        pass_user_chain(IpFamily::V4, &name("tare0")).expect_err("nor is there a place");
    });
}

#[test]
fn privileged_docker_and_the_administrator_have_their_say() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let web = lab.container(&lab.network(0, Reach::Open), 2);
        docker("ip");
        // As newer ones leave it, with a rule of the administrator.
        command("nft", &["flush chain ip filter DOCKER-USER"]);
        command("nft", &["add rule ip filter DOCKER-USER tcp dport 81 drop"]);
        pass_user_chain(IpFamily::V4, &name("tare0")).unwrap();
        let [outside, closed] = [80, 81].map(|port| listen(Some(&lab.client), to(CLIENT[0], port)));
        tcp_exchange(None, &outside, to(CLIENT[0], 80));
        assert!(tcp_is_lost(Some(&web.namespace), to(CLIENT[0], 80)), "it is behind a bridge");
        let ours = || command("nft", &["list table ip filter"]).matches("tare-netns tare0").count();
        // Unless that is the way out of the host itself, which is not what some rule sends elsewhere.
        for table in ["100", "1000"] {
            command("ip", &["route", "add", "default", "via", CLIENT[0], "table", table]);
        }
        pass_user_chain(IpFamily::V4, &name("tare0")).unwrap();
        assert_eq!(ours(), 3);
        command("ip", &["route", "add", "default", "via", CLIENT[0]]);
        for _ in 0..2 {
            pass_user_chain(IpFamily::V4, &name("tare0")).unwrap();
        }
        assert_eq!(ours(), 4);
        tcp_exchange(Some(&web.namespace), &outside, to(CLIENT[0], 80));
        assert!(tcp_is_lost(Some(&web.namespace), to(CLIENT[0], 81)), "it is forbidden");
        command("ip", &["route", "del", "default"]);
        pass_user_chain(IpFamily::V4, &name("tare0")).unwrap();
        assert_eq!(ours(), 3);
        assert!(tcp_is_lost(Some(&web.namespace), to(CLIENT[0], 80)), "it is just a bridge again");
        unbridge();
        tcp_exchange(Some(&web.namespace), &outside, to(CLIENT[0], 80));
        tcp_exchange(None, &closed, to(CLIENT[0], 81));
        assert!(tcp_is_lost(Some(&web.namespace), to(CLIENT[0], 81)), "it is forbidden");
    });
}

#[test]
fn privileged_changes_of_others_are_told_and_ours_are_not() {
    on_scratch_host(|| {
        let firewall = Firewall::open(&name("tare")).unwrap();
        let mut watcher = ForeignWatcher::new(&name("tare")).unwrap();
        assert!(!watcher.changed().unwrap());
        firewall.add(&[name("10.88.0.2")]).unwrap();
        assert!(!watcher.changed().unwrap(), "it is ours");
        for (change, is_told) in [
            ("add table ip other", true),
            ("add chain ip other f { type filter hook forward priority 0; policy drop; }", true),
            ("chain ip other f { policy accept; }", true),
            ("add rule ip other f counter", true),
            ("add set ip other s { type ipv4_addr; }", true),
            ("add element ip other s { 192.0.2.1 }", false),
            ("add table ip tare", true),
            ("delete table ip other", true),
        ] {
            command("nft", &[change]);
            assert_eq!(poll(&mut [PollFd::new(&watcher, PollFlags::IN)], None).unwrap(), 1);
            assert_eq!(watcher.changed().unwrap(), is_told, "{change}");
        }
        firewall.delete_table().unwrap();
        command("nft", &["delete table ip tare"]);
    });
}

/// As a service has it that is granted no more than it needs: above all, no `CAP_NET_RAW`.
fn with_net_admin_alone<T>(work: impl FnOnce() -> T) -> T {
    let all = capabilities(None).unwrap();
    let effective = CapabilitySet::NET_ADMIN;
    set_capabilities(None, CapabilitySets { effective, ..all }).unwrap();
    let done = work();
    set_capabilities(None, all).unwrap();
    done
}

#[test]
fn privileged_the_policy_of_the_old_iptables_is_known() {
    on_scratch_host(|| {
        for (family, program) in
            [(IpFamily::V4, "iptables-legacy"), (IpFamily::V6, "ip6tables-legacy")]
        {
            let drops = || with_net_admin_alone(|| legacy_iptables_drops(family).unwrap());
            assert!(!drops(), "nobody uses it");
            command(program, &["-A", "INPUT", "-j", "DROP"]);
            command(program, &["-P", "INPUT", "DROP"]);
            assert!(!drops(), "that is not about what is forwarded");
            command(program, &["-P", "FORWARD", "DROP"]);
            assert!(drops());
            for port in 0..50 {
                let port = port.to_string();
                let rule = ["-A", "FORWARD", "-p", "tcp", "--sport", &port, "-j", "ACCEPT"];
                command(program, &rule);
            }
            assert!(drops(), "behind rules");
            command(program, &["-P", "FORWARD", "ACCEPT"]);
            assert!(!drops());
        }
    });
}
