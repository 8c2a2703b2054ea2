//! `org.tare.Containers1.Volume`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, Variant, interface};

use super::context::{Context, JobPath};
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use super::value::{Dict, values};
use crate::api::{self, ApiError, flags};
use crate::engine::object::{ObjectId, Seen};
use crate::engine::view::VOLUME_DRIVER;
use crate::engine::{Engine, GetUsage, InspectVolume, RemoveVolume, view};

/// `SizeLimit` of a volume that has none.
const NO_LIMIT: u64 = u64::MAX;

/// One volume.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    context: Arc<Context>,
    shown: Shown<view::Volume>,
}

impl Kind for Volume {
    type View = view::Volume;

    fn new(context: &Arc<Context>, shown: Shown<view::Volume>) -> Self {
        Self { context: context.clone(), shown }
    }

    fn shown(&self) -> &Shown<view::Volume> {
        &self.shown
    }
}

impl Volume {
    fn view(&self) -> Result<Arc<view::Volume>, ApiError> {
        Ok(self.context.engine.find_volume(self.shown.get().name.as_str())?)
    }
}

#[expect(clippy::unused_self, reason = "the macro calls methods, also those of constants")]
#[interface(name = "org.tare.Containers1.Volume", introspection_docs = false)]
impl Volume {
    #[zbus(out_args("job"))]
    async fn remove(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(RemoveVolume { volume: self.view()? })
        };
        self.context.job(&header, request, Engine::remove_volume).await
    }

    #[zbus(out_args("json"))]
    async fn inspect(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(InspectVolume { volume: self.view()? })
        };
        let inspect = async |engine: Engine, inspect| engine.inspect_volume(inspect);
        self.context.act(&header, request, inspect).await
    }

    #[zbus(out_args("job"))]
    async fn export(
        &self,
        archive: OwnedFd,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::volume::export(archive.into(), values(options)?, || self.view());
        self.context.job(&header, request, Engine::export_volume).await
    }

    #[zbus(out_args("job"))]
    async fn import(
        &self,
        archive: OwnedFd,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::volume::import(archive.into(), values(options)?, || self.view());
        self.context.job(&header, request, Engine::import_volume).await
    }

    #[zbus(out_args("bytes"))]
    async fn get_usage(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<u64, ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(GetUsage { volume: self.view()? })
        };
        let measure = async |engine: Engine, usage| engine.volume_usage(usage).await;
        self.context.act(&header, request, measure).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.shown.get().name.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn driver(&self) -> &'static str {
        VOLUME_DRIVER
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
    fn anonymous(&self) -> bool {
        self.shown.get().anonymous
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn size_limit(&self) -> u64 {
        self.shown.get().size_limit.unwrap_or(NO_LIMIT)
    }

    #[zbus(property)]
    fn containers(&self) -> Vec<OwnedObjectPath> {
        let view = self.shown.get();
        view.containers.iter().map(|id| paths::of(&ObjectId::Container(id.clone()))).collect()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn public_labels(&self) -> BTreeMap<String, String> {
        self.shown.get().public_labels.clone()
    }
}

/// A volume in a list.
pub(crate) fn row(view: &view::Volume) -> HashMap<&'static str, Variant<'static>> {
    let labels: HashMap<String, String> = view.public_labels.clone().into_iter().collect();
    HashMap::from([
        ("Path", Variant::from(zbus::ObjectPath::from(paths::of(&view.id())))),
        ("Name", view.name.to_string().into()),
        ("Driver", VOLUME_DRIVER.into()),
        ("OwnerUID", view.owner_uid.into()),
        ("CreatedTimestamp", view.created.0.into()),
        ("Anonymous", view.anonymous.into()),
        ("SizeLimit", view.size_limit.unwrap_or(NO_LIMIT).into()),
        ("NContainers", u32::try_from(view.containers.len()).unwrap_or(u32::MAX).into()),
        ("PublicLabels", labels.into()),
    ])
}
