//! Lists of many.

use std::time::Instant;

use crate::condition::Condition;
use crate::engine::{Network, RUNS, remove_all};
use crate::row::{Promise, Rounds, Row, Unit, Who};
use crate::stage::{Depth, Stage};
use crate::{Result, millis};

/// How many are spoken of.
const MANY: u32 = 1000;

pub(super) const ROWS: &[Row] = &[THOUSAND];

const THOUSAND: Row = Row {
    name: "list-1000",
    measures: "list of 1,000 containers that do not run (quick: of 50, times 20)",
    unit: Unit::Millis,
    must: Some(Promise::Below(20.0)),
    aim: Some(Promise::Below(5.0)),
    contestants: &[Who::Tare, Who::Podman],
    rounds: Rounds { full: 25, quick: 3 },
    under: Condition::BOTH,
    prepare: |stage, who| Box::pin(create(stage, who)),
    sample: |stage, who| Box::pin(list(stage, who)),
    clean: |stage, who| Box::pin(async move { remove_all(stage.engine(who)?).await }),
};

fn number(depth: Depth) -> u32 {
    depth.pick(MANY, MANY / 20)
}

async fn create(stage: &Stage, who: Who) -> Result<()> {
    let engine = stage.engine(who)?;
    for _ in 0..number(stage.depth) {
        engine.create(Network::Bridge, RUNS).await?;
    }
    Ok(())
}

async fn list(stage: &Stage, who: Who) -> Result<f64> {
    let (engine, number) = (stage.engine(who)?, number(stage.depth));
    let begun = Instant::now();
    let listed = engine.list().await?.len();
    let took = begun.elapsed();
    if listed != usize::try_from(number)? {
        return Err(format!("{listed} containers listed of {number}").into());
    }
    Ok(millis(took) * f64::from(MANY) / f64::from(number))
}
