//! `org.tare.Containers1.Secret`.

use std::collections::HashMap;
use std::sync::Arc;

use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, Variant, interface};

use super::context::Context;
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use crate::api::{ApiError, flags};
use crate::engine::object::{ObjectId, Seen};
use crate::engine::{Engine, RemoveSecret, ReplaceSecret, view};

/// One secret.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    context: Arc<Context>,
    shown: Shown<view::Secret>,
}

impl Kind for Secret {
    type View = view::Secret;

    fn new(context: &Arc<Context>, shown: Shown<view::Secret>) -> Self {
        Self { context: context.clone(), shown }
    }

    fn shown(&self) -> &Shown<view::Secret> {
        &self.shown
    }
}

impl Secret {
    fn view(&self) -> Result<Arc<view::Secret>, ApiError> {
        Ok(self.context.engine.find_secret(&self.shown.get().name)?)
    }
}

#[interface(name = "org.tare.Containers1.Secret", introspection_docs = false)]
impl Secret {
    async fn remove(&self, flags: u64, #[zbus(header)] header: Header<'_>) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(RemoveSecret { secret: self.view()? })
        };
        let remove = async |engine: Engine, remove| engine.remove_secret(remove).await;
        self.context.act(&header, request, remove).await
    }

    async fn replace(
        &self,
        data: OwnedFd,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(ReplaceSecret { secret: self.view()?, value: data.into() })
        };
        let replace = async |engine: Engine, replace| engine.replace_secret(replace).await;
        self.context.act(&header, request, replace).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.shown.get().name.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"), name = "OwnerUID")]
    fn owner_uid(&self) -> u32 {
        self.shown.get().owner_uid
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_timestamp(&self) -> u64 {
        self.shown.get().created.0
    }

    #[zbus(property)]
    fn modified_timestamp(&self) -> u64 {
        self.shown.get().modified.0
    }

    #[zbus(property)]
    fn containers(&self) -> Vec<OwnedObjectPath> {
        let view = self.shown.get();
        view.containers.iter().map(|id| paths::of(&ObjectId::Container(id.clone()))).collect()
    }
}

/// A secret in a list.
pub(crate) fn row(view: &view::Secret) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([
        ("Path", Variant::from(zbus::ObjectPath::from(paths::of(&view.id())))),
        ("Name", view.name.to_string().into()),
        ("OwnerUID", view.owner_uid.into()),
        ("CreatedTimestamp", view.created.0.into()),
        ("ModifiedTimestamp", view.modified.0.into()),
        ("NContainers", u32::try_from(view.containers.len()).unwrap_or(u32::MAX).into()),
    ])
}
