//! A connection to a daemon that remembers everything it was sent.
#![expect(clippy::missing_errors_doc, reason = "errors are the service's, which are tested")]

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use zbus::message::{Message, Type};
use zbus::{
    Connection, DynamicType, Fd, MessageStream, OwnedFd, OwnedObjectPath, OwnedVariant, Variant,
    connection,
};

use crate::Properties;
use crate::image::{busybox_tar, file_of};
use crate::made::Record;
use crate::replies::{Ended, Executed, Exit, Refused};

/// Where the manager is.
pub const ROOT: &str = "/org/tare/Containers1";
/// The name on the bus, and what all interfaces begin with.
const NAME: &str = "org.tare.Containers1";
/// Longer than anything here takes; the stop of a container has ten seconds of its own.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What all error names begin with.
pub const ERROR: &str = "org.tare.Containers1.Error";

/// Options of a call.
pub type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    record: Arc<Mutex<Vec<Message>>>,
    grown: watch::Receiver<usize>,
    recorder: tokio::task::JoinHandle<()>,
    made: Record,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.recorder.abort();
    }
}

impl Client {
    /// Connects, and asks for all signals of the service before anything else.
    pub async fn connect(address: &str) -> Self {
        let connection = connection::Builder::address(address).build().await.unwrap();
        let stream = MessageStream::from(&connection);
        let (record, (count, grown)) = (Arc::new(Mutex::new(Vec::new())), watch::channel(0));
        let recorder = tokio::spawn(keep(stream, record.clone(), count));
        let rule = format!("type='signal',path_namespace='{ROOT}'");
        let bus = "org.freedesktop.DBus";
        connection
            .call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "AddMatch", &rule)
            .await
            .unwrap();
        Self { connection, record, grown, recorder, made: Record::of_this_case() }
    }

    /// Whether somebody has the service's name.
    pub async fn is_there(&self) -> bool {
        let bus = "org.freedesktop.DBus";
        let reply = self
            .connection
            .call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "NameHasOwner", &NAME)
            .await
            .unwrap();
        reply.body().deserialize().unwrap()
    }

    /// Calls a method of the service; `interface` is what follows `org.tare.Containers1.`, or a
    /// whole name.
    pub async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Message, Refused>
    where
        B: Serialize + DynamicType,
    {
        let interface = full(interface);
        let call =
            self.connection.call_method(Some(NAME), path, Some(interface.as_str()), method, body);
        let reply = tokio::time::timeout(TIMEOUT, call).await;
        let reply = reply.unwrap_or_else(|late| panic!("{interface}.{method}: {late}"));
        let reply = reply.map_err(|error| Refused::from_reply(&error))?;
        if method == "CreateNetwork" {
            self.made.note(&reply.body().deserialize::<OwnedObjectPath>().unwrap());
        }
        Ok(reply)
    }

    /// Notes all images that were told of: from now on they may stay.
    pub fn keeps_images(&self) {
        for message in self.messages() {
            if let Some((path, _)) = signal::<InterfacesAdded>(&message, ROOT, "InterfacesAdded")
                && path.contains("/image/")
            {
                self.made.note(&path);
            }
        }
    }

    /// Calls a method of the manager, and returns what it returns.
    pub async fn manager<B, T>(&self, method: &str, body: &B) -> Result<T, Refused>
    where
        B: Serialize + DynamicType,
        T: DeserializeOwned + zbus::Type,
    {
        let reply = self.call(ROOT, "Manager", method, body).await?;
        Ok(reply.body().deserialize().unwrap())
    }

    /// Calls a method that returns a job, and waits for the job's end.
    pub async fn job<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Ended, Refused>
    where
        B: Serialize + DynamicType,
    {
        let reply = self.call(path, interface, method, body).await?;
        let job: OwnedObjectPath = reply.body().deserialize().unwrap();
        Ok(self.ended(&job).await)
    }

    /// Waits for the end of a job.
    pub async fn ended(&self, job: &OwnedObjectPath) -> Ended {
        let ended = self
            .until("the end of a job", |message| {
                let (_, ended, kind, object, result, error_name, error_message) =
                    signal::<JobRemoved>(message, ROOT, "JobRemoved")?;
                let job = (ended == *job).then_some(ended)?;
                Some(Ended { job, kind, object, result, error_name, error_message })
            })
            .await;
        if ended.result == "done" && MAKES_IMAGES.contains(&ended.kind.as_str()) {
            self.keeps_images();
        }
        ended
    }

    /// Waits for a message of which `find` makes something; those that came already count.
    pub async fn until<T>(&self, what: &str, find: impl Fn(&Message) -> Option<T>) -> T {
        self.until_after(0, what, find).await
    }

    /// The same among the messages after the first so many.
    async fn until_after<T>(
        &self,
        mut seen: usize,
        what: &str,
        find: impl Fn(&Message) -> Option<T>,
    ) -> T {
        let mut grown = self.grown.clone();
        let found = async {
            loop {
                let messages = self.messages();
                if let Some(found) = messages[seen..].iter().find_map(&find) {
                    return found;
                }
                seen = messages.len();
                grown.wait_for(|count| *count > seen).await.expect("the bus went away");
            }
        };
        let found = tokio::time::timeout(TIMEOUT, found).await;
        found.unwrap_or_else(|_| panic!("{what} did not come"))
    }

    /// Everything that was received, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.record.lock().unwrap().clone()
    }

    /// All properties of an object.
    pub async fn properties(&self, path: &str, interface: &str) -> Properties {
        let properties = "org.freedesktop.DBus.Properties";
        let reply = self.call(path, properties, "GetAll", &full(interface)).await.unwrap();
        Properties(reply.body().deserialize().unwrap())
    }

    /// All properties of a container.
    pub async fn container(&self, path: &OwnedObjectPath) -> Properties {
        self.properties(path, "Container").await
    }

    /// What the object at `path` says about itself.
    pub async fn introspect(&self, path: &str) -> String {
        let introspectable = "org.freedesktop.DBus.Introspectable";
        let reply = self.call(path, introspectable, "Introspect", &()).await.unwrap();
        reply.body().deserialize().unwrap()
    }

    /// Imports busybox under the name `busybox`; the image.
    pub async fn import_busybox(&self) -> OwnedObjectPath {
        let options =
            Options::from([("Reference", "busybox".into()), ("Command", vec!["sh"].into())]);
        let ended = self.import(&file_of(busybox_tar()), options).await.unwrap();
        ended.done();
        let output = self.properties(&ended.job, "Job").await.get::<Variant<'static>>("Output");
        let output: HashMap<String, Variant<'_>> = output.try_into().unwrap();
        let images: Vec<OwnedObjectPath> =
            output["Images"].try_clone().unwrap().try_into().unwrap();
        images.into_iter().next().expect("an import makes an image")
    }

    /// `Manager.ImportImage`.
    pub async fn import(
        &self,
        archive: &impl AsFd,
        options: Options<'_>,
    ) -> Result<Ended, Refused> {
        let body = (Fd::from(archive.as_fd()), options);
        self.job(ROOT, "Manager", "ImportImage", &body).await
    }

    /// Makes a container of busybox that runs `command` in a shell.
    pub async fn create(&self, name: &str, script: &str) -> OwnedObjectPath {
        let command = Options::from([("Command", vec!["sh", "-c", script].into())]);
        self.create_with(name, command).await.unwrap()
    }

    /// `Manager.CreateContainer`, of busybox.
    pub async fn create_with(
        &self,
        name: &str,
        options: Options<'_>,
    ) -> Result<OwnedObjectPath, Refused> {
        self.manager("CreateContainer", &(name, "busybox", options)).await
    }

    /// `Container.Start`.
    pub async fn start(&self, path: &OwnedObjectPath) -> Ended {
        let body = (0_u64, Options::new());
        self.job(path, "Container", "Start", &body).await.unwrap()
    }

    /// `Container.Stop`, with a second of patience.
    pub async fn stop(&self, path: &OwnedObjectPath) -> Ended {
        self.job(path, "Container", "Stop", &(1_000_000_u64, 0_u64)).await.unwrap()
    }

    /// `Container.Remove`; killed first if it runs.
    pub async fn remove(&self, path: &OwnedObjectPath) -> Ended {
        self.job(path, "Container", "Remove", &1_u64).await.unwrap()
    }

    /// Runs a script in a container, to its end.
    pub async fn exec(&self, path: &OwnedObjectPath, script: &str) -> Executed {
        self.exec_argv(path, &["sh", "-c", script], Options::new(), b"").await.unwrap()
    }

    /// `Container.Exec` without descriptors of the caller's, to the end of the process, which
    /// gets `input` to read.
    pub async fn exec_argv(
        &self,
        path: &OwnedObjectPath,
        argv: &[&str],
        options: Options<'_>,
        input: &[u8],
    ) -> Result<Executed, Refused> {
        let reply = self.call(path, "Container", "Exec", &(argv, options)).await?;
        let (process, mut fds): (OwnedObjectPath, HashMap<String, OwnedFd>) =
            reply.body().deserialize().unwrap();
        // The message holds descriptors of its own, and the process would wait for the end of its.
        drop(reply);
        let stdin = std::os::fd::OwnedFd::from(fds.remove("stdin").expect("stdin comes back"));
        // It fits into the pipe.
        File::from(stdin).write_all(input).unwrap();
        let (stdout, stderr) =
            tokio::join!(read(fds.remove("stdout").unwrap()), read(fds.remove("stderr").unwrap()));
        let (code, _, _) = self
            .until("the end of a process", |message| {
                signal::<(i32, i32, u64)>(message, &process, "Exited")
            })
            .await;
        Ok(Executed { process, stdout, stderr, code })
    }

    /// Begins to run a script in a container, with nothing to read and nobody to read what it says;
    /// returns its session.
    pub async fn begin_exec(&self, path: &OwnedObjectPath, script: &str) -> OwnedObjectPath {
        let argv = ["sh", "-c", script];
        let reply = self.call(path, "Container", "Exec", &(&argv[..], Options::new())).await;
        let reply = reply.unwrap();
        let (process, _fds): (OwnedObjectPath, HashMap<String, OwnedFd>) =
            reply.body().deserialize().unwrap();
        process
    }

    /// Waits for the `Exited` signal of a session; returns its exit code.
    pub async fn session_code(&self, process: &OwnedObjectPath) -> i32 {
        let exited = |message: &Message| signal::<(i32, i32, u64)>(message, process, "Exited");
        self.until("the end of a process", exited).await.0
    }

    /// Waits for the `Exited` signal of a container, among the messages after the first so many.
    pub async fn exit_after(&self, seen: usize, path: &OwnedObjectPath) {
        self.until_after(seen, "the end of a container", |message| {
            signal::<(i32, i32, String, u64)>(message, path, "Exited")
        })
        .await;
    }

    /// Waits for the `Exited` signal of a container.
    pub async fn exit(&self, path: &OwnedObjectPath) -> Exit {
        self.until("the end of a container", |message| {
            let (code, signal, reason, _) =
                signal::<(i32, i32, String, u64)>(message, path, "Exited")?;
            Some(Exit { code, signal, reason })
        })
        .await
    }

    /// `Container.OpenLogs`, read to its end.
    pub async fn logs(&self, path: &OwnedObjectPath, options: Options<'_>) -> String {
        let reply = self.call(path, "Container", "OpenLogs", &options).await.unwrap();
        let stream: OwnedFd = reply.body().deserialize().unwrap();
        read(stream).await
    }

    /// The rows of a list.
    pub async fn list(&self, method: &str) -> Vec<Properties> {
        let (rows, _): (Vec<HashMap<String, OwnedVariant>>, u64) =
            self.manager(method, &Options::new()).await.unwrap();
        rows.into_iter().map(Properties).collect()
    }
}

/// A container that runs a script.
pub async fn started(client: &Client, name: &str, script: &str) -> OwnedObjectPath {
    let path = client.create(name, script).await;
    client.start(&path).await.done();
    path
}

/// The error name of a job that failed.
///
/// # Panics
///
/// If it did not, or has no message.
pub fn failure(ended: &Ended) -> &str {
    assert_eq!(ended.result, "failed", "{ended:?}");
    assert!(!ended.error_message.is_empty(), "{ended:?}");
    &ended.error_name
}

/// Kinds of jobs that end with images.
const MAKES_IMAGES: [&str; 3] = ["import-image", "pull-image", "commit-container"];

type InterfacesAdded = (OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>);

type JobRemoved = (u32, OwnedObjectPath, String, OwnedObjectPath, String, String, String);

/// What a signal of that name from that object carries; nothing for any other message.
pub fn signal<T: DeserializeOwned + zbus::Type>(
    message: &Message,
    path: &str,
    member: &str,
) -> Option<T> {
    let header = message.header();
    let fits = message.message_type() == Type::Signal
        && header.path().is_some_and(|it| it.as_str() == path)
        && header.member().is_some_and(|it| it.as_str() == member);
    fits.then(|| message.body().deserialize().unwrap())
}

async fn keep(
    mut stream: MessageStream,
    record: Arc<Mutex<Vec<Message>>>,
    count: watch::Sender<usize>,
) {
    while let Some(Ok(message)) = stream.next().await {
        // Replies may hold descriptors, and keep them open.
        if message.header().unix_fds().unwrap_or(0) == 0 {
            record.lock().unwrap().push(message);
            count.send_modify(|count| *count += 1);
        }
    }
}

fn full(interface: &str) -> String {
    if interface.contains('.') { interface.into() } else { format!("{NAME}.{interface}") }
}

/// Everything up to the end of a pipe.
///
/// # Panics
///
/// If it has none.
pub async fn read(fd: OwnedFd) -> String {
    let mut pipe = Receiver::from_owned_fd(fd.into()).unwrap();
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(TIMEOUT, pipe.read_to_end(&mut bytes)).await;
    read.expect("a stream has no end").unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
