//! Images by our service.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use async_trait::async_trait;
use system_tests::{Options, ROOT};
use zbus::{Fd, OwnedObjectPath};

use super::Tare;
use crate::Result;
use crate::engine::{Command, Holds, Images, Network};

/// As many changes as are asked for.
const MOST: u32 = 10_000;

impl Tare {
    /// Takes in what is read from there.
    pub(crate) async fn import_from(&self, archive: BorrowedFd<'_>, name: &str) -> Result<()> {
        let options = Options::from([("Reference", name.into())]);
        self.job(ROOT, "Manager", "ImportImage", &(Fd::from(archive), options)).await
    }

    async fn image(&self, name: &str) -> Result<OwnedObjectPath> {
        self.answer(ROOT, "Manager", "GetImage", &name).await
    }
}

#[async_trait(?Send)]
impl Images for Tare {
    async fn take_in(&self, archive: &Path, _: Holds, name: &str) -> Result<()> {
        self.import_from(File::open(archive)?.as_fd(), name).await
    }

    async fn size(&self, name: &str) -> Result<u64> {
        self.property(&self.image(name).await?, "Image", "Size").await
    }

    async fn remove_image(&self, name: &str) -> Result<()> {
        self.job(&self.image(name).await?, "Image", "Remove", &1_u64).await
    }

    async fn create_of(&self, name: &str, command: Command) -> Result<String> {
        self.create_from(name, Network::None, command).await
    }

    async fn changes(&self, id: &str) -> Result<Vec<String>> {
        let reply = self.call(id, "Container", "GetChanges", &(MOST, 0_u64)).await?;
        let (changes, _): (Vec<(String, Vec<u8>)>, bool) = reply.body().deserialize()?;
        let path = |(_, path)| Ok(String::from_utf8(path)?);
        changes.into_iter().map(path).collect()
    }
}
