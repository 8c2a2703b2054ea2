//! Images in and out, and what containers changed of them.

use std::path::Path;

use async_trait::async_trait;

use super::Command;
use crate::Result;

/// What an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// The files of a root.
    Rootfs,
    /// An image, by the name it is to have.
    Image,
}

/// Who has images.
#[async_trait(?Send)]
pub(crate) trait Images {
    /// Takes in what is in a file, by this name.
    async fn take_in(&self, archive: &Path, holds: Holds, name: &str) -> Result<()>;

    /// Bytes of an image.
    async fn size(&self, name: &str) -> Result<u64>;

    /// Takes it away, and all that no other image needs.
    async fn remove_image(&self, name: &str) -> Result<()>;

    /// Writes down a container of it, in an empty network.
    async fn create_of(&self, name: &str, command: Command) -> Result<String>;

    /// The paths of what a container changed.
    async fn changes(&self, id: &str) -> Result<Vec<String>>;
}
