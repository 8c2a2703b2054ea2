//! `org.freedesktop.DBus.ObjectManager`, ours: zbus's own would list every job, and would hold the
//! tree of objects while it asks each of them.

use std::collections::HashMap;
use std::sync::Arc;

use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, interface};

use super::context::Context;
use super::publish::{self, Properties};
use crate::api::ApiError;

/// All objects below the manager.
#[derive(Debug)]
pub(crate) struct ObjectManager {
    context: Arc<Context>,
}

impl ObjectManager {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[interface(name = "org.freedesktop.DBus.ObjectManager", introspection_docs = false)]
impl ObjectManager {
    #[zbus(out_args("objpath_interfaces_and_properties"))]
    async fn get_managed_objects(
        &self,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<HashMap<OwnedObjectPath, HashMap<String, Properties>>, ApiError> {
        let mut managed = HashMap::new();
        for (path, object) in self.context.registry.all() {
            if object.is_managed() {
                let properties = publish::properties(connection, &path, object.as_ref()).await?;
                let interfaces = HashMap::from([(object.interface().to_string(), properties)]);
                managed.insert(OwnedObjectPath::try_from(path)?, interfaces);
            }
        }
        Ok(managed)
    }

    #[zbus(signal)]
    pub(crate) async fn interfaces_added(
        emitter: &SignalEmitter<'_>,
        object_path: ObjectPath<'_>,
        interfaces_and_properties: HashMap<String, Properties>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(crate) async fn interfaces_removed(
        emitter: &SignalEmitter<'_>,
        object_path: ObjectPath<'_>,
        interfaces: Vec<String>,
    ) -> zbus::Result<()>;
}
