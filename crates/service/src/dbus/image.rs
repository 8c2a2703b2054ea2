//! `org.tare.Containers1.Image`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zbus::message::Header;
use zbus::{OwnedFd, OwnedObjectPath, Variant, interface};

use super::context::{Context, JobPath};
use super::counts::Counts;
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use super::value::{Dict, values};
use crate::api::{self, ApiError, flags};
use crate::engine::object::{ObjectId, Seen};
use crate::engine::{
    Engine, HistoryEntry, ImageHistory, ImageParts, InspectImage, Names, Reference, RemoveImage,
    TagImage, UntagImage, Users, view,
};

/// `Remove`: with all its names.
const UNTAG_ALL: u64 = 1;
/// `Remove`: kill and remove its containers first.
const REMOVE_CONTAINERS: u64 = 2;
/// `Inspect`: with the configuration.
const WITH_CONFIG: u64 = 1;
/// `Inspect`: with the manifest.
const WITH_MANIFEST: u64 = 2;

/// One image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    context: Arc<Context>,
    shown: Shown<view::Image>,
}

impl Kind for Image {
    type View = view::Image;

    fn new(context: &Arc<Context>, shown: Shown<view::Image>) -> Self {
        Self { context: context.clone(), shown }
    }

    fn shown(&self) -> &Shown<view::Image> {
        &self.shown
    }

    fn counts(_: &view::Image) -> Counts {
        Counts { images: 1, ..Counts::default() }
    }
}

#[interface(name = "org.tare.Containers1.Image", introspection_docs = false)]
impl Image {
    #[zbus(out_args("job"))]
    async fn remove(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || {
            let flags = self::flags(flags, UNTAG_ALL | REMOVE_CONTAINERS)?;
            let has = |flag| flags & flag != 0;
            Ok(RemoveImage {
                image: self.shown.get(),
                names: if has(UNTAG_ALL) { Names::Untag } else { Names::Refuse },
                users: if has(REMOVE_CONTAINERS) { Users::Remove } else { Users::Refuse },
            })
        };
        self.context.job(&header, request, Engine::remove_image).await
    }

    async fn tag(
        &self,
        reference: &str,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            let reference = reference.parse::<Reference>()?.for_tag()?;
            Ok(TagImage { image: self.shown.get(), reference })
        };
        self.context.act(&header, request, async |engine, tag| engine.tag_image(tag).await).await
    }

    async fn untag(
        &self,
        reference: &str,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(UntagImage { image: self.shown.get(), reference: reference.parse()? })
        };
        let untag = async |engine: Engine, untag| engine.untag_image(untag).await;
        self.context.act(&header, request, untag).await
    }

    #[zbus(out_args("job"))]
    async fn push(
        &self,
        destination: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::images::push(self.shown.get(), destination, values(options)?);
        self.context.job(&header, request, Engine::push_image).await
    }

    #[zbus(out_args("job"))]
    async fn export(
        &self,
        archive: OwnedFd,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let this = || vec![self.shown.get().id.to_string()];
        let request = || api::images::export(this(), archive.into(), values(options)?);
        self.context.job(&header, request, Engine::export_images).await
    }

    #[zbus(out_args("rootfs"))]
    async fn open_root_directory(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        let request = || api::images::open_root(self.shown.get(), flags);
        let open = async |engine: Engine, root| engine.open_image_root(root).await;
        Ok(self.context.act(&header, request, open).await?.into())
    }

    #[zbus(out_args("json"))]
    async fn inspect(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, ApiError> {
        let request = || {
            let flags = self::flags(flags, WITH_CONFIG | WITH_MANIFEST)?;
            let has = |flag| flags & flag != 0;
            let with = ImageParts { config: has(WITH_CONFIG), manifest: has(WITH_MANIFEST) };
            Ok(InspectImage { image: self.shown.get(), with })
        };
        let inspect = async |engine: Engine, inspect| engine.inspect_image(inspect).await;
        self.context.act(&header, request, inspect).await
    }

    #[zbus(out_args("history"))]
    async fn get_history(
        &self,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<HashMap<&'static str, Variant<'static>>>, ApiError> {
        let request = || Ok(ImageHistory { image: self.shown.get() });
        let history = async |engine: Engine, history| engine.image_history(history).await;
        let history = self.context.act(&header, request, history).await?;
        Ok(history.into_iter().map(history_row).collect())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.shown.get().id.to_string()
    }

    #[zbus(property)]
    fn digests(&self) -> Vec<String> {
        self.shown.get().digests.iter().map(ToString::to_string).collect()
    }

    #[zbus(property)]
    fn references(&self) -> Vec<String> {
        self.shown.get().references.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn architecture(&self) -> String {
        self.shown.get().architecture.clone()
    }

    #[zbus(property(emits_changed_signal = "const"), name = "OS")]
    fn os(&self) -> String {
        self.shown.get().os.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn variant(&self) -> String {
        self.shown.get().variant.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_timestamp(&self) -> u64 {
        self.shown.get().created.unwrap_or_default().0
    }

    #[zbus(property)]
    fn pulled_timestamp(&self) -> u64 {
        self.shown.get().pulled.0
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn size(&self) -> u64 {
        self.shown.get().size
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn unique_size(&self) -> u64 {
        self.context.engine.unique_size(&self.shown.get().id)
    }

    #[zbus(property(emits_changed_signal = "const"), name = "NLayers")]
    fn n_layers(&self) -> u32 {
        self.shown.get().layers
    }

    #[zbus(property)]
    fn containers(&self) -> Vec<OwnedObjectPath> {
        let view = self.shown.get();
        view.containers.iter().map(|id| paths::of(&ObjectId::Container(id.clone()))).collect()
    }

    #[zbus(property)]
    fn verified(&self) -> &'static str {
        // Whatever comes with a manifest is checked against its digests.
        if self.shown.get().digests.is_empty() { "none" } else { "digest" }
    }

    #[zbus(property)]
    fn jobs(&self) -> Vec<OwnedObjectPath> {
        self.shown.get().jobs.iter().map(|id| paths::of(&ObjectId::Job(*id))).collect()
    }

    #[zbus(property)]
    fn public_labels(&self) -> BTreeMap<String, String> {
        self.shown.get().public_labels.clone()
    }
}

fn history_row(entry: HistoryEntry) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([
        ("Created", entry.created.unwrap_or_default().0.into()),
        ("CreatedBy", entry.created_by.into()),
        ("Size", entry.size.into()),
        ("Empty", entry.empty.into()),
        ("Comment", entry.comment.into()),
    ])
}

/// An image in a list.
pub(crate) fn row(view: &view::Image) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([
        ("Path", Variant::from(zbus::ObjectPath::from(paths::of(&view.id())))),
        ("Id", view.id.to_string().into()),
        ("Name", view.references.first().cloned().unwrap_or_default().into()),
        ("References", view.references.clone().into()),
        ("PulledTimestamp", view.pulled.0.into()),
        ("Size", view.size.into()),
    ])
}
