//! Ours: the installed service, over the system bus, by one connection that stays.

mod images;

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use system_tests::{Options, ROOT, as_user, image, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use zbus::{
    Connection, DynamicType, Message, MessageStream, ObjectPath, OwnedObjectPath, OwnedVariant,
    connection,
};

use super::{Checkpoints, Command, Engine, GOES_ON, IMAGE, Network, end};
use crate::Result;

const NAME: &str = "org.tare.Containers1";
const BUS: &str = "/run/dbus/system_bus_socket";
/// All that has to be heard: how a job or a container ended.
const RULES: [&str; 2] = [
    "type='signal',sender='org.tare.Containers1',interface='org.tare.Containers1.Manager',\
     member='JobRemoved'",
    "type='signal',sender='org.tare.Containers1',interface='org.tare.Containers1.Container',\
     member='Exited'",
];

/// A user's connection to the service.
#[derive(Debug)]
pub(crate) struct Tare {
    connection: Connection,
    ends: Rc<Ends>,
    listener: JoinHandle<()>,
}

impl Drop for Tare {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Tare {
    /// Connects as the user `uid`.
    pub(crate) async fn connect(uid: u32) -> Result<Self> {
        // The bus asks the kernel who has connected.
        let stream = as_user(uid, async || UnixStream::connect(BUS))?;
        let connection = connection::Builder::unix_stream(stream).user_id(uid).build().await?;
        let ends = Rc::new(Ends::default());
        let stream = MessageStream::from(&connection);
        let listener = tokio::task::spawn_local(listen(stream, ends.clone()));
        let bus = "org.freedesktop.DBus";
        for rule in RULES {
            let path = "/org/freedesktop/DBus";
            connection.call_method(Some(bus), path, Some(bus), "AddMatch", &rule).await?;
        }
        Ok(Self { connection, ends, listener })
    }

    /// Gives it the image.
    pub(crate) async fn import(&self) -> Result<()> {
        self.import_from(image::file_of(image::busybox_tar()).as_fd(), IMAGE).await
    }

    async fn create_from(&self, image: &str, network: Network, command: Command) -> Result<String> {
        let mode = match network {
            Network::Bridge => "private",
            Network::None => "none",
        };
        let options =
            Options::from([("Command", command.to_vec().into()), ("NetworkMode", mode.into())]);
        let path: OwnedObjectPath =
            self.answer(ROOT, "Manager", "CreateContainer", &("", image, options)).await?;
        Ok(path.to_string())
    }

    /// A property of an object.
    pub(crate) async fn property<T>(&self, path: &str, interface: &str, name: &str) -> Result<T>
    where
        T: TryFrom<OwnedVariant, Error: std::error::Error + Send + Sync + 'static>,
    {
        let which = (format!("{NAME}.{interface}"), name);
        let of = "org.freedesktop.DBus.Properties";
        let get = self.connection.call_method(Some(NAME), path, Some(of), "Get", &which);
        let value: OwnedVariant = get.await?.body().deserialize()?;
        Ok(value.try_into()?)
    }

    pub(crate) async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Message>
    where
        B: Serialize + DynamicType,
    {
        let interface = format!("{NAME}.{interface}");
        let call = self.connection.call_method(Some(NAME), path, Some(&*interface), method, body);
        call.await.map_err(|error| format!("{method} {path}: {error}").into())
    }

    pub(crate) async fn answer<B, T>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<T>
    where
        B: Serialize + DynamicType,
        T: DeserializeOwned + zbus::Type,
    {
        Ok(self.call(path, interface, method, body).await?.body().deserialize()?)
    }

    /// Calls what returns a job, and waits for its end.
    async fn job<B>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<()>
    where
        B: Serialize + DynamicType,
    {
        let job: OwnedObjectPath = self.answer(path, interface, method, body).await?;
        match self.ends.of(&job).await {
            End::Job(result) => result.map_err(|why| format!("{method} {path}: {why}").into()),
            End::Exit(_) => Err(format!("{job} is no job").into()),
        }
    }
}

#[async_trait(?Send)]
impl Engine for Tare {
    async fn create(&self, network: Network, command: Command) -> Result<String> {
        self.create_from(IMAGE, network, command).await
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.job(id, "Container", "Start", &(0_u64, Options::new())).await
    }

    async fn kill(&self, id: &str) -> Result<()> {
        self.answer(id, "Container", "Kill", &("init", 9_i32, 0_u64)).await
    }

    async fn wait(&self, id: &str) -> Result<i32> {
        match self.ends.of(id).await {
            End::Exit(code) => Ok(code),
            End::Job(_) => Err(format!("{id} is no container").into()),
        }
    }

    async fn remove(&self, id: &str) -> Result<()> {
        self.job(id, "Container", "Remove", &0_u64).await
    }

    async fn list(&self) -> Result<Vec<String>> {
        let reply = self.call(ROOT, "Manager", "ListContainers", &Options::new()).await?;
        let (rows, _): (Vec<HashMap<String, OwnedVariant>>, u64) = reply.body().deserialize()?;
        let path = |row: HashMap<String, OwnedVariant>| {
            let path: ObjectPath<'_> = row["Path"].downcast_ref()?;
            Ok(path.to_string())
        };
        rows.into_iter().map(path).collect()
    }
}

#[async_trait(?Send)]
impl Checkpoints for Tare {
    async fn there_and_back(&self) -> Result<[Duration; 2]> {
        let id = self.create(Network::None, GOES_ON).await?;
        self.start(&id).await?;
        let begun = Instant::now();
        self.job(&id, "Container", "Checkpoint", &Options::new()).await?;
        let there = begun.elapsed();
        self.wait(&id).await?;
        let filter = Options::from([("Container", ObjectPath::try_from(id.as_str())?.into())]);
        let reply = self.call(ROOT, "Manager", "ListCheckpoints", &filter).await?;
        let (rows, _): (Vec<HashMap<String, OwnedVariant>>, u64) = reply.body().deserialize()?;
        let row = rows.first().ok_or("there is no checkpoint")?;
        let checkpoint: ObjectPath<'_> = row["Path"].downcast_ref()?;

        let begun = Instant::now();
        self.job(&id, "Container", "Restore", &(checkpoint, Options::new())).await?;
        let back = begun.elapsed();
        end(self, &id).await?;
        Ok([there, back])
    }
}

/// How something ended.
#[derive(Debug)]
enum End {
    /// A job: well, or not for this reason.
    Job(std::result::Result<(), String>),
    /// A container, with this code.
    Exit(i32),
}

/// What was told of ends, by path of the object, until somebody asks.
#[derive(Debug, Default)]
struct Ends {
    told: RefCell<HashMap<String, End>>,
    more: Notify,
}

impl Ends {
    async fn of(&self, path: &str) -> End {
        loop {
            let more = self.more.notified();
            if let Some(end) = self.told.borrow_mut().remove(path) {
                return end;
            }
            more.await;
        }
    }

    fn tell(&self, path: String, end: End) {
        self.told.borrow_mut().insert(path, end);
        self.more.notify_waiters();
    }
}

async fn listen(mut stream: MessageStream, ends: Rc<Ends>) {
    while let Some(Ok(message)) = stream.next().await {
        if let Some((path, end)) = end_in(&message) {
            ends.tell(path, end);
        }
    }
}

fn end_in(message: &Message) -> Option<(String, End)> {
    type JobRemoved = (u32, OwnedObjectPath, String, OwnedObjectPath, String, String, String);
    type Exited = (i32, i32, String, u64);
    let path = message.header().path()?.to_string();
    if let Some(removed) = signal::<JobRemoved>(message, ROOT, "JobRemoved") {
        let (_, job, _, _, result, error, text) = removed;
        let end = if result == "done" { Ok(()) } else { Err(format!("{error}: {text}")) };
        return Some((job.to_string(), End::Job(end)));
    }
    let (code, _, _, _) = signal::<Exited>(message, &path, "Exited")?;
    Some((path, End::Exit(code)))
}
