//! `org.tare.Containers1.Image`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zbus::{Variant, interface};

use super::context::Context;
use super::counts::Counts;
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use crate::engine::object::Seen;
use crate::engine::view;

/// One image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    shown: Shown<view::Image>,
}

impl Kind for Image {
    type View = view::Image;

    fn new(_: &Arc<Context>, shown: Shown<view::Image>) -> Self {
        Self { shown }
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
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.shown.get().id.to_string()
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

    #[zbus(property)]
    fn pulled_timestamp(&self) -> u64 {
        self.shown.get().pulled.0
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn size(&self) -> u64 {
        self.shown.get().size
    }

    #[zbus(property(emits_changed_signal = "const"), name = "NLayers")]
    fn n_layers(&self) -> u32 {
        self.shown.get().layers
    }

    #[zbus(property)]
    fn public_labels(&self) -> BTreeMap<String, String> {
        self.shown.get().public_labels.clone()
    }
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
