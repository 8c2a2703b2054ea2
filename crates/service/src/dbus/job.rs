//! `org.tare.Containers1.Job`.

use std::collections::HashMap;
use std::os::fd::OwnedFd as StdFd;
use std::sync::Arc;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{OwnedFd, OwnedObjectPath, Variant, interface};

use super::context::Context;
use super::error::{ApiError, PREFIX};
use super::manager::{allow_job, cancel};
use super::options::flags;
use super::paths;
use super::registry::Shown;
use crate::effects;
use crate::engine::jobs::{self, JobState, JobView, Outcome, Subject};

/// One long operation.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    context: Arc<Context>,
    shown: Shown<JobView>,
}

impl Job {
    pub(crate) fn new(context: Arc<Context>, view: Arc<JobView>) -> Self {
        Self { context, shown: Shown::new(view) }
    }

    /// What the properties say from now on.
    pub(crate) fn show(&self, view: Arc<JobView>) {
        self.shown.set(view);
    }
}

#[interface(name = "org.tare.Containers1.Job", introspection_docs = false)]
impl Job {
    async fn cancel(&self, flags: u64, #[zbus(header)] header: Header<'_>) -> Result<(), ApiError> {
        cancel(&self.context, self.shown.get().id, flags, &header).await
    }

    async fn forget(&self, flags: u64, #[zbus(header)] header: Header<'_>) -> Result<(), ApiError> {
        self::flags(flags, 0)?;
        let caller = self.context.caller(&header).await?;
        let id = self.shown.get().id;
        let job = self.context.engine.jobs().get(id)?;
        allow_job(&self.context, caller, &job, "forget").await?;
        self.context.engine.jobs().forget(id);
        Ok(())
    }

    #[zbus(out_args("stream"))]
    async fn open_log(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        self::flags(flags, 0)?;
        let caller = self.context.caller(&header).await?;
        let job = self.context.engine.jobs().get(self.shown.get().id)?;
        allow_job(&self.context, caller, &job, "read the log of").await?;
        let stream = open_log(job).map_err(|error| ApiError::internal(&error))?;
        Ok(stream.into())
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
        object(&self.shown.get().subject)
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
        let view = self.shown.get();
        let images: Vec<_> = view.output.images.iter().map(paths::image).collect();
        if images.is_empty() { HashMap::new() } else { HashMap::from([("Images", images.into())]) }
    }
}

/// What a job works on.
pub(crate) fn object(subject: &Subject) -> OwnedObjectPath {
    match subject {
        Subject::Nothing => paths::none(),
        Subject::Container(id) => paths::container(id),
    }
}

/// The word for how it ended; empty until then.
pub(crate) fn result(view: &JobView) -> &'static str {
    view.outcome.as_ref().map_or("", Outcome::as_str)
}

/// Error name and sentence; both empty if it did not fail.
pub(crate) fn failure(view: &JobView) -> (String, String) {
    match &view.outcome {
        Some(Outcome::Failed { name, message }) => (format!("{PREFIX}{name}"), message.clone()),
        _ => (String::new(), String::new()),
    }
}

/// A job in a list.
pub(crate) fn row(view: &JobView) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([
        ("Path", Variant::from(zbus::ObjectPath::from(paths::job(view.id)))),
        ("Id", view.id.into()),
        ("Type", view.kind.as_str().into()),
        ("Object", zbus::ObjectPath::from(object(&view.subject)).into()),
        ("State", view.state.as_str().into()),
        ("Result", result(view).into()),
        ("StartedByUID", view.started_by_uid.into()),
        ("CreatedTimestamp", view.created.0.into()),
    ])
}

/// The log from its start, as JSON lines, until the job is finished.
fn open_log(job: Arc<jobs::Job>) -> std::io::Result<StdFd> {
    let (reader, writer) = effects::pipe()?;
    let writer = StdFd::from(writer);
    rustix::io::ioctl_fionbio(&writer, true)?;
    let mut writer = pipe::Sender::from_owned_fd(writer)?;
    tokio::spawn(async move {
        let mut watch = job.watch();
        let mut written = 0;
        loop {
            let finished = watch.borrow_and_update().state == JobState::Finished;
            for line in job.log_from(written) {
                written += 1;
                let line =
                    json!({"t": line.time.0, "priority": line.priority, "msg": line.message});
                if writer.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
            if finished || watch.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(reader.into())
}
