//! How long it takes to make a config.json of a request.
#![expect(clippy::unwrap_used, reason = "a bench has no caller to report to")]

use divan::Bencher;
use tare_specgen::{
    Architecture, CapabilitySet, Effective, Generated, HostFacts, ImageDefaults, KernelVersion,
    Placement, Request, RootfsFacts, SeccompProfile,
};

fn main() {
    divan::main();
}

/// As a service does it when it starts.
#[divan::bench]
fn parse_the_seccomp_profile() -> SeccompProfile {
    SeccompProfile::embedded()
}

#[divan::bench(args = [0, 100])]
fn effective(bencher: Bencher<'_, '_>, variables: u32) {
    let (request, image) = (request(variables), image());
    bencher.bench(|| tare_specgen::effective(&request, &image));
}

/// The facts of a host are the same for all containers.
#[divan::bench(args = [0, 100])]
fn generate(bencher: Bencher<'_, '_>, variables: u32) {
    let effective = tare_specgen::effective(&request(variables), &image());
    let (host, rootfs, placement) = (host(), rootfs(), placement());
    bencher.bench(|| generate_once(&effective, &host, &rootfs, &placement));
}

fn generate_once(
    effective: &Effective,
    host: &HostFacts,
    rootfs: &RootfsFacts,
    placement: &Placement,
) -> Generated {
    tare_specgen::generate(effective, host, rootfs, placement).unwrap()
}

fn request(variables: u32) -> Request {
    let mut request = Request::default();
    let variable = |number| format!("NAME_{number}=value {number}").parse().unwrap();
    request.env = (0..variables).map(variable).collect();
    request
}

fn image() -> ImageDefaults {
    ImageDefaults::parse(br#"{"config":{"Cmd":["sh"],"Env":["A=1"]}}"#).unwrap()
}

fn host() -> HostFacts {
    let kernel = KernelVersion { major: 6, minor: 12 };
    let mut host = HostFacts::new(Architecture::X86_64, kernel, SeccompProfile::embedded());
    host.capabilities = CapabilitySet::ALL;
    host.resolv_conf = Some("nameserver 192.0.2.1\nsearch example.org\n".to_owned());
    host
}

fn rootfs() -> RootfsFacts {
    let mut rootfs = RootfsFacts::default();
    rootfs.passwd = Some(b"root:x:0:0:root:/root:/bin/sh\n".repeat(20));
    rootfs
}

fn placement() -> Placement {
    let path = |text: &str| text.parse().unwrap();
    Placement::new(
        path("/run/tare/containers/x/1/rootfs"),
        path("/run/tare/containers/x/1/files"),
        path("/run/tare/containers/x/1/shm"),
        "0123456789ab".parse().unwrap(),
        "machine.slice:tare:x",
    )
}
