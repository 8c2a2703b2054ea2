//! Many lives at once.

use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::Result;
use crate::condition::Condition;
use crate::engine::{Network, live};
use crate::row::{Promise, Rounds, Row, Unit, Who, nothing};
use crate::stage::Stage;

pub(super) const ROWS: &[Row] = &[ONE, FOUR, SIXTEEN];

/// What all of them have in common.
const RATE: Row = Row {
    name: "",
    measures: "",
    unit: Unit::PerSecond,
    must: None,
    aim: None,
    contestants: &[Who::Tare, Who::Podman, Who::Crun],
    rounds: Rounds { full: 5, quick: 1 },
    under: Condition::BOTH,
    prepare: nothing,
    sample: |stage, who| Box::pin(rate(stage, who, 1)),
    clean: nothing,
};

const ONE: Row = Row {
    name: "rate-1",
    measures: "lives in a second, one after the other; bridge network",
    ..RATE
};

const FOUR: Row = Row {
    name: "rate-4",
    measures: "lives in a second, 4 at a time; bridge network",
    sample: |stage, who| Box::pin(rate(stage, who, 4)),
    ..RATE
};

const SIXTEEN: Row = Row {
    name: "rate-16",
    measures: "lives in a second, 16 at a time; bridge network",
    must: Some(Promise::Above(50.0)),
    aim: Some(Promise::Above(100.0)),
    sample: |stage, who| Box::pin(rate(stage, who, 16)),
    ..RATE
};

async fn rate(stage: &Stage, who: Who, at_a_time: usize) -> Result<f64> {
    let engine = stage.engine(who)?;
    let lives: u32 = stage.depth.pick(32, 8);
    let begun = Instant::now();
    stream::iter(0..lives)
        .map(|_| live(engine, Network::Bridge))
        .buffer_unordered(at_a_time)
        .try_collect::<()>()
        .await?;
    Ok(f64::from(lives) / begun.elapsed().as_secs_f64())
}
