//! One whole life.

use std::time::Instant;

use crate::condition::Condition;
use crate::engine::{Network, live};
use crate::row::{Promise, Rounds, Row, Unit, Who, Work, nothing};
use crate::stage::Stage;
use crate::{Result, millis};

pub(super) const ROWS: &[Row] = &[BRIDGE, BRIDGE_FOR_USER, NONE, NONE_FOR_USER];

/// What all of them have in common.
const LIFE: Row = Row {
    name: "",
    measures: "",
    unit: Unit::Millis,
    must: Some(Promise::Times(5.0, Who::Podman)),
    aim: Some(Promise::Times(10.0, Who::Podman)),
    contestants: &[Who::Tare, Who::Podman, Who::Crun],
    rounds: Rounds { full: 30, quick: 2 },
    under: Condition::BOTH,
    prepare: nothing,
    sample: with_bridge,
    clean: nothing,
};

const BRIDGE: Row = Row {
    name: "life-bridge",
    measures: "create, start, wait for the end, remove; bridge network (crun: an empty one)",
    ..LIFE
};

const BRIDGE_FOR_USER: Row = Row {
    name: "life-bridge-user",
    measures: "the same, called by a user about whom polkit is asked (podman: by root)",
    must: None,
    aim: None,
    contestants: &[Who::TareForUser, Who::Podman],
    ..LIFE
};

const NONE: Row = Row {
    name: "life-none",
    measures: "create, start, wait for the end, remove; no network but an empty one",
    must: None,
    aim: None,
    contestants: &[Who::Tare, Who::Podman, Who::Crun, Who::Unshare],
    sample: without,
    ..LIFE
};

const NONE_FOR_USER: Row = Row {
    name: "life-none-user",
    measures: "the same, called by a user about whom polkit is asked (podman: by root)",
    must: None,
    aim: None,
    contestants: &[Who::TareForUser, Who::Podman],
    sample: without,
    ..LIFE
};

fn with_bridge(stage: &Stage, who: Who) -> Work<'_, f64> {
    Box::pin(life(stage, who, Network::Bridge))
}

fn without(stage: &Stage, who: Who) -> Work<'_, f64> {
    Box::pin(life(stage, who, Network::None))
}

async fn life(stage: &Stage, who: Who, network: Network) -> Result<f64> {
    let engine = stage.engine(who)?;
    let begun = Instant::now();
    live(engine, network).await?;
    Ok(millis(begun.elapsed()))
}
