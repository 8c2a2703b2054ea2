//! Images out of archives.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use rustix::fs::syncfs;
use serde_json::json;
use system_tests::archive::{Picture, oci_archive};
use tar::Builder;

use crate::condition::Condition;
use crate::engine::Holds;
use crate::made_up::{Content, append_files};
use crate::row::{Promise, Rounds, Row, Unit, Who};
use crate::stage::{Depth, Stage};
use crate::{Result, SCRATCH, millis};

pub(super) const ROWS: &[Row] = &[ROOTFS, LAYERS];

const ROOTFS: Row = Row {
    name: "import-rootfs",
    measures: "import of a tar of 500 MB in 21,000 files of noise; by podman import (quick: 5 MB)",
    unit: Unit::Millis,
    must: Some(Promise::Times(2.0, Who::Podman)),
    aim: None,
    contestants: &[Who::Tare, Who::Podman],
    rounds: Rounds { full: 3, quick: 1 },
    under: Condition::PLAIN,
    prepare: |stage, _| Box::pin(async move { make(stage.depth, Holds::Rootfs) }),
    sample: |stage, who| Box::pin(import(stage, who, Holds::Rootfs)),
    clean: |_, _| Box::pin(async { unmake(Holds::Rootfs) }),
};

const LAYERS: Row = Row {
    name: "import-layers",
    measures: "import of an OCI archive of 20 layers, by gzip 113 MB of 200; by podman load (quick: of 4)",
    prepare: |stage, _| Box::pin(async move { make(stage.depth, Holds::Image) }),
    sample: |stage, who| Box::pin(import(stage, who, Holds::Image)),
    clean: |_, _| Box::pin(async { unmake(Holds::Image) }),
    ..ROOTFS
};

const NAME: &str = "localhost/imported:latest";
const NUMBER_OF_LAYERS: u64 = 20;

/// Bytes of all its files.
fn size(depth: Depth, holds: Holds) -> u64 {
    match holds {
        Holds::Rootfs => depth.pick(500_000_000, 5_000_000),
        Holds::Image => depth.pick(200_000_000, 4_000_000),
    }
}

fn place(holds: Holds) -> PathBuf {
    PathBuf::from(SCRATCH).join(match holds {
        Holds::Rootfs => "rootfs.tar",
        Holds::Image => "layers.tar",
    })
}

/// Makes the archive, once for everybody.
fn make(depth: Depth, holds: Holds) -> Result<()> {
    let place = place(holds);
    if place.exists() {
        return Ok(());
    }
    let mut file = BufWriter::new(File::create(place)?);
    let size = size(depth, holds);
    match holds {
        Holds::Rootfs => {
            let mut tar = Builder::new(&mut file);
            append_files(&mut tar, "usr", size, Content::Bytes)?;
            tar.finish()?;
        }
        Holds::Image => file.write_all(&oci_archive(&[picture(size)?]))?,
    }
    // Or it would be written while somebody is measured.
    Ok(file.into_inner()?.sync_all()?)
}

/// An image of so many bytes, no file of which is in two layers.
fn picture(size: u64) -> Result<Picture> {
    let layer = |number| -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        let top = format!("layer-{number}");
        append_files(&mut tar, &top, size / NUMBER_OF_LAYERS, Content::Digits)?;
        Ok(tar.into_inner()?)
    };
    let layers = (0..NUMBER_OF_LAYERS).map(layer).collect::<Result<_>>()?;
    Ok(Picture { name: NAME.into(), layers, config: json!({ "Cmd": ["/bin/sh"] }) })
}

/// Everybody cleans; the first one finds it.
fn unmake(holds: Holds) -> Result<()> {
    let place = place(holds);
    if place.exists() { Ok(fs::remove_file(place)?) } else { Ok(()) }
}

/// Ours is on disk when it is there, theirs is not. What one has not written yet would be written in the
/// turn of the next, so it is waited for here; that is not timed.
async fn import(stage: &Stage, who: Who, holds: Holds) -> Result<f64> {
    let images = stage.images(who)?;
    let begun = Instant::now();
    images.take_in(&place(holds), holds, NAME).await?;
    let took = begun.elapsed();
    let (size, least) = (images.size(NAME).await?, size(stage.depth, holds));
    images.remove_image(NAME).await?;
    syncfs(File::open(SCRATCH)?)?;
    if size < least {
        return Err(format!("it has {size} bytes in place of {least}").into());
    }
    Ok(millis(took))
}
