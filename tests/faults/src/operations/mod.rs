//! What is tried: what has to be there before, what is done, and how it is taken away again.

mod files;
mod image;
mod life;
mod network;
mod network_update;
mod prepare;
mod secret;
mod session;
mod there;
mod volume;

use system_tests::Client;

use crate::helper::Helper;
use crate::lab::Lab;

pub use files::{Commit, CopyIn, CopyOut, Export, GetChanges, MountRoot, OpenRoot, UnmountRoot};
pub use image::{ExportImages, Import, PruneImages, RemoveImage, Tag, Untag};
pub use life::{Create, Kill, Pause, Remove, Rename, Resume, Start, Stop, UpdateContainer};
pub use network::{Connect, CreateNetwork, Disconnect, Publish, RemoveNetwork, SECOND, Unpublish};
pub use network_update::UpdateNetwork;
pub use prepare::{CleanUp, Prepare};
pub use secret::{CreateSecret, RemoveSecret, ReplaceSecret};
pub use session::{Exec, ExecOnTerminal, KillSession};
pub(crate) use there::VOLUME;
pub use there::{ask_for_what_stays, is_found, take_away_what_stays};
pub use volume::{CreateVolume, ExportVolume, ImportVolume, PruneVolumes, RemoveVolume};

/// What an operation owes if it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owes {
    /// All is as it was before.
    Before,
    /// It can be repeated, and then all is as if it had not failed.
    Retry,
    /// It can be repeated, and then it is done, if not with the same things: another process runs, say.
    Again,
}

/// Until when something stays that an operation could not take back, or not take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Somebody stops the container.
    Stopped,
    /// The daemon starts again.
    Restarted,
    /// Somebody removes the container.
    Removed,
}

/// What a daemon can be asked to do.
#[expect(async_fn_in_trait, reason = "tests have one thread")]
pub trait Operation: Default {
    /// For people.
    const NAME: &str;
    /// The methods of the contract that do it, as `Interface.Method`.
    const METHODS: &[&str];
    /// What it owes if it fails.
    const OWES: Owes;
    /// Until when something stays that could not be taken back, or not taken away.
    const LEFTOVERS: Until;
    /// What may be there, and was not, until the daemon starts again, where all is done but for what could
    /// not be taken away: of which kind, and what its name has in it.
    const LEAVES: &[(&str, &str)] = &[];
    /// Whose effects it surely has.
    const PART: &str = "service";
    /// Who has a part in it, where that is a program of its own.
    const HELPERS: &[Helper] = &[];

    /// Makes what it needs, or what of that is missing.
    async fn prepare(&mut self, lab: &Lab<'_>);

    /// Does it, or says why it was not done.
    async fn run(&self, client: &Client) -> Result<(), String>;

    /// Whether it is done, and done whole.
    async fn is_whole(&self, client: &Client) -> bool;

    /// After it has failed, and owed what was before: whether that is so in ways that a look at the
    /// host does not tell.
    async fn is_undone(&self, _client: &Client) -> bool {
        true
    }

    /// Takes away what was prepared and done.
    async fn clear(&self, client: &Client) {
        there::clear(client).await;
    }
}
