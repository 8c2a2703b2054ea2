//! The start alone.

use std::time::Instant;

use crate::condition::Condition;
use crate::engine::{Network, RUNS, end};
use crate::row::{Promise, Rounds, Row, Unit, Who, nothing};
use crate::stage::Stage;
use crate::{Result, millis};

pub(super) const ROWS: &[Row] = &[BRIDGE];

const BRIDGE: Row = Row {
    name: "start-bridge",
    measures: "start of a container that is there; bridge network (crun: create and start)",
    unit: Unit::Millis,
    must: Some(Promise::Over(12.0, Who::Crun)),
    aim: Some(Promise::Over(5.0, Who::Crun)),
    contestants: &[Who::Tare, Who::Podman, Who::Crun],
    rounds: Rounds { full: 30, quick: 2 },
    under: Condition::BOTH,
    prepare: nothing,
    sample: |stage, who| Box::pin(start(stage, who)),
    clean: nothing,
};

async fn start(stage: &Stage, who: Who) -> Result<f64> {
    let engine = stage.engine(who)?;
    let id = engine.create(Network::Bridge, RUNS).await?;
    let begun = Instant::now();
    engine.start(&id).await?;
    let took = begun.elapsed();
    end(engine, &id).await?;
    Ok(millis(took))
}
