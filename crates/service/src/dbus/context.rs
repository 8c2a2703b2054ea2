//! What every handler needs: the engine, who decides, and who calls.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::{Flags, Header};
use zbus::names::UniqueName;

use super::error::ApiError;
use super::registry::Registry;
use crate::authority::{Ask, Authority, Authorized, Caller, Interactive};
use crate::engine::Engine;
use crate::journal::LogControl;

/// Callers that are remembered; a bus never gives a unique name twice, so none of them is ever
/// wrong, but there may be many.
const REMEMBERED: usize = 1024;

/// A question to the bus itself that takes longer than this has failed.
const BUS_TIMEOUT: Duration = Duration::from_secs(25);

/// Shared by all objects on the bus.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) engine: Engine,
    pub(crate) log: LogControl,
    pub(crate) registry: Registry,
    authority: Authority,
    bus: DBusProxy<'static>,
    uids: Mutex<HashMap<String, u32>>,
    refusing: AtomicBool,
}

impl Context {
    pub(crate) async fn new(
        engine: Engine,
        authority: Authority,
        client: Connection,
        log: LogControl,
    ) -> zbus::Result<Self> {
        Ok(Self {
            engine,
            log,
            registry: Registry::default(),
            authority,
            bus: DBusProxy::new(&client).await?,
            uids: Mutex::default(),
            refusing: AtomicBool::new(false),
        })
    }

    /// Calls that change something are refused from now on.
    pub(crate) fn refuse_changes(&self) {
        self.refusing.store(true, Ordering::Release);
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

    /// Lets the caller do the request, or not.
    pub(crate) async fn allow<T: Ask>(
        &self,
        caller: Caller,
        request: T,
    ) -> Result<Authorized<T>, ApiError> {
        self.check_serving()?;
        let allowed = self.authority.allow(caller, request).await?;
        // A person may have taken minutes to agree.
        self.check_serving()?;
        Ok(allowed)
    }

    fn check_serving(&self) -> Result<(), ApiError> {
        if self.refusing.load(Ordering::Acquire) {
            return Err(crate::engine::Error::ShuttingDown.into());
        }
        Ok(())
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
