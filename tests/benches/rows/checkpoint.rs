//! A container is put away, and goes on.

use crate::condition::Condition;
use crate::row::{Promise, Rounds, Row, Unit, Who, Work};
use crate::stage::Stage;
use crate::{Result, millis};

pub(super) const ROWS: &[Row] = &[CHECKPOINT, RESTORE];

const CHECKPOINT: Row = Row {
    name: "checkpoint",
    measures: "checkpoint of a shell by CRIU, uncompressed, on disk; no network but an empty one",
    unit: Unit::Millis,
    must: Some(Promise::OverShare(25.0, 100.0, Who::Crun)),
    aim: Some(Promise::OverShare(10.0, 50.0, Who::Crun)),
    contestants: &[Who::Tare, Who::Crun, Who::Podman],
    rounds: Rounds { full: 10, quick: 1 },
    under: Condition::BOTH,
    prepare: |stage, who| Box::pin(async move { stage.checkpoints(who)?.prepare().await }),
    sample: |stage, who| measured(stage, who, 0),
    clean: |stage, who| Box::pin(async move { stage.checkpoints(who)?.clean().await }),
};

const RESTORE: Row = Row {
    name: "restore",
    measures: "the way back, until it runs",
    sample: |stage, who| measured(stage, who, 1),
    ..CHECKPOINT
};

fn measured(stage: &Stage, who: Who, which: usize) -> Work<'_, f64> {
    Box::pin(async move { one_of_both(stage, who, which).await })
}

async fn one_of_both(stage: &Stage, who: Who, which: usize) -> Result<f64> {
    Ok(millis(stage.checkpoints(who)?.there_and_back().await?[which]))
}
