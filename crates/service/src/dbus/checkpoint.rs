//! `org.tare.Containers1.Checkpoint`.

use std::collections::HashMap;
use std::sync::Arc;

use zbus::message::Header;
use zbus::{OwnedObjectPath, Variant, interface};

use super::context::{Context, JobPath};
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use super::value::{Dict, values};
use crate::api::{self, ApiError, flags};
use crate::authority::Caller;
use crate::engine::object::{ObjectId, Seen};
use crate::engine::{Changes, Engine, RemoveCheckpoint, view};

/// One checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    context: Arc<Context>,
    shown: Shown<view::Checkpoint>,
}

impl Kind for Checkpoint {
    type View = view::Checkpoint;

    fn new(context: &Arc<Context>, shown: Shown<view::Checkpoint>) -> Self {
        Self { context: context.clone(), shown }
    }

    fn shown(&self) -> &Shown<view::Checkpoint> {
        &self.shown
    }
}

impl Checkpoint {
    /// It, and what it was taken of.
    fn view(&self) -> Result<(Arc<view::Checkpoint>, Arc<view::Container>), ApiError> {
        let engine = &self.context.engine;
        let checkpoint = engine.find_checkpoint(&self.shown.get().id)?;
        let container = engine.get(&checkpoint.container)?;
        Ok((checkpoint, container))
    }
}

#[interface(name = "org.tare.Containers1.Checkpoint", introspection_docs = false)]
impl Checkpoint {
    #[zbus(out_args("job"))]
    async fn remove(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            let (checkpoint, container) = self.view()?;
            Ok(RemoveCheckpoint { checkpoint, container })
        };
        self.context.job(&header, request, Engine::remove_checkpoint).await
    }

    #[zbus(out_args("job"))]
    async fn restore_as(
        &self,
        name: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let draft = async |by: &Caller| {
            let asked = api::checkpoint::copy(values(options)?)?;
            let (checkpoint, _) = self.view()?;
            Ok(self.context.engine.draft_copy(by, name, asked, checkpoint)?)
        };
        self.context.job_by(&header, draft, Engine::restore_as).await
    }

    #[zbus(out_args("json"))]
    async fn inspect(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, ApiError> {
        let request = || api::checkpoint::inspect(flags, || self.view());
        let inspect = async |engine: Engine, inspect| engine.inspect_checkpoint(inspect).await;
        self.context.act(&header, request, inspect).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.shown.get().id.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.shown.get().name.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn container(&self) -> OwnedObjectPath {
        paths::of(&ObjectId::Container(self.shown.get().container.clone()))
    }

    #[zbus(property(emits_changed_signal = "const"), name = "OwnerUID")]
    fn owner_uid(&self) -> u32 {
        self.shown.get().owner_uid
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_timestamp(&self) -> u64 {
        self.shown.get().created.0
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn size(&self) -> u64 {
        self.shown.get().size
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn rootfs_included(&self) -> bool {
        self.shown.get().changes == Changes::Kept
    }

    #[zbus(property(emits_changed_signal = "const"), name = "CRIUVersion")]
    fn criu_version(&self) -> String {
        self.shown.get().criu.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn kernel_version(&self) -> String {
        self.shown.get().kernel.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn architecture(&self) -> String {
        self.shown.get().architecture.clone()
    }
}

/// A checkpoint in a list.
pub(crate) fn row(view: &view::Checkpoint) -> HashMap<&'static str, Variant<'static>> {
    let container = paths::of(&ObjectId::Container(view.container.clone()));
    HashMap::from([
        ("Path", Variant::from(zbus::ObjectPath::from(paths::of(&view.id())))),
        ("Id", view.id.to_string().into()),
        ("Name", view.name.to_string().into()),
        ("Container", zbus::ObjectPath::from(container).into()),
        ("OwnerUID", view.owner_uid.into()),
        ("CreatedTimestamp", view.created.0.into()),
        ("Size", view.size.into()),
    ])
}
