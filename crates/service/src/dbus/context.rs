//! What every handler needs: the engine, who decides, and who calls.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use zbus::fdo::DBusProxy;
use zbus::message::{Flags, Header};
use zbus::names::UniqueName;
use zbus::object_server::ResponseDispatchNotifier;
use zbus::{Connection, OwnedObjectPath};

use super::admission::Admission;
use super::bound::Watched;
use super::history::History;
use super::paths;
use super::registry::Registry;
use super::repeats::{Call, Repeats};
use super::subscribers::Subscribers;
use crate::api::{ApiError, RequestId};
use crate::authority::{Ask, Audit, Authority, Authorized, Caller, Interactive};
use crate::engine::clock::Usec;
use crate::engine::lifecycle::Bond;
use crate::engine::object::ObjectId;
use crate::engine::{self, Engine, Pending};
use crate::journal::LogControl;

/// Callers that are remembered; a bus never gives a unique name twice, so none of them is ever
/// wrong, but there may be many.
const REMEMBERED: usize = 1024;

/// A question to the bus itself that takes longer than this has failed.
const BUS_TIMEOUT: Duration = Duration::from_secs(25);

/// The path of a job whose work begins after the reply is sent.
pub(crate) type JobPath = ResponseDispatchNotifier<OwnedObjectPath>;

/// Shared by all objects on the bus.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) engine: Engine,
    pub(crate) log: LogControl,
    pub(crate) registry: Registry,
    pub(crate) history: History,
    pub(crate) subscribers: Subscribers,
    authority: Authority,
    pub(super) bus: DBusProxy<'static>,
    /// Tells this bus from others.
    pub(super) bus_id: String,
    pub(super) watched: Watched,
    uids: Mutex<HashMap<String, u32>>,
    admission: Admission,
    pub(super) repeats: Repeats,
}

impl Context {
    pub(crate) async fn new(
        engine: Engine,
        authority: Authority,
        client: Connection,
        log: LogControl,
    ) -> zbus::Result<Self> {
        let bus = DBusProxy::new(&client).await?;
        Ok(Self {
            history: History::since(Usec::now()),
            engine,
            log,
            registry: Registry::default(),
            subscribers: Subscribers::default(),
            authority,
            bus_id: bus.get_id().await?.to_string(),
            bus,
            watched: Watched::default(),
            uids: Mutex::default(),
            admission: Admission::default(),
            repeats: Repeats::default(),
        })
    }

    /// A caller, as one of all connections to all buses.
    pub(crate) fn bond(&self, caller: &Caller) -> Bond {
        Bond { bus: self.bus_id.clone(), name: caller.bus_name.clone() }
    }

    /// Who calls, as the bus vouches for it.
    pub(crate) async fn caller(&self, header: &Header<'_>) -> Result<Caller, ApiError> {
        let sender = header.sender().ok_or_else(|| ApiError::invalid_args("no sender"))?;
        let interactive = if header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH) {
            Interactive::Yes
        } else {
            Interactive::No
        };
        let uid = self.uid(sender).await?;
        Ok(Caller { uid, bus_name: sender.to_string(), interactive })
    }

    /// What everybody may have, and what changes nothing: the caller is let in, and nothing is asked
    /// or written down.
    ///
    /// # Errors
    ///
    /// Of `answer`.
    pub(crate) async fn answer<R>(
        &self,
        header: &Header<'_>,
        answer: impl AsyncFnOnce(&Engine, &Caller) -> Result<R, ApiError>,
    ) -> Result<R, ApiError> {
        let caller = self.caller(header).await?;
        let _admitted = self.admission.admit(&caller)?;
        answer(&self.engine, &caller).await
    }

    /// The caller is told of events from now on.
    ///
    /// # Errors
    ///
    /// `LimitsExceeded`.
    pub(crate) async fn subscribe(&self, caller: &Caller) -> Result<(), ApiError> {
        self.subscribers.add(&self.bus, caller).await
    }

    /// The process that calls, by its number; a later one may have that by now.
    pub(crate) async fn caller_pid(&self, header: &Header<'_>) -> Result<u32, ApiError> {
        let sender = header.sender().ok_or_else(|| ApiError::invalid_args("no sender"))?;
        let asked = self.bus.get_connection_unix_process_id(sender.clone().into());
        let pid = tokio::time::timeout(BUS_TIMEOUT, asked).await;
        Ok(pid.map_err(|late| ApiError::internal(&late))??)
    }

    async fn uid(&self, sender: &UniqueName<'_>) -> Result<u32, ApiError> {
        let known = |context: &Self| {
            let uids = context.uids.lock().unwrap_or_else(PoisonError::into_inner);
            uids.get(sender.as_str()).copied()
        };
        if let Some(uid) = known(self) {
            return Ok(uid);
        }
        let asked = self.bus.get_connection_unix_user(sender.clone().into());
        let uid = tokio::time::timeout(BUS_TIMEOUT, asked)
            .await
            .map_err(|late| ApiError::internal(&late))??;
        let mut uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        if uids.len() >= REMEMBERED {
            uids.clear();
        }
        uids.insert(sender.to_string(), uid);
        Ok(uid)
    }

    /// The one door of all that changes something: the caller is let in, what they want is resolved
    /// and frozen, asked about, done and written down once; the reply comes after all is shown.
    ///
    /// # Errors
    ///
    /// Of `resolve`, of the authority, or of `run`.
    pub(crate) async fn act<T: Ask, R>(
        &self,
        header: &Header<'_>,
        resolve: impl FnOnce() -> Result<T, ApiError>,
        run: impl AsyncFnOnce(Engine, Authorized<T>) -> Result<R, engine::Error>,
    ) -> Result<R, ApiError> {
        self.act_by(header, async |_| resolve(), run).await
    }

    /// The same for what has to be resolved in one way for one caller and in another for another, or
    /// takes its time.
    ///
    /// # Errors
    ///
    /// As of [`act`](Self::act).
    pub(crate) async fn act_by<T: Ask, R>(
        &self,
        header: &Header<'_>,
        resolve: impl AsyncFnOnce(&Caller) -> Result<T, ApiError>,
        run: impl AsyncFnOnce(Engine, Authorized<T>) -> Result<R, engine::Error>,
    ) -> Result<R, ApiError> {
        let (done, audit) = self.decide_and_run(header, resolve, run).await?;
        audit.write(done.as_ref().map_or_else(ApiError::short_name, |_| "done"), None);
        self.engine.shown().await;
        done
    }

    /// The same, for what a job goes on with.
    ///
    /// # Errors
    ///
    /// As of [`act`](Self::act).
    pub(crate) async fn job<T: Ask>(
        &self,
        header: &Header<'_>,
        resolve: impl FnOnce() -> Result<T, ApiError>,
        begin: fn(&Engine, Authorized<T>) -> Result<Pending, engine::Error>,
    ) -> Result<JobPath, ApiError> {
        self.job_by(header, async |_| resolve(), begin).await
    }

    /// The same as [`act_by`](Self::act_by).
    ///
    /// # Errors
    ///
    /// As of [`act`](Self::act).
    pub(crate) async fn job_by<T: Ask>(
        &self,
        header: &Header<'_>,
        resolve: impl AsyncFnOnce(&Caller) -> Result<T, ApiError>,
        begin: fn(&Engine, Authorized<T>) -> Result<Pending, engine::Error>,
    ) -> Result<JobPath, ApiError> {
        Ok(reply_then_run(self.begin_job(header, resolve, begin).await?))
    }

    /// The same, once for all calls with this id.
    ///
    /// # Errors
    ///
    /// As of [`act`](Self::act).
    pub(crate) async fn job_once<T: Ask>(
        &self,
        header: &Header<'_>,
        (method, id): (&'static str, Option<RequestId>),
        resolve: impl AsyncFnOnce(&Caller) -> Result<T, ApiError>,
        begin: fn(&Engine, Authorized<T>) -> Result<Pending, engine::Error>,
    ) -> Result<JobPath, ApiError> {
        let mut made = None;
        let path = self.once(header, (method, id), async {
            let pending = self.begin_job(header, resolve, begin).await?;
            let path = paths::of(&ObjectId::Job(pending.id()));
            made = Some(pending);
            Ok(path)
        });
        let path = Box::pin(path).await?;
        Ok(match made {
            Some(pending) => reply_then_run(pending),
            None => ResponseDispatchNotifier::new(path).0,
        })
    }

    /// What `run` makes, or what it made when the same user called the method with the same id
    /// before.
    ///
    /// # Errors
    ///
    /// Of `run`.
    pub(crate) async fn once(
        &self,
        header: &Header<'_>,
        (method, id): (&'static str, Option<RequestId>),
        run: impl Future<Output = Result<OwnedObjectPath, ApiError>>,
    ) -> Result<OwnedObjectPath, ApiError> {
        let Some(id) = id else { return run.await };
        let caller = self.caller(header).await?;
        // Who waits for the first answer is at work, too; who gives it counts twice.
        let _admitted = self.admission.admit(&caller)?;
        let first = self.repeats.first(Call { uid: caller.uid, method, id }, Instant::now());
        first.get_or_try_init(|| run).await.cloned()
    }

    async fn begin_job<T: Ask>(
        &self,
        header: &Header<'_>,
        resolve: impl AsyncFnOnce(&Caller) -> Result<T, ApiError>,
        begin: fn(&Engine, Authorized<T>) -> Result<Pending, engine::Error>,
    ) -> Result<Pending, ApiError> {
        let run = async |engine: Engine, request| begin(&engine, request);
        let (pending, audit) = self.decide_and_run(header, resolve, run).await?;
        let id = pending.as_ref().ok().map(Pending::id);
        audit.write(pending.as_ref().map_or_else(ApiError::short_name, |_| "begun"), id);
        // JobNew comes before the reply.
        self.engine.shown().await;
        pending
    }

    async fn decide_and_run<T: Ask, R>(
        &self,
        header: &Header<'_>,
        resolve: impl AsyncFnOnce(&Caller) -> Result<T, ApiError>,
        run: impl AsyncFnOnce(Engine, Authorized<T>) -> Result<R, engine::Error>,
    ) -> Result<(Result<R, ApiError>, Audit), ApiError> {
        let caller = self.caller(header).await?;
        let _admitted = self.admission.admit(&caller)?;
        self.engine.check_serving()?;
        let request = resolve(&caller).await?;
        let (audit, allowed) = self.authority.allow(caller, request).await;
        let done = match allowed {
            Ok(request) => self.run(request, run).await.map_err(ApiError::from),
            Err(refusal) => Err(refusal.into()),
        };
        Ok((done, audit))
    }

    async fn run<T, R>(
        &self,
        request: Authorized<T>,
        run: impl AsyncFnOnce(Engine, Authorized<T>) -> Result<R, engine::Error>,
    ) -> Result<R, engine::Error> {
        // A person may have taken minutes to agree.
        self.engine.check_serving()?;
        run(self.engine.clone(), request).await
    }

    /// Why the service is degraded.
    pub(crate) fn taints(&self) -> Vec<String> {
        let mut taints: Vec<String> = self.engine.taints().into_iter().map(Into::into).collect();
        if matches!(self.authority, Authority::RootAlone) {
            taints.push("no-polkit".into());
        }
        taints
    }
}

/// Replies with the job; its work begins after the reply is sent, so that `JobRemoved` follows it.
fn reply_then_run(pending: Pending) -> JobPath {
    let (reply, sent) = ResponseDispatchNotifier::new(paths::of(&ObjectId::Job(pending.id())));
    tokio::spawn(async move {
        sent.await;
        pending.run();
    });
    reply
}
