//! How long it takes to read what is said of an entry of a layer, before anything is done with it.
#![expect(clippy::unwrap_used, reason = "a bench has no caller to report to")]

mod unpack;

use divan::Bencher;
use tar::Header;

/// What the parsers know as the crate's own.
mod error {
    pub(crate) use tare_storage::{Malformed, Refusal};
}

fn main() {
    divan::main();
}

#[divan::bench(args = ["bin/sh", "./usr/lib/x86_64-linux-gnu/libc.so.6"])]
fn path(name: &str) -> usize {
    unpack::path_length(name.as_bytes())
}

#[divan::bench]
fn header(bencher: Bencher<'_, '_>) {
    let header = entry();
    bencher.bench(|| unpack::size(&header, None));
}

#[divan::bench]
fn header_with_records_of_pax(bencher: Bencher<'_, '_>) {
    let (header, pax) = (entry(), b"30 mtime=1700000000.123456789\n20 path=usr/bin/env\n");
    bencher.with_inputs(|| Some(pax.to_vec())).bench_values(|pax| unpack::size(&header, pax));
}

fn entry() -> Header {
    let mut header = Header::new_ustar();
    header.set_path("usr/share/doc/libgcc-s1").unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(4096);
    header.set_cksum();
    header
}
