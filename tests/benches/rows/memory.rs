//! What is kept in memory.

use std::io::{BufWriter, PipeWriter};
use std::os::fd::AsFd;

use tar::Builder;
use tokio::task::spawn_blocking;

use crate::Result;
use crate::condition::Condition;
use crate::engine::{Engine, Network, RUNS, end, live};
use crate::made_up::{Content, append_files};
use crate::row::{Promise, Rounds, Row, Unit, Who, nothing};
use crate::stage::{Depth, Stage, service};

/// Lives after which a service has made what it keeps.
fn enough(depth: Depth) -> usize {
    depth.pick(10, 2)
}

pub(super) const ROWS: &[Row] = &[IDLE, PER_CONTAINER, UNPACKING];

/// What both have in common.
const MEMORY: Row = Row {
    name: "",
    measures: "",
    unit: Unit::Megabytes,
    must: None,
    aim: None,
    contestants: &[Who::Tare, Who::Podman],
    rounds: Rounds { full: 2, quick: 1 },
    under: Condition::BOTH,
    prepare: nothing,
    sample: |stage, who| Box::pin(idle(stage, who)),
    clean: nothing,
};

const IDLE: Row = Row {
    name: "memory-idle",
    measures: "resident memory of the service, started anew, after ten lives (quick: two)",
    must: Some(Promise::Below(12.0)),
    aim: Some(Promise::Below(8.0)),
    rounds: Rounds { full: 5, quick: 1 },
    ..MEMORY
};

const PER_CONTAINER: Row = Row {
    name: "memory-running",
    measures: "(PSS with 200 running - PSS idle) / 200, conmon counted (quick: with 5)",
    must: Some(Promise::Below(1.5)),
    aim: Some(Promise::Below(1.0)),
    sample: |stage, who| Box::pin(per_container(stage, who)),
    ..MEMORY
};

const UNPACKING: Row = Row {
    name: "memory-unpack",
    measures: "resident memory of the service at most while it unpacks a tar of 2 GB (quick: of 20 MB)",
    must: Some(Promise::Below(64.0)),
    contestants: &[Who::Tare],
    rounds: Rounds { full: 2, quick: 1 },
    under: Condition::PLAIN,
    sample: |stage, who| Box::pin(unpacking(stage, who)),
    ..MEMORY
};

async fn idle(stage: &Stage, who: Who) -> Result<f64> {
    warm(stage, who).await?;
    Ok(megabytes(service(who)?.resident().await?))
}

async fn per_container(stage: &Stage, who: Who) -> Result<f64> {
    let number: u32 = stage.depth.pick(200, 5);
    let engine = warm(stage, who).await?;
    let idle = service(who)?.share().await?;
    let mut running = Vec::new();
    for _ in 0..number {
        let id = engine.create(Network::Bridge, RUNS).await?;
        engine.start(&id).await?;
        running.push(id);
    }
    let busy = service(who)?.share().await?;
    for id in running {
        end(engine, &id).await?;
    }
    Ok((megabytes(busy) - megabytes(idle)) / f64::from(number))
}

/// The archive is made while it is read, so that it takes no room on disk.
async fn unpacking(stage: &Stage, who: Who) -> Result<f64> {
    const NAME: &str = "localhost/unpacked:latest";
    warm(stage, who).await?;
    service(who)?.forget_peak().await?;
    let size = stage.depth.pick(2_000_000_000, 20_000_000);
    let (reader, writer) = std::io::pipe()?;
    let writing = spawn_blocking(move || write(writer, size));
    stage.tare().import_from(reader.as_fd(), NAME).await?;
    drop(reader);
    writing.await??;
    let peak = service(who)?.peak().await?;
    let images = stage.images(who)?;
    let came = images.size(NAME).await?;
    images.remove_image(NAME).await?;
    if came != size {
        return Err(format!("it has {came} bytes in place of {size}").into());
    }
    Ok(megabytes(peak))
}

fn write(to: PipeWriter, size: u64) -> Result<()> {
    let mut tar = Builder::new(BufWriter::new(to));
    append_files(&mut tar, "usr", size, Content::Bytes)?;
    tar.into_inner()?.into_inner()?;
    Ok(())
}

/// A service that was just started, and has done something.
async fn warm(stage: &Stage, who: Who) -> Result<&dyn Engine> {
    service(who)?.stop().await?;
    let engine = stage.engine(who)?;
    for _ in 0..enough(stage.depth) {
        live(engine, Network::Bridge).await?;
    }
    Ok(engine)
}

#[expect(clippy::cast_precision_loss, reason = "to be read by people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
