//! How long it takes to read a line of a container's log and to hand it on.
#![expect(clippy::unwrap_used, reason = "a bench has no caller to report to")]

use divan::Bencher;
use divan::counter::BytesCount;
use tare_runtime::log::{Line, Record, Stream, parse_line};

fn main() {
    divan::main();
}

/// By the length of what the container has written.
const LENGTHS: [usize; 2] = [20, 2000];

#[divan::bench(args = LENGTHS)]
fn read(bencher: Bencher<'_, '_>, length: usize) {
    let line = format!("2026-11-23T16:57:13.302016294+00:00 stdout F {}", "x".repeat(length));
    let bytes = BytesCount::of_str(&line);
    bencher.counter(bytes).bench(|| timestamp(&parse_line(line.as_bytes()).unwrap()));
}

fn timestamp(line: &Line<'_>) -> u64 {
    line.timestamp_usec
}

#[divan::bench(args = LENGTHS)]
fn hand_on(bencher: Bencher<'_, '_>, length: usize) {
    let message = "x".repeat(length).into_bytes();
    let record = Record { timestamp_usec: 1_700_000_000_000_000, stream: Stream::Stdout, message };
    bencher.counter(BytesCount::new(length)).bench(|| record.to_json_line());
}
