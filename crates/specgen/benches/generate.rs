//! How long it takes to make a config.json and the files beside it, and how much memory is asked
//! for: medians of many.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench looks at the clock, prints, and has no caller to report to"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tare_specgen::{
    Architecture, CapabilitySet, Effective, Foreign, HostFacts, ImageDefaults, KernelVersion,
    Placement, Request, RootfsFacts, SeccompProfile, effective, generate,
};

const ROUNDS: usize = 5_000;

/// Counts what is asked of the allocator.
mod sys {
    #![expect(unsafe_code, reason = "an allocator is unsafe to write")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicUsize, Ordering};

    pub(super) static BYTES: AtomicUsize = AtomicUsize::new(0);
    pub(super) static CALLS: AtomicUsize = AtomicUsize::new(0);

    struct Counting;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    // SAFETY: every call is handed on to the system's allocator as it came.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            BYTES.fetch_add(layout.size(), Ordering::Relaxed);
            CALLS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the pointer came from `System.alloc` with this layout.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

struct Inputs {
    effective: Effective,
    host: HostFacts,
    rootfs: RootfsFacts,
    placement: Placement,
}

fn main() {
    let image = ImageDefaults::parse(br#"{"config":{"Cmd":["sh"],"Env":["A=1"]}}"#).unwrap();
    let (small, big) = (request(0, 5), request(100, 50));
    println!("{:<34}{:>10}{:>12}{:>10}", "", "median", "bytes", "calls");
    report("parse the seccomp profile", SeccompProfile::embedded);
    report("effective, 100 mounts, 50 env", || {
        effective(&big, &image, &Foreign::default()).unwrap()
    });
    for (name, request) in [("plain container", small), ("100 mounts, 50 env", big)] {
        let inputs = inputs(&request, &image);
        let Inputs { effective, host, rootfs, placement } = &inputs;
        let made = generate(effective, host, rootfs, placement).unwrap();
        let written: usize = made.files.iter().map(|file| file.content.as_ref().len()).sum();
        println!("{name}: config.json {} bytes, files {written}", made.config.len());
        report("  generate, with all files", || {
            generate(effective, host, rootfs, placement).unwrap()
        });
    }
}

/// Volumes with options, and a user that has to be added to `passwd`.
fn request(mounts: usize, env: usize) -> Request {
    let mounts: Vec<_> = (0..mounts)
        .map(|n| {
            serde_json::json!({
                "Target": format!("/srv/data/{}/{n}", n % 7), "Options": ["noatime", "rslave"],
                "Source": {"Volume": {"Name": format!("volume-{n}")}},
            })
        })
        .collect();
    let env: Vec<_> = (0..env).map(|n| format!("NAME_{n}=value {n}")).collect();
    let json = serde_json::json!({"v": 1, "User": "1234:5678", "Mounts": mounts, "Env": env});
    serde_json::from_value(json).unwrap()
}

fn inputs(request: &Request, image: &ImageDefaults) -> Inputs {
    let kernel = KernelVersion { major: 6, minor: 12 };
    let mut host = HostFacts::new(Architecture::X86_64, kernel, SeccompProfile::embedded());
    host.capabilities = CapabilitySet::ALL;
    host.resolv_conf = Some("nameserver 192.0.2.1\nsearch example.org\n".to_owned());
    let mut rootfs = RootfsFacts::default();
    rootfs.passwd = Some(b"root:x:0:0:root:/root:/bin/sh\n".repeat(20));
    rootfs.group = Some(b"root:x:0:\n".repeat(40));
    let path = |text: &str| text.parse().unwrap();
    let mut placement = Placement::new(
        path("/run/tare/containers/x/1/rootfs"),
        path("/run/tare/containers/x/1/files"),
        path("/run/tare/containers/x/1/shm"),
        "0123456789ab".parse().unwrap(),
        "machine.slice:tare:x",
    );
    for (n, mount) in request.mounts.iter().enumerate() {
        let source = path(&format!("/run/tare/containers/x/1/mounts/{n}"));
        placement.mounts.insert(mount.target.clone(), source);
    }
    let effective = effective(request, image, &Foreign::default()).unwrap();
    Inputs { effective, host, rootfs, placement }
}

fn report<T>(name: &str, work: impl Fn() -> T) {
    use std::sync::atomic::Ordering::Relaxed;
    let before = (sys::BYTES.load(Relaxed), sys::CALLS.load(Relaxed));
    black_box(work());
    let bytes = sys::BYTES.load(Relaxed) - before.0;
    let calls = sys::CALLS.load(Relaxed) - before.1;
    println!("{name:<34}{:>10.1?}{bytes:>12}{calls:>10}", median(&work));
}

fn median<T>(work: &impl Fn() -> T) -> Duration {
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
