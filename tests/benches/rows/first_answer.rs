//! A service that does not run is called.

use std::time::Instant;

use crate::condition::Condition;
use crate::row::{Rounds, Row, Unit, Who, nothing};
use crate::stage::{Stage, service};
use crate::{Result, millis};

pub(super) const ROWS: &[Row] = &[STOPPED];

const STOPPED: Row = Row {
    name: "first-answer",
    measures: "list of no containers from a service that does not run, and is started by that",
    unit: Unit::Millis,
    must: None,
    aim: None,
    contestants: &[Who::Tare, Who::Podman],
    rounds: Rounds { full: 15, quick: 2 },
    under: Condition::BOTH,
    prepare: nothing,
    sample: |stage, who| Box::pin(first_answer(stage, who)),
    clean: nothing,
};

async fn first_answer(stage: &Stage, who: Who) -> Result<f64> {
    service(who)?.stop().await?;
    let engine = stage.engine(who)?;
    let begun = Instant::now();
    engine.list().await?;
    Ok(millis(begun.elapsed()))
}
