//! `org.tare.Containers1.Process`.

use std::sync::Arc;

use zbus::object_server::SignalEmitter;
use zbus::{OwnedObjectPath, interface};

use super::context::Context;
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use crate::engine::object::ObjectId;
use crate::engine::view;

/// One exec session.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    shown: Shown<view::ExecSession>,
}

impl Kind for Process {
    type View = view::ExecSession;

    fn new(_: &Arc<Context>, shown: Shown<view::ExecSession>) -> Self {
        Self { shown }
    }

    fn shown(&self) -> &Shown<view::ExecSession> {
        &self.shown
    }
}

#[interface(name = "org.tare.Containers1.Process", introspection_docs = false)]
impl Process {
    #[zbus(signal)]
    pub(crate) async fn exited(
        emitter: &SignalEmitter<'_>,
        exit_code: i32,
        signal: i32,
        timestamp: u64,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn container(&self) -> OwnedObjectPath {
        paths::of(&ObjectId::Container(self.shown.get().container.clone()))
    }

    #[zbus(property, name = "PID")]
    fn pid(&self) -> u32 {
        self.shown.get().pid
    }

    #[zbus(property(emits_changed_signal = "const"), name = "PIDFDId")]
    fn pidfd_id(&self) -> u64 {
        self.shown.get().pidfd_id
    }

    #[zbus(property)]
    fn state(&self) -> &'static str {
        if self.shown.get().exit.is_some() { "exited" } else { "running" }
    }

    #[zbus(property)]
    fn exit_code(&self) -> i32 {
        self.shown.get().exit.map_or(-1, |exit| exit.code)
    }

    #[zbus(property)]
    fn exit_signal(&self) -> i32 {
        self.shown.get().exit.map_or(0, |exit| exit.signal)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn started_timestamp(&self) -> u64 {
        self.shown.get().started.0
    }

    #[zbus(property(emits_changed_signal = "const"), name = "StartedByUID")]
    fn started_by_uid(&self) -> u32 {
        self.shown.get().started_by_uid
    }
}
