//! How long it takes to make a config.json and the files beside it, and how much memory is asked
//! for.
#![expect(clippy::unwrap_used, reason = "a bench has no caller to report to")]

mod inputs;

use divan::{AllocProfiler, Bencher};
use tare_specgen::SeccompProfile;

use inputs::{Size, decide, host, image, placement, request, rootfs};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Of a small container, and of one with all that somebody could want.
const SIZES: [Size; 2] = [Size(0, 5), Size(100, 50)];

/// As a service does it when it starts.
#[divan::bench]
fn parse_the_seccomp_profile() -> SeccompProfile {
    SeccompProfile::embedded()
}

#[divan::bench(args = SIZES)]
fn effective(bencher: Bencher<'_, '_>, size: Size) {
    let (request, image) = (request(size), image());
    bencher.bench(|| decide(&request, &image));
}

/// The facts of a host are the same for all containers.
#[divan::bench(args = SIZES)]
fn generate(bencher: Bencher<'_, '_>, size: Size) {
    let request = request(size);
    let effective = decide(&request, &image());
    let (host, rootfs, placement) = (host(), rootfs(), placement(&request));
    bencher.bench(|| tare_specgen::generate(&effective, &host, &rootfs, &placement).unwrap());
}
