//! Inputs that tests of several modules start from.

use crate::capability::CapabilitySet;
use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{Architecture, HostFacts, KernelVersion, NetworkFacts, Placement, RootfsFacts};
use crate::generate::{Generated, generate};
use crate::image::ImageDefaults;
use crate::reason::Foreign;
use crate::request::Request;
use crate::seccomp::SeccompProfile;

/// A host with everything.
pub(crate) fn host() -> HostFacts {
    let kernel = KernelVersion { major: 6, minor: 12 };
    let mut host = HostFacts::new(Architecture::X86_64, kernel, SeccompProfile::embedded());
    host.capabilities = CapabilitySet::ALL;
    host.controllers =
        ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids"].map(str::to_owned).into();
    host.swap_limits = true;
    host.hostname = "the-host".parse().ok();
    host.resolv_conf = Some("nameserver 192.0.2.1\n".to_owned());
    host
}

/// Two accounts.
pub(crate) fn rootfs() -> RootfsFacts {
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/srv/www:/bin/false\n";
    let group = b"root:x:0:\nwww:x:33:\nvideo:x:44:www\n";
    let mut facts = RootfsFacts::default();
    (facts.passwd, facts.group) = (Some(passwd.to_vec()), Some(group.to_vec()));
    facts
}

/// One network, one address.
pub(crate) fn placement() -> Placement {
    let mut placement = Placement::new(
        "/run/b/rootfs".parse().unwrap(),
        "/run/b/files".parse().unwrap(),
        "/run/b/shm".parse().unwrap(),
        "0123456789ab".parse().unwrap(),
        "/tare/x",
    );
    placement.netns = "/run/netns/tare-x".parse().ok();
    let network = NetworkFacts::new(vec!["10.88.0.2".parse().unwrap()], "10.88.0.1".parse().ok());
    placement.networks = vec![network];
    placement
}

/// The members of a request's JSON (without braces), over an image that runs `sh`.
pub(crate) fn effective(request: &str) -> Effective {
    try_effective(request).unwrap()
}

/// The same, if the options go together.
pub(crate) fn try_effective(request: &str) -> Result<Effective, Error> {
    let comma = if request.is_empty() { "" } else { "," };
    let request: Request = serde_json::from_str(&format!("{{\"v\":1{comma}{request}}}")).unwrap();
    let image = ImageDefaults::parse(br#"{"config":{"Cmd":["sh"]}}"#).unwrap();
    crate::effective(&request, &image, &Foreign::default())
}

/// The same, generated.
pub(crate) fn generated(request: &str) -> Generated {
    generate(&effective(request), &host(), &rootfs(), &placement()).unwrap()
}
