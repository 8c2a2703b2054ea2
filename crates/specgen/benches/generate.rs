//! How long it takes to make a config.json: the median of many, in microseconds.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench looks at the clock, prints, and has no caller to report to"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tare_specgen::{
    Architecture, CapabilitySet, Foreign, HostFacts, ImageDefaults, KernelVersion, Placement,
    Request, RootfsFacts, SeccompProfile, effective, generate,
};

const ROUNDS: usize = 5_000;

fn main() {
    let image = ImageDefaults::parse(br#"{"config":{"Cmd":["sh"],"Env":["A=1"]}}"#).unwrap();
    let mut request = Request::default();
    request.env = (0..100).map(|i| format!("NAME_{i}=value {i}").parse().unwrap()).collect();
    let mut host = HostFacts::new(
        Architecture::X86_64,
        KernelVersion { major: 6, minor: 12 },
        SeccompProfile::embedded(),
    );
    host.capabilities = CapabilitySet::ALL;
    host.resolv_conf = Some("nameserver 192.0.2.1\nsearch example.org\n".to_owned());
    let mut rootfs = RootfsFacts::default();
    rootfs.passwd = Some(b"root:x:0:0:root:/root:/bin/sh\n".repeat(20));
    let path = |text: &str| text.parse().unwrap();
    let placement = Placement::new(
        path("/run/tare/containers/x/1/rootfs"),
        path("/run/tare/containers/x/1/files"),
        path("/run/tare/containers/x/1/shm"),
        "0123456789ab".parse().unwrap(),
        "machine.slice:tare:x",
    );

    let effective_once = effective(&request, &image, &Foreign::default()).unwrap();
    println!("parse the seccomp profile    {:>8.1?}", median(SeccompProfile::embedded));
    println!(
        "effective, 100 variables     {:>8.1?}",
        median(|| effective(&request, &image, &Foreign::default()).unwrap())
    );
    println!(
        "generate, 100 variables      {:>8.1?}",
        median(|| generate(&effective_once, &host, &rootfs, &placement).unwrap())
    );
}

fn median<T>(work: impl Fn() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
