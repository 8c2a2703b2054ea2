//! What a container changed, of an image with many files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Instant;

use crate::condition::Condition;
use crate::engine::{Command, Engine, Holds};
use crate::made_up::write_many;
use crate::row::{Promise, Rounds, Row, Unit, Who};
use crate::stage::Stage;
use crate::{Result, SCRATCH, millis};

pub(super) const ROWS: &[Row] = &[DIFF];

const DIFF: Row = Row {
    name: "diff",
    measures: "what a container changed: 100 of the 400,000 files of its image (quick: of 10,000)",
    unit: Unit::Millis,
    must: Some(Promise::Below(20.0)),
    aim: None,
    contestants: &[Who::Tare, Who::Podman],
    rounds: Rounds { full: 5, quick: 1 },
    under: Condition::PLAIN,
    prepare: |stage, who| Box::pin(change(stage, who)),
    sample: |stage, who| Box::pin(ask(stage, who)),
    clean: |stage, who| Box::pin(forget(stage, who)),
};

const NAME: &str = "localhost/many-files:latest";
const CHANGED: usize = 100;
/// Writes into one file of each of so many directories.
const CHANGES: Command = &[
    "/bin/sh",
    "-c",
    "n=0; while [ $n -lt 100 ]; do echo changed >/files/$n/7 || exit 1; n=$((n + 1)); done; exit 0",
];

/// Has a container that has changed its files, and is through with it.
async fn change(stage: &Stage, who: Who) -> Result<()> {
    let archive = PathBuf::from(SCRATCH).join("many-files.tar");
    write_many(BufWriter::new(File::create(&archive)?), stage.depth.pick(400_000, 10_000))?;
    let images = stage.images(who)?;
    images.take_in(&archive, Holds::Rootfs, NAME).await?;
    fs::remove_file(archive)?;
    let id = images.create_of(NAME, CHANGES).await?;
    let engine = stage.engine(who)?;
    engine.start(&id).await?;
    match engine.wait(&id).await? {
        0 => Ok(()),
        code => Err(format!("exit code {code}").into()),
    }
}

async fn ask(stage: &Stage, who: Who) -> Result<f64> {
    let (images, id) = (stage.images(who)?, only(stage.engine(who)?).await?);
    let begun = Instant::now();
    let changes = images.changes(&id).await?;
    let took = begun.elapsed();
    // Some tell of the directories, too.
    let told: BTreeSet<&str> = changes.iter().map(String::as_str).collect();
    let mut wanted = (0..CHANGED).map(|number| format!("/files/{number}/7"));
    match wanted.find(|path| !told.contains(&**path)) {
        Some(path) => Err(format!("{path} has changed, and is not told").into()),
        None if told.len() > 3 * CHANGED => Err(format!("{} changes", told.len()).into()),
        None => Ok(millis(took)),
    }
}

async fn forget(stage: &Stage, who: Who) -> Result<()> {
    let engine = stage.engine(who)?;
    engine.remove(&only(engine).await?).await?;
    stage.images(who)?.remove_image(NAME).await
}

/// The container there is.
async fn only(engine: &dyn Engine) -> Result<String> {
    engine.list().await?.pop().ok_or_else(|| "there is no container".into())
}
