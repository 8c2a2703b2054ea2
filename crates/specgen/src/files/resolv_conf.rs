//! The container's `/etc/resolv.conf`, from the host's text and the request; see resolv.conf(5).

use std::fmt::Write;
use std::net::IpAddr;

use crate::effective::Effective;
use crate::facts::{HostFacts, Placement};
use crate::names::{DnsOption, SearchDomain};
use crate::request::NetworkMode;
use crate::warning::Warning;

/// How many name servers are written: glibc (`MAXNS`) and musl read no more, so a fourth would
/// only look as if it were used.
pub const MAX_NAMESERVERS: usize = 3;

/// What a `resolv.conf` says, so far as a container can use it.
#[derive(Debug, Default, PartialEq, Eq)]
struct ResolvConf {
    nameservers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

/// The text of the file. There is no fallback to a public resolver (B13): what the host does not know,
/// nobody is told but those whom the administrator has named for that.
pub(crate) fn resolv_conf(
    effective: &Effective,
    facts: &HostFacts,
    placement: &Placement,
    warnings: &mut Vec<Warning>,
) -> String {
    let request = &effective.request;
    let host = parse(of_host(&request.network_mode, facts, placement).unwrap_or_default());
    let mut file = ResolvConf {
        nameservers: nameservers(effective, (&host, &facts.fallback_resolvers), placement),
        search: search(&request.dns_search, host.search, placement),
        options: either(request.dns_options.iter().map(DnsOption::to_string), host.options),
    };
    // Without a network there is nothing to warn of.
    if file.nameservers.is_empty() && request.network_mode != NetworkMode::None {
        warnings.push(Warning::NoNameserver);
    }
    if let Some(count @ 1..) = file.nameservers.len().checked_sub(MAX_NAMESERVERS) {
        file.nameservers.truncate(MAX_NAMESERVERS);
        warnings.push(Warning::NameserversLeftOut { count });
    }
    render(&file)
}

/// In the host's network its own file is right, stub resolvers included; a namespace that somebody
/// made may have a file of its own, `/etc/netns/NAME/resolv.conf`.
fn of_host<'a>(
    network: &NetworkMode,
    host: &'a HostFacts,
    placement: &'a Placement,
) -> Option<&'a str> {
    let elsewhere = host.resolv_conf.as_deref();
    match network {
        NetworkMode::Host => host.own_resolv_conf.as_deref().or(elsewhere),
        NetworkMode::Path(_) => placement.netns_resolv_conf.as_deref().or(elsewhere),
        _ => elsewhere,
    }
}

/// What was asked for, else those of the container's networks, else those of the host that it can
/// reach, else those that are named for that.
fn nameservers(
    effective: &Effective,
    (host, fallback): (&ResolvConf, &[IpAddr]),
    placement: &Placement,
) -> Vec<String> {
    let request = &effective.request;
    if !request.dns.is_empty() {
        return request.dns.iter().map(ToString::to_string).collect();
    }
    let of_networks: Vec<_> = placement
        .networks
        .iter()
        .flat_map(|net| &net.nameservers)
        .map(ToString::to_string)
        .collect();
    if !of_networks.is_empty() {
        return of_networks;
    }
    let has_v6 = placement.networks.iter().flat_map(|net| &net.addresses).any(IpAddr::is_ipv6);
    // A namespace somebody else made may have any address, so IPv6 stays there.
    let reachable = |server: &&String| match &request.network_mode {
        NetworkMode::Host => true,
        NetworkMode::None => false,
        NetworkMode::Private | NetworkMode::Container(_) => is_reachable(server, has_v6),
        NetworkMode::Path(_) => placement.netns_resolv_conf.is_some() || is_reachable(server, true),
    };
    let of_host: Vec<_> = host.nameservers.iter().filter(reachable).cloned().collect();
    // Where a file is taken as it is, it also counts if it names nobody.
    let is_its_own = match &request.network_mode {
        NetworkMode::Host => true,
        NetworkMode::Path(_) => placement.netns_resolv_conf.is_some(),
        _ => false,
    };
    if is_its_own || !of_host.is_empty() {
        return of_host;
    }
    let fallback: Vec<_> = fallback.iter().map(ToString::to_string).collect();
    fallback.iter().filter(reachable).cloned().collect()
}

/// Whether a server can be reached from a network namespace of one's own: not on the host's
/// loopback, not on a link of the host's.
fn is_reachable(server: &str, has_v6: bool) -> bool {
    match server.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => !address.is_loopback() && !address.is_unspecified(),
        Ok(IpAddr::V6(address)) => {
            has_v6
                && !address.is_loopback()
                && !address.is_unspecified()
                && !address.is_unicast_link_local()
        }
        Err(_) => false, // with a zone: fe80::1%eth0
    }
}

/// A list of one's own puts away those of the networks and of the host; `.` in it stands for
/// nothing else (B14).
fn search(requested: &[SearchDomain], host: Vec<String>, placement: &Placement) -> Vec<String> {
    if requested.is_empty() {
        let of_networks = placement.networks.iter().flat_map(|net| &net.search);
        return of_networks.map(ToString::to_string).chain(host).collect();
    }
    let names = requested.iter().filter(|domain| **domain != SearchDomain::Root);
    names.map(SearchDomain::to_string).collect()
}

/// A resolver on the host's loopback that stands in for others, and where those are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stub {
    /// systemd-resolved: `/run/systemd/resolve/resolv.conf`.
    SystemdResolved,
    /// dnsmasq of NetworkManager: `/run/NetworkManager/no-stub-resolv.conf`.
    NetworkManager,
}

impl Stub {
    /// The file that lists what is behind it.
    pub const fn upstream(self) -> &'static str {
        match self {
            Self::SystemdResolved => "/run/systemd/resolve/resolv.conf",
            Self::NetworkManager => "/run/NetworkManager/no-stub-resolv.conf",
        }
    }
}

/// The stub resolver that a host's `resolv.conf` names, if it names nothing else (B13).
pub fn stub(text: &str) -> Option<Stub> {
    let parsed = parse(text);
    match &parsed.nameservers[..] {
        [one] if one == "127.0.0.53" || one == "127.0.0.54" => Some(Stub::SystemdResolved),
        [one] if one == "127.0.0.1" => Some(Stub::NetworkManager),
        _ => None,
    }
}

fn either(requested: impl Iterator<Item = String>, host: Vec<String>) -> Vec<String> {
    let requested: Vec<String> = requested.collect();
    if requested.is_empty() { host } else { requested }
}

/// Reads a host's file as resolvers do: the last of `search` and `domain` counts, `options` add
/// up, comments start with `#` or `;`. What is not well formed is passed over.
fn parse(text: &str) -> ResolvConf {
    let mut file = ResolvConf::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                file.nameservers
                    .extend(words.next().filter(|word| is_server(word)).map(str::to_owned));
            }
            Some("domain") => file.search = domains(words.take(1)),
            Some("search") => file.search = domains(words),
            Some("options") => file.options.extend(options(words)),
            _ => {}
        }
    }
    file
}

fn domains<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    words
        .filter(|word| matches!(word.parse(), Ok(SearchDomain::Name(_))))
        .map(str::to_owned)
        .collect()
}

fn options<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    words.filter(|word| word.parse::<DnsOption>().is_ok()).map(str::to_owned)
}

fn is_server(word: &str) -> bool {
    let (address, zone) = word.split_once('%').unwrap_or((word, "0"));
    address.parse::<IpAddr>().is_ok() && zone.bytes().all(|byte| byte.is_ascii_graphic())
}

fn render(file: &ResolvConf) -> String {
    let mut text = String::new();
    if !file.search.is_empty() {
        let _ = writeln!(text, "search {}", file.search.join(" "));
    }
    for server in &file.nameservers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !file.options.is_empty() {
        let _ = writeln!(text, "options {}", file.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn build(host: Option<&str>, request: &str, v6: &[&str]) -> (String, Vec<Warning>) {
        let mut facts = testing::host();
        facts.resolv_conf = host.map(str::to_owned);
        let mut placement = testing::placement();
        placement.networks[0].addresses.extend(v6.iter().map(|ip| ip.parse::<IpAddr>().unwrap()));
        let mut warnings = Vec::new();
        let text = resolv_conf(&testing::effective(request), &facts, &placement, &mut warnings);
        (text, warnings)
    }

    #[test]
    fn what_the_container_gets() {
        let full = "search a.org b.org\nnameserver 192.0.2.1\noptions ndots:2 trust-ad\n";
        let dns = r#""DNS":["192.0.2.9"],"DNSSearch":["c.org"],"DNSOptions":["edns0"]"#;
        let cases = [
            ("as it is", full, "", full),
            (
                "loopback",
                "nameserver 127.0.0.53\nnameserver 192.0.2.1\n",
                "",
                "nameserver 192.0.2.1\n",
            ),
            ("mapped loopback", "nameserver ::ffff:127.0.0.1\n", "", ""),
            (
                "host network",
                "nameserver 127.0.0.53\n",
                r#""NetworkMode":"host""#,
                "nameserver 127.0.0.53\n",
            ),
            (
                "zone",
                "nameserver fe80::1%eth0\nnameserver 192.0.2.1\n",
                "",
                "nameserver 192.0.2.1\n",
            ),
            ("all our own", full, dns, "search c.org\nnameserver 192.0.2.9\noptions edns0\n"),
            (
                "no search",
                full,
                r#""DNSSearch":["."]"#,
                "nameserver 192.0.2.1\noptions ndots:2 trust-ad\n",
            ),
            (
                "dot and a name",
                "search a\nnameserver 192.0.2.1",
                r#""DNSSearch":[".","b"]"#,
                "search b\nnameserver 192.0.2.1\n",
            ),
            (
                "domain",
                "domain a.org\nnameserver 192.0.2.1",
                "",
                "search a.org\nnameserver 192.0.2.1\n",
            ),
            ("last search wins", "domain a\nsearch b c\n", "", "search b c\n"),
            ("options add up", "options a\noptions b\n", "", "options a b\n"),
            (
                "comments",
                "# x\n; y\n nameserver\t192.0.2.1 ; z\n#nameserver 192.0.2.2\n",
                "",
                "nameserver 192.0.2.1\n",
            ),
            ("search dot of the host", "search .\n", "", ""),
            ("junk", "nameserver\nnameserver x y\nsearch a/b\noptions a=b\nfoo\n", "", ""),
            ("no IPv6", "nameserver 2001:db8::1\n", "", ""),
            (
                "none network",
                "search a\nnameserver 192.0.2.1\n",
                r#""NetworkMode":"none""#,
                "search a\n",
            ),
        ];
        for (about, host, request, want) in cases {
            assert_eq!(build(Some(host), request, &[]).0, want, "{about}");
        }
        let of_host = "nameserver ::ffff:127.0.0.1\nnameserver 2001:db8::1\nnameserver fe80::1\n";
        let v6 = build(Some(of_host), "", &["2001:db8::2"]);
        assert_eq!(v6.0, "nameserver 2001:db8::1\n");
    }

    #[test]
    fn b12_b13_stubs_and_files_of_namespaces() {
        assert_eq!(stub("nameserver 127.0.0.53\noptions edns0\n"), Some(Stub::SystemdResolved));
        assert_eq!(stub("# x\n  nameserver 127.0.0.1\n"), Some(Stub::NetworkManager));
        assert_eq!(stub("nameserver 127.0.0.53\nnameserver 192.0.2.1\n"), None);
        assert_eq!(stub(""), None);

        let get = |request: &str, of_netns: Option<&str>| {
            let mut host = testing::host();
            host.own_resolv_conf = Some("nameserver 127.0.0.53\n".to_owned());
            let mut placement = testing::placement();
            placement.netns_resolv_conf = of_netns.map(str::to_owned);
            let effective = testing::effective(request);
            resolv_conf(&effective, &host, &placement, &mut Vec::new())
        };
        assert_eq!(get("", None), "nameserver 192.0.2.1\n");
        assert_eq!(get(r#""NetworkMode":"host""#, None), "nameserver 127.0.0.53\n");
        let path = r#""NetworkMode":"ns:/run/netns/x""#;
        let own = "nameserver 127.0.0.9\nnameserver fe80::1%eth0\n";
        assert_eq!(get(path, Some(own)), own, "B16: what somebody wrote for that namespace");
        assert_eq!(get(path, None), "nameserver 192.0.2.1\n");
    }

    #[test]
    fn b13_who_is_named_for_that_is_asked_where_the_host_names_nobody() {
        let get = |of_host: Option<&str>, request: &str, fallback: &[&str]| {
            let mut host = testing::host();
            host.resolv_conf = of_host.map(str::to_owned);
            host.own_resolv_conf = host.resolv_conf.clone();
            host.fallback_resolvers = fallback.iter().map(|it| it.parse().unwrap()).collect();
            let effective = testing::effective(request);
            resolv_conf(&effective, &host, &testing::placement(), &mut Vec::new())
        };
        let named = ["203.0.113.7", "2001:db8::7", "127.0.0.1"];
        let want = "nameserver 203.0.113.7\n";
        for (about, of_host) in [
            ("missing", None),
            ("empty", Some("")),
            ("loopback alone", Some("nameserver 127.0.0.53\n")),
        ] {
            assert_eq!(get(of_host, "", &[]), "", "{about}: off");
            assert_eq!(get(of_host, "", &named), want, "{about}: those it reaches");
            let alone = r#""NetworkMode":"none""#;
            assert_eq!(get(of_host, alone, &named), "", "{about}: it reaches nobody");
            let with_host = get(of_host, r#""NetworkMode":"host""#, &named);
            assert_eq!(with_host, of_host.unwrap_or_default(), "{about}: what the host has");
        }
        assert_eq!(get(Some("nameserver 192.0.2.1\n"), "", &named), "nameserver 192.0.2.1\n");
        let own = r#""DNS":["192.0.2.9"]"#;
        assert_eq!(get(None, own, &named), "nameserver 192.0.2.9\n");
    }

    #[test]
    fn b14_layers_of_search_lists_and_servers_of_networks() {
        let get = |request: &str| {
            let mut host = testing::host();
            host.resolv_conf = Some("search host.org\nnameserver 192.0.2.1\n".to_owned());
            let mut placement = testing::placement();
            placement.networks[0].nameservers = vec!["10.88.0.1".parse().unwrap()];
            placement.networks[0].search = vec!["dns.tare".parse().unwrap()];
            resolv_conf(&testing::effective(request), &host, &placement, &mut Vec::new())
        };
        assert_eq!(get(""), "search dns.tare host.org\nnameserver 10.88.0.1\n");
        let none = get(r#""DNSSearch":["."]"#);
        assert_eq!(none, "nameserver 10.88.0.1\n");
        let own = get(r#""DNSSearch":[".","a.org"],"DNS":["192.0.2.9"]"#);
        assert_eq!(own, "search a.org\nnameserver 192.0.2.9\n");
    }

    #[test]
    fn what_is_said_about_it() {
        let four = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        let cases = [
            ("fine", Some("nameserver 192.0.2.1"), "", vec![]),
            ("no file", None, "", vec![Warning::NoNameserver]),
            ("loopback alone", Some("nameserver 127.0.0.1"), "", vec![Warning::NoNameserver]),
            ("no network", None, r#""NetworkMode":"none""#, vec![]),
            ("asked for one", None, r#""DNS":["127.0.0.1"]"#, vec![]),
            ("four", Some(four), "", vec![Warning::NameserversLeftOut { count: 1 }]),
        ];
        for (about, host, request, want) in cases {
            assert_eq!(build(host, request, &[]).1, want, "{about}");
        }
        assert_eq!(
            build(Some(four), "", &[]).0,
            four[..four.len() - "nameserver 192.0.2.4\n".len()]
        );
    }

    proptest! {
        #[test]
        fn every_line_is_one_of_ours(host in "((nameserver|search|domain|options|#) ?[ -~\\r\\t\\PC]{0,12}\n){0,6}") {
            let (text, _) = build(Some(&host), r#""NetworkMode":"host""#, &[]);
            prop_assert!(text.is_empty() || text.ends_with('\n'));
            prop_assert!(text.lines().count() <= MAX_NAMESERVERS + 2);
            for line in text.lines() {
                let first = line.split(' ').next().unwrap();
                prop_assert!(["search", "nameserver", "options"].contains(&first), "{}", line);
                prop_assert!(!line.contains(|c: char| c.is_control()));
            }
        }

        #[test]
        fn a_second_pass_changes_nothing(host in "((nameserver 192.0.2.[0-9]|search [ab. ]{0,5}|options [a-c ]{0,5})\n){0,4}") {
            let (once, _) = build(Some(&host), "", &[]);
            prop_assert_eq!(&build(Some(&once), "", &[]).0, &once);
        }
    }
}
