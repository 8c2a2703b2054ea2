//! What a container changed, as a list.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use tare_storage::{Change, RUNTIME_PATHS};

use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::blocking::unbounded;
use crate::engine::{Engine, Error, key, view};

/// Bytes of paths that one answer has at most: a bus cuts off who sends 32 MiB.
const MOST_BYTES: usize = 4 << 20;

/// The changes of a container to be listed.
#[derive(Debug)]
pub struct GetChanges {
    /// Of which.
    pub container: Arc<view::Container>,
    /// How many at most.
    pub max: usize,
}

impl Ask for GetChanges {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::InspectContainers, &self.container, by)
            .with("verb", "list the changes of")
    }
}

impl Engine {
    /// What a container changed against its image, sorted as a tree is; and whether there is more.
    ///
    /// # Errors
    ///
    /// [`Error::Storage`].
    pub async fn changes(
        &self,
        request: Authorized<GetChanges>,
    ) -> Result<(Vec<Change>, bool), Error> {
        let (GetChanges { container, max }, _) = request.into_parts();
        let container = self.container(&container.id)?;
        let layers = self.image_of(&container.root)?.layers.clone();
        let (store, key) = (self.store.clone(), key(&container.id));
        // A tree may be large.
        unbounded("changes", move || {
            let changes = store.changes(&layers, &key, RUNTIME_PATHS)?;
            Ok(take(changes, max)?)
        })
        .await
    }
}

fn take<E>(
    changes: impl Iterator<Item = Result<Change, E>>,
    max: usize,
) -> Result<(Vec<Change>, bool), E> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for change in changes {
        let change = change?;
        bytes += change.path.as_os_str().as_bytes().len();
        if taken.len() == max || bytes > MOST_BYTES {
            return Ok((taken, true));
        }
        taken.push(change);
    }
    Ok((taken, false))
}
