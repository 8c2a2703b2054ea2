//! The configuration of one container.

use std::time::Instant;

use crate::condition::Condition;
use crate::figures::Summary;
use crate::row::{Promise, Rounds, Row, Unit, Who, nothing};
use crate::{Result, micros};

/// The container that the crate's own bench has.
#[path = "../../../crates/specgen/benches/generate/inputs.rs"]
#[expect(clippy::unwrap_used, reason = "written for a bench, and known to be good")]
mod inputs;

use inputs::{Size, decide, host, image, placement, request, rootfs};

pub(super) const ROWS: &[Row] = &[HUNDRED_MOUNTS];

const HUNDRED_MOUNTS: Row = Row {
    name: "spec-100",
    measures: "spec generation, 100 mounts and 50 variables, from the request on; median of 200",
    unit: Unit::Micros,
    must: Some(Promise::Below(200.0)),
    aim: Some(Promise::Below(50.0)),
    contestants: &[Who::Library("tare-specgen")],
    rounds: Rounds { full: 10, quick: 1 },
    under: Condition::PLAIN,
    prepare: nothing,
    sample: |_, _| Box::pin(async { generate() }),
    clean: nothing,
};

const TIMES: usize = 200;

fn generate() -> Result<f64> {
    let (request, image, host, rootfs) = (request(Size(100, 50)), image(), host(), rootfs());
    let placement = placement(&request);
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let begun = Instant::now();
        let effective = decide(&request, &image);
        let generated = tare_specgen::generate(&effective, &host, &rootfs, &placement)?;
        times.push(micros(begun.elapsed()));
        drop(generated);
    }
    Ok(Summary::of(times).ok_or("nothing generated")?.median)
}
