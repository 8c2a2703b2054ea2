//! `org.tare.Containers1.Process`.

use std::sync::Arc;

use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{OwnedFd, OwnedObjectPath, interface};

use super::context::Context;
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use crate::api::{self, ApiError, flags};
use crate::authority::Caller;
use crate::engine::object::ObjectId;
use crate::engine::view;
use crate::engine::{Engine, KillSession, ResizeSession, SessionOf};

/// One exec session.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    context: Arc<Context>,
    shown: Shown<view::ExecSession>,
}

impl Kind for Process {
    type View = view::ExecSession;

    fn new(context: &Arc<Context>, shown: Shown<view::ExecSession>) -> Self {
        Self { context: context.clone(), shown }
    }

    fn shown(&self) -> &Shown<view::ExecSession> {
        &self.shown
    }
}

impl Process {
    fn session(&self) -> Result<SessionOf, ApiError> {
        let view = self.shown.get();
        Ok(self.context.engine.session_of(&view.container, view.number)?)
    }
}

#[interface(name = "org.tare.Containers1.Process", introspection_docs = false)]
impl Process {
    async fn kill(
        &self,
        signal: i32,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            let signal = api::change::signal(signal)?;
            Ok(KillSession { session: self.session()?, signal })
        };
        let kill = async |engine: Engine, kill| engine.kill_session(kill).await;
        self.context.act(&header, request, kill).await
    }

    async fn resize(
        &self,
        rows: u16,
        columns: u16,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || Ok(ResizeSession { session: self.session()?, rows, columns });
        let resize = async |engine: Engine, resize| engine.resize_session(resize).await;
        self.context.act(&header, request, resize).await
    }

    #[zbus(out_args("pidfd"), name = "OpenPIDFD")]
    async fn open_pidfd(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        let answer = async |engine: &Engine, _: &Caller| {
            self::flags(flags, 0)?;
            Ok(engine.open_session_pidfd(&self.session()?)?.into())
        };
        self.context.answer(&header, answer).await
    }

    #[zbus(out_args("stream"), name = "WaitFD")]
    async fn wait_fd(
        &self,
        condition: &str,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        let answer = async |engine: &Engine, by: &Caller| {
            self::flags(flags, 0)?;
            if condition != "stopped" {
                return Err(ApiError::invalid_args("condition must be stopped"));
            }
            Ok(engine.wait_for_session(&self.session()?, by)?.into())
        };
        self.context.answer(&header, answer).await
    }

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

    #[zbus(property(emits_changed_signal = "const"), name = "TTY")]
    fn tty(&self) -> bool {
        self.shown.get().terminal
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
