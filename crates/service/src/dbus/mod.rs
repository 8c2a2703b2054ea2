//! The engine's face on the bus: parse, authorize, delegate, map. No decision is made here.
//!
//! Every handler takes `&self`: an interface with a `&mut self` method is locked while it runs, and
//! whoever asks for all properties then waits for it.

mod admission;
mod bound;
mod checkpoint;
mod container;
mod context;
mod counts;
mod error;
mod history;
mod image;
mod introspect;
mod job;
mod kind;
mod limits;
mod log_control;
mod manager;
mod network;
mod object_manager;
mod paths;
mod process;
mod publish;
mod registry;
mod repeats;
mod secret;
mod stats;
mod subscribers;
mod value;
mod volume;

use std::sync::Arc;

use tokio::sync::mpsc;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::fdo::{RequestNameFlags, RequestNameReply};

use crate::authority::{Authority, Polkit};
use crate::bus::{Bus, PrivateBus};
use crate::engine::Engine;
use crate::engine::events::Event;
use crate::journal::LogControl;
use context::Context;

/// The name on the bus.
pub const NAME: &str = "org.tare.Containers1";

/// Why the service is not on the bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection.
    #[error("cannot connect to the bus")]
    Connect(#[source] zbus::Error),
    /// An object cannot be put there.
    #[error("cannot put an object on the bus")]
    Export(#[source] zbus::Error),
    /// The name cannot be had.
    #[error("cannot get the name {NAME}")]
    Name(#[source] zbus::Error),
    /// Somebody else has the name.
    #[error("somebody else on this bus has the name {NAME}")]
    NameTaken,
}

/// The service on the bus.
#[derive(Debug)]
pub struct Service {
    connection: Connection,
    context: Arc<Context>,
}

impl Service {
    /// Puts everything on the bus, and then takes the name: who sees the name can call.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn start(
        bus: &Bus,
        private: Option<&PrivateBus>,
        engine: Engine,
        told: mpsc::UnboundedReceiver<Event>,
        log: LogControl,
    ) -> Result<Self, Error> {
        // A connection of its own for what we ask, which serves nothing: its replies never wait behind
        // calls to us. No timeout: polkit answers when a person has found the password.
        let client = bus.builder(private).build().await.map_err(Error::Connect)?;
        let authority = if bus.has_polkit() {
            Authority::Polkit(Polkit::new(&client).await.map_err(Error::Connect)?)
        } else {
            Authority::RootAlone
        };
        let context = Context::new(engine, authority, client, log).await.map_err(Error::Connect)?;
        let context = Arc::new(context);
        let connection = connect(bus.builder(private), &context).await.map_err(Error::Connect)?;
        introspect::install(connection.object_server(), &context).await.map_err(Error::Export)?;
        tokio::spawn(publish::run(connection.clone(), context.clone(), told));
        for bond in context.engine.mounted_for() {
            bound::watch(&context, &bond);
        }
        // What was there before is shown before the name is.
        context.engine.shown().await;
        take_name(&connection).await?;
        Ok(Self { connection, context })
    }

    /// Returns when the bus has gone away.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Goes off the bus after everything has been told.
    pub async fn leave(self) {
        self.context.engine.shown().await;
        let _ = self.connection.release_name(NAME).await;
        // What was sent is on its way: replies are written before the handlers return.
        let _ = self.connection.close().await;
    }
}

/// Serves from the first message on. A bus hands over the call that has started the service together
/// with the name, and what comes before `ObjectServer::at` has got round to listening is never answered.
async fn connect(bus: Builder<'_>, context: &Arc<Context>) -> zbus::Result<Connection> {
    bus.serve_at(paths::ROOT, manager::Manager::new(context.clone()))
        .serve_at(paths::ROOT, object_manager::ObjectManager::new(context.clone()))
        .serve_at(log_control::PATH, log_control::LogControl1::new(context.clone()))
        .build()
        .await
}

/// A second daemon does not get the name, and does not wait for it either.
async fn take_name(connection: &Connection) -> Result<(), Error> {
    let reply = connection.request_name_with_flags(NAME, RequestNameFlags::DO_NOT_QUEUE).await;
    match reply {
        Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner) => Ok(()),
        Ok(_) | Err(zbus::Error::NameTaken) => Err(Error::NameTaken),
        Err(error) => Err(Error::Name(error)),
    }
}
