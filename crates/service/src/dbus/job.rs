//! `org.tare.Containers1.Job`.

use std::collections::HashMap;
use std::sync::Arc;

use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{ObjectPath, OwnedFd, OwnedObjectPath, Variant, interface};

use super::context::Context;
use super::counts::Counts;
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use crate::api::{ApiError, flags, full_name};
use crate::engine::Engine;
use crate::engine::jobs::{CancelJob, ForgetJob, JobState, JobView, OpenJobLog, Outcome, Produced};
use crate::engine::object::Seen;

/// One long operation.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    context: Arc<Context>,
    shown: Shown<JobView>,
}

impl Kind for Job {
    type View = JobView;

    const MANAGED: bool = false;

    fn new(context: &Arc<Context>, shown: Shown<JobView>) -> Self {
        Self { context: context.clone(), shown }
    }

    fn shown(&self) -> &Shown<JobView> {
        &self.shown
    }

    fn counts(view: &JobView) -> Counts {
        let unfinished = view.state != JobState::Finished;
        Counts { jobs: unfinished.into(), ..Counts::default() }
    }
}

#[interface(name = "org.tare.Containers1.Job", introspection_docs = false)]
impl Job {
    async fn cancel(&self, flags: u64, #[zbus(header)] header: Header<'_>) -> Result<(), ApiError> {
        cancel(&self.context, self.shown.get().id, flags, &header).await
    }

    async fn forget(&self, flags: u64, #[zbus(header)] header: Header<'_>) -> Result<(), ApiError> {
        let request = || self.request(flags).map(ForgetJob);
        self.context.act(&header, request, async |engine, job| engine.forget_job(job)).await
    }

    #[zbus(out_args("stream"))]
    async fn open_log(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        let request = || self.request(flags).map(OpenJobLog);
        let open = async |engine: Engine, job| engine.open_job_log(job);
        Ok(self.context.act(&header, request, open).await?.into())
    }

    #[zbus(signal)]
    pub(crate) async fn log_message(
        emitter: &SignalEmitter<'_>,
        priority: u32,
        message: &str,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> u32 {
        self.shown.get().id
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn r#type(&self) -> &'static str {
        self.shown.get().kind.as_str()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn object(&self) -> OwnedObjectPath {
        object(&self.shown.get())
    }

    #[zbus(property(emits_changed_signal = "const"), name = "StartedByUID")]
    fn started_by_uid(&self) -> u32 {
        self.shown.get().started_by_uid
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_timestamp(&self) -> u64 {
        self.shown.get().created.0
    }

    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.shown.get().state.as_str()
    }

    #[zbus(property)]
    fn stage(&self) -> &'static str {
        self.shown.get().stage
    }

    #[zbus(property)]
    #[expect(clippy::cast_precision_loss, reason = "a progress bar has no 53 bits")]
    fn progress(&self) -> f64 {
        let view = self.shown.get();
        match (view.state, view.bytes_total) {
            (JobState::Finished, _) => 1.0,
            (_, 0) => -1.0,
            (_, total) => (view.bytes_done as f64 / total as f64).min(1.0),
        }
    }

    #[zbus(property)]
    fn bytes_done(&self) -> u64 {
        self.shown.get().bytes_done
    }

    #[zbus(property)]
    fn bytes_total(&self) -> u64 {
        self.shown.get().bytes_total
    }

    #[zbus(property)]
    fn cancelable(&self) -> bool {
        self.shown.get().cancelable
    }

    #[zbus(property)]
    fn result(&self) -> &'static str {
        result(&self.shown.get())
    }

    #[zbus(property)]
    fn error_name(&self) -> String {
        failure(&self.shown.get()).0
    }

    #[zbus(property)]
    fn error_message(&self) -> String {
        failure(&self.shown.get()).1
    }

    #[zbus(property)]
    fn output(&self) -> HashMap<&'static str, Variant<'static>> {
        self.shown.get().output.0.iter().map(|(key, it)| (*key, produced(it))).collect()
    }
}

impl Job {
    /// Itself, for a method that has no flags yet.
    fn request(&self, flags: u64) -> Result<Arc<JobView>, ApiError> {
        self::flags(flags, 0)?;
        Ok(self.context.engine.job(self.shown.get().id)?)
    }
}

/// `Cancel`, and `CancelJob` of the manager.
pub(crate) async fn cancel(
    context: &Context,
    id: u32,
    given: u64,
    header: &Header<'_>,
) -> Result<(), ApiError> {
    let request = || {
        flags(given, 0)?;
        Ok(CancelJob(context.engine.job(id)?))
    };
    context.act(header, request, async |engine, job| engine.cancel_job(job)).await
}

/// What a job works on.
pub(crate) fn object(view: &JobView) -> OwnedObjectPath {
    view.object.as_ref().map_or_else(paths::none, paths::of)
}

fn produced(produced: &Produced) -> Variant<'static> {
    match produced {
        Produced::Object(object) => ObjectPath::from(paths::of(object)).into(),
        Produced::Objects(objects) => objects.iter().map(paths::of).collect::<Vec<_>>().into(),
        Produced::Text(text) => text.clone().into(),
        Produced::Texts(texts) => texts.clone().into(),
        Produced::Bytes(bytes) => (*bytes).into(),
    }
}

/// The word for how it ended; empty until then.
pub(crate) fn result(view: &JobView) -> &'static str {
    view.outcome.as_ref().map_or("", Outcome::as_str)
}

/// Error name and sentence; both empty if it did not fail.
pub(crate) fn failure(view: &JobView) -> (String, String) {
    match &view.outcome {
        Some(Outcome::Failed { name, message }) => (full_name(name), message.clone()),
        _ => (String::new(), String::new()),
    }
}

/// A job in a list.
pub(crate) fn row(view: &JobView) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([
        ("Path", Variant::from(zbus::ObjectPath::from(paths::of(&view.id())))),
        ("Id", view.id.into()),
        ("Type", view.kind.as_str().into()),
        ("Object", zbus::ObjectPath::from(object(view)).into()),
        ("State", view.state.as_str().into()),
        ("Result", result(view).into()),
        ("StartedByUID", view.started_by_uid.into()),
        ("CreatedTimestamp", view.created.0.into()),
    ])
}
