//! `org.tare.Containers1.Manager`.

#![expect(clippy::too_many_arguments, reason = "the contract has such a signal")]

use std::collections::HashMap;
use std::sync::Arc;

use zbus::message::Header;
use zbus::object_server::{ResponseDispatchNotifier, SignalEmitter};
use zbus::{Fd, ObjectPath, OwnedFd, OwnedObjectPath, Variant, interface};

use super::context::Context;
use super::error::ApiError;
use super::options::{Dict, Options, flags};
use super::{container, image, job, paths, requests};
use crate::authority::{Action, Ask, Caller, Question};
use crate::engine::object::{ObjectId, Seen};
use crate::engine::{ImportImage, Pending};

/// Goes up whenever a method, option, property or flag is added.
const API_LEVEL: u32 = 1;

/// A list. The number that goes with it is read first: an event with a higher one may be in the
/// list already, but none is missed.
type List = Vec<HashMap<&'static str, Variant<'static>>>;

/// The entry point.
#[derive(Debug)]
pub(crate) struct Manager {
    context: Arc<Context>,
}

impl Manager {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

/// Replies with the job; its work begins after the reply is sent, so that `JobRemoved` follows it.
pub(crate) async fn reply_then_run(
    context: &Context,
    pending: Pending,
) -> ResponseDispatchNotifier<OwnedObjectPath> {
    // JobNew comes before the reply.
    context.engine.shown().await;
    let (reply, sent) = ResponseDispatchNotifier::new(paths::of(&ObjectId::Job(pending.id())));
    tokio::spawn(async move {
        sent.await;
        pending.run();
    });
    reply
}

#[expect(clippy::unused_self, reason = "the macro calls methods, also those of constants")]
#[interface(name = "org.tare.Containers1.Manager", introspection_docs = false)]
impl Manager {
    #[zbus(out_args("container"))]
    fn get_container(&self, id_or_name: &str) -> Result<OwnedObjectPath, ApiError> {
        Ok(paths::of(&self.context.engine.find(id_or_name)?.id()))
    }

    #[zbus(out_args("containers", "seqnum"))]
    fn list_containers(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = requests::ContainerFilter::parse(filter)?;
        let seqnum = self.context.registry.events();
        let all = self.context.engine.containers();
        let list = all.iter().filter(|view| filter.fits(view)).take(filter.limit());
        Ok((list.map(|view| container::row(view)).collect(), seqnum))
    }

    #[zbus(out_args("container"))]
    async fn create_container(
        &self,
        name: &str,
        image: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, ApiError> {
        let caller = self.context.caller(&header).await?;
        let request = requests::create(options)?;
        let draft = self.context.engine.draft(name, image, request)?;
        let draft = self.context.allow(caller, draft).await?;
        let id = self.context.engine.create(draft).await?;
        // InterfacesAdded comes before the reply.
        self.context.engine.shown().await;
        Ok(paths::of(&ObjectId::Container(id)))
    }

    #[zbus(out_args("image"))]
    fn get_image(&self, reference: &str) -> Result<OwnedObjectPath, ApiError> {
        Ok(paths::of(&self.context.engine.find_image(reference)?.id()))
    }

    #[zbus(out_args("images", "seqnum"))]
    fn list_images(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = requests::ImageFilter::parse(filter)?;
        let seqnum = self.context.registry.events();
        let all = self.context.engine.images();
        let list = all.iter().filter(|view| filter.fits(view)).take(filter.limit());
        Ok((list.map(|view| image::row(view)).collect(), seqnum))
    }

    #[zbus(out_args("job"))]
    async fn import_image(
        &self,
        archive: OwnedFd,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<ResponseDispatchNotifier<OwnedObjectPath>, ApiError> {
        let caller = self.context.caller(&header).await?;
        let (reference, config) = requests::import(options)?;
        let archive = std::fs::File::from(std::os::fd::OwnedFd::from(archive));
        let request = ImportImage { archive, reference, config };
        let request = self.context.allow(caller, request).await?;
        let pending = self.context.engine.import_image(request)?;
        Ok(reply_then_run(&self.context, pending).await)
    }

    #[zbus(out_args("job"))]
    fn get_job(&self, id: u32) -> Result<OwnedObjectPath, ApiError> {
        self.context.engine.jobs().get(id)?;
        Ok(paths::of(&ObjectId::Job(id)))
    }

    #[zbus(out_args("jobs", "seqnum"))]
    fn list_jobs(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = requests::JobFilter::parse(filter)?;
        let seqnum = self.context.registry.events();
        let all = self.context.engine.jobs().list();
        let list = all.iter().map(|job| job.view()).filter(|view| filter.fits(view));
        Ok((list.map(|view| job::row(&view)).collect(), seqnum))
    }

    async fn cancel_job(
        &self,
        id: u32,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        cancel(&self.context, id, flags, &header).await
    }

    #[zbus(signal)]
    pub(crate) async fn job_new(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        r#type: &str,
        object: ObjectPath<'_>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(crate) async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        r#type: &str,
        object: ObjectPath<'_>,
        result: &str,
        error_name: &str,
        error_message: &str,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property(emits_changed_signal = "const"), name = "APILevel")]
    fn api_level(&self) -> u32 {
        API_LEVEL
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> Vec<&'static str> {
        self.context.engine.features()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn storage_path(&self) -> String {
        self.context.engine.instance().state_dir().display().to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn storage_driver(&self) -> &'static str {
        "overlay"
    }

    #[zbus(property, name = "NContainers")]
    fn n_containers(&self) -> u32 {
        self.context.registry.counts().containers
    }

    #[zbus(property, name = "NRunning")]
    fn n_running(&self) -> u32 {
        self.context.registry.counts().running
    }

    #[zbus(property, name = "NImages")]
    fn n_images(&self) -> u32 {
        self.context.registry.counts().images
    }

    #[zbus(property, name = "NJobs")]
    fn n_jobs(&self) -> u32 {
        self.context.registry.counts().jobs
    }

    #[zbus(property)]
    fn tainted(&self) -> Vec<String> {
        self.context.taints()
    }
}

/// Cancels a job of the caller's, or of others with permission.
pub(crate) async fn cancel(
    context: &Context,
    id: u32,
    given: u64,
    header: &Header<'_>,
) -> Result<(), ApiError> {
    flags(given, 0)?;
    let caller = context.caller(header).await?;
    let job = context.engine.jobs().get(id)?;
    allow_job(context, caller, &job, "cancel").await?;
    Ok(job.cancel()?)
}

/// Whoever started a job may do with it what they like.
pub(crate) async fn allow_job(
    context: &Context,
    caller: Caller,
    job: &crate::engine::jobs::Job,
    verb: &'static str,
) -> Result<(), ApiError> {
    if job.view().started_by_uid == caller.uid {
        return Ok(());
    }
    context.allow(caller, JobOfAnother { verb }).await?.into_parts();
    Ok(())
}

/// Something done to a job of somebody else's.
struct JobOfAnother {
    verb: &'static str,
}

impl Ask for JobOfAnother {
    fn question(&self, _: &Caller) -> Question {
        Question::new(Action::CancelJob).with("verb", self.verb)
    }
}

/// A file descriptor as it is sent.
pub(crate) fn sent(fd: std::os::fd::OwnedFd) -> Fd<'static> {
    fd.into()
}

/// Options of a method that has none yet.
pub(crate) fn no_options(options: Dict) -> Result<(), ApiError> {
    Options::new(options).finish()
}
