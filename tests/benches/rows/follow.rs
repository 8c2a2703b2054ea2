//! What follows the host, in containers that run.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use system_tests::{Options, ROOT};
use tokio::time::sleep;
use zbus::{OwnedObjectPath, Variant};

use crate::condition::Condition;
use crate::engine::{Engine, IMAGE, RUNS, Tare, end};
use crate::row::{Promise, Rounds, Row, Unit, Who, nothing};
use crate::stage::Stage;
use crate::{Result, millis};

pub(super) const ROWS: &[Row] = &[RESOLVERS];

const RESOLVERS: Row = Row {
    name: "resolvers-follow",
    measures: "until a container that runs has the resolvers that the host was given",
    unit: Unit::Millis,
    must: Some(Promise::Below(1000.0)),
    aim: None,
    contestants: &[Who::Tare],
    rounds: Rounds { full: 10, quick: 2 },
    under: Condition::PLAIN,
    prepare: nothing,
    sample: |stage, _| Box::pin(follow(stage)),
    clean: nothing,
};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// One where nobody answers in between, so that containers have the host's.
const MUTE: &str = "tare-bench-mute";
/// Not what a lab system has.
const GIVEN: &str = "nameserver 192.0.2.54\n";
/// Longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);

async fn follow(stage: &Stage) -> Result<f64> {
    let tare = stage.tare();
    let options = Options::from([("DNS", false.into())]);
    let network: OwnedObjectPath =
        tare.answer(ROOT, "Manager", "CreateNetwork", &(MUTE, options)).await?;
    let id = create(tare).await?;
    tare.start(&id).await?;
    let pid: u32 = tare.property(&id, "Container", "PID").await?;
    let inside = PathBuf::from(format!("/proc/{pid}/root")).join(&RESOLV_CONF[1..]);
    let before = fs::read(RESOLV_CONF)?;
    if fs::read_to_string(&inside)?.contains(GIVEN) {
        return Err("a container has already what the host is given".into());
    }
    fs::write(RESOLV_CONF, GIVEN)?;
    let took = until_given(&inside).await;
    fs::write(RESOLV_CONF, before)?;
    end(tare, &id).await?;
    tare.call(&network, "Network", "Remove", &0_u64).await?;
    Ok(millis(took?))
}

async fn create(tare: &Tare) -> Result<String> {
    let place = HashMap::from([("Network".to_owned(), Variant::from(MUTE))]);
    let options =
        Options::from([("Command", RUNS.to_vec().into()), ("Networks", vec![place].into())]);
    let path: OwnedObjectPath =
        tare.answer(ROOT, "Manager", "CreateContainer", &("", IMAGE, options)).await?;
    Ok(path.to_string())
}

async fn until_given(inside: &Path) -> Result<Duration> {
    let begun = Instant::now();
    while !fs::read_to_string(inside)?.contains(GIVEN) {
        if begun.elapsed() > PATIENCE {
            return Err("the resolvers of the host are not followed".into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(begun.elapsed())
}
