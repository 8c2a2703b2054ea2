//! Every method of the contract, on the service as it is shipped: no sandbox, bus policy or missing
//! group of the unit keeps any of them from doing what it is for.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use system_tests::Ring::System;
use system_tests::archive::files_tar;
use system_tests::contract::Interfaces;
use system_tests::image::file_of;
use system_tests::registry::{Access, REGISTRY, Registry};
use system_tests::{Client, Ended, Options, ROOT, in_lab};
use zbus::message::Message;
use zbus::{DynamicType, Fd, OwnedFd, OwnedObjectPath, OwnedVariant, Variant};

const RUNS: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

type Row = HashMap<String, OwnedVariant>;

/// Calls, and remembers what it called that was done.
struct Caller<'c> {
    client: &'c Client,
    done: RefCell<BTreeSet<String>>,
}

impl Caller<'_> {
    /// Calls what the contract calls `Interface.Method`.
    async fn call<B>(&self, path: &str, method: &str, body: &B) -> Message
    where
        B: Serialize + DynamicType,
    {
        let (interface, member) = method.split_once('.').unwrap();
        let reply = self.client.call(path, interface, member, body).await;
        let reply = reply.unwrap_or_else(|why| panic!("{method}: {why:?}"));
        self.done.borrow_mut().insert(method.to_owned());
        reply
    }

    /// What it returns.
    async fn get<B, T>(&self, path: &str, method: &str, body: &B) -> T
    where
        B: Serialize + DynamicType,
        T: DeserializeOwned + zbus::Type,
    {
        self.call(path, method, body).await.body().deserialize().unwrap()
    }

    /// The end of the job that it returns.
    async fn job<B>(&self, path: &str, method: &str, body: &B) -> Ended
    where
        B: Serialize + DynamicType,
    {
        let job: OwnedObjectPath = self.get(path, method, body).await;
        let ended = self.client.ended(&job).await;
        ended.done();
        ended
    }

    async fn state(&self, container: &OwnedObjectPath) -> String {
        self.client.container(container).await.text("State")
    }

    /// Makes one that runs until it is asked to end.
    async fn create(&self, name: &str) -> OwnedObjectPath {
        let options = Options::from([("Command", vec!["sh", "-c", RUNS].into())]);
        self.get(ROOT, "Manager.CreateContainer", &(name, "busybox", options)).await
    }
}

/// The same in a descriptor.
fn fd(file: &impl AsFd) -> Fd<'_> {
    Fd::from(file.as_fd())
}

fn none() -> Options<'static> {
    Options::new()
}

/// All there are, as they are installed.
fn contract() -> BTreeSet<String> {
    let mut methods = BTreeSet::new();
    let dir = std::env::var_os("TARE_CONTRACT_DIR").expect("a lab system says where they are");
    for entry in fs::read_dir(Path::new(&dir)).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with("org.tare.") {
            continue;
        }
        for (interface, members) in Interfaces::parse(&fs::read_to_string(path).unwrap()).0 {
            let short = interface.rsplit('.').next().unwrap();
            let of_kind = members.keys().filter_map(|it| it.strip_prefix("method "));
            methods.extend(of_kind.map(|method| format!("{short}.{method}")));
        }
    }
    methods
}

#[test]
fn lab_every_method_of_the_contract_works_as_shipped() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let caller = Caller { client: &client, done: RefCell::default() };
        images(&caller).await;
        volumes(&caller).await;
        secrets(&caller).await;
        life(&caller).await;
        by_name(&caller).await;
        sessions(&caller).await;
        attaching(&caller).await;
        looking(&caller).await;
        files(&caller).await;
        networks(&caller).await;
        jobs(&caller).await;
        checkpoints(&caller).await;
        let contract = contract();
        assert!(contract.contains("Container.Start"), "{contract:?}");
        let never: Vec<_> = contract.difference(&caller.done.borrow()).cloned().collect();
        assert!(never.is_empty(), "of these no lab case calls any; it belongs here: {never:?}");
    });
}

async fn images(caller: &Caller<'_>) {
    caller.client.import_busybox().await;
    let archive = file_of(system_tests::image::busybox_tar());
    let named = Options::from([("Reference", "methods:1".into())]);
    caller.job(ROOT, "Manager.ImportImage", &(fd(&archive), named)).await;
    let image: OwnedObjectPath = caller.get(ROOT, "Manager.GetImage", &"methods:1").await;
    let (listed, _): (Vec<Row>, u64) = caller.get(ROOT, "Manager.ListImages", &none()).await;
    assert!(!listed.is_empty());
    caller.call(&image, "Image.Tag", &("methods:2", 0_u64)).await;
    caller.call(&image, "Image.Untag", &("methods:2", 0_u64)).await;
    let json: String = caller.get(&image, "Image.Inspect", &0_u64).await;
    assert!(json.contains("methods:1"), "{json}");
    let history: Vec<Row> = caller.get(&image, "Image.GetHistory", &()).await;
    assert_eq!(history.len(), 1);

    let out = file_of(b"");
    caller.job(ROOT, "Manager.ExportImages", &(vec!["methods:1"], fd(&out), none())).await;
    assert!(out.metadata().unwrap().len() > 100_000);

    let alone = file_of(b"");
    caller.job(&image, "Image.Export", &(fd(&alone), none())).await;
    assert!(alone.metadata().unwrap().len() > 100_000);
    let root: OwnedFd = caller.get(&image, "Image.OpenRootDirectory", &1_u64).await;
    let root = Path::new("/proc/self/fd").join(root.as_raw_fd().to_string());
    assert!(root.join("bin/sh").symlink_metadata().is_ok());

    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let _registry = Registry::start_in(dir.path().join("registry"), Access::Open);
    let there = format!("{REGISTRY}/methods:1");
    let plain = || Options::from([("TLSVerify", false.into())]);
    caller.job(&image, "Image.Push", &(there.as_str(), plain())).await;
    caller.job(ROOT, "Manager.PullImage", &(there.as_str(), plain())).await;
    // Some names are of one image, some of another with the same content.
    for name in [there.as_str(), "methods:1"] {
        if let Ok(image) = caller.client.manager::<_, OwnedObjectPath>("GetImage", &name).await {
            caller.job(&image, "Image.Remove", &1_u64).await;
        }
    }
    caller.client.import_busybox().await;
    caller.job(ROOT, "Manager.Prune", &(vec!["images"], none())).await;
}

async fn volumes(caller: &Caller<'_>) {
    let made: OwnedObjectPath = caller.get(ROOT, "Manager.CreateVolume", &("v", none())).await;
    let volume: OwnedObjectPath = caller.get(ROOT, "Manager.GetVolume", &"v").await;
    assert_eq!(made, volume);
    let (listed, _): (Vec<Row>, u64) = caller.get(ROOT, "Manager.ListVolumes", &none()).await;
    assert_eq!(listed.len(), 1);
    let content = file_of(&files_tar(&[("file", b"content")]));
    caller.job(&volume, "Volume.Import", &(fd(&content), none())).await;
    let out = file_of(b"");
    caller.job(&volume, "Volume.Export", &(fd(&out), none())).await;
    assert!(out.metadata().unwrap().len() > 0);
    let bytes: u64 = caller.get(&volume, "Volume.GetUsage", &0_u64).await;
    assert!(bytes > 0);
    let json: String = caller.get(&volume, "Volume.Inspect", &0_u64).await;
    assert!(json.contains("\"v\""), "{json}");
    caller.job(&volume, "Volume.Remove", &0_u64).await;
}

async fn secrets(caller: &Caller<'_>) {
    let value = file_of(b"hush");
    let made: OwnedObjectPath =
        caller.get(ROOT, "Manager.CreateSecret", &("s", fd(&value), none())).await;
    let secret: OwnedObjectPath = caller.get(ROOT, "Manager.GetSecret", &"s").await;
    assert_eq!(made, secret);
    let (listed, _): (Vec<Row>, u64) = caller.get(ROOT, "Manager.ListSecrets", &none()).await;
    assert_eq!(listed.len(), 1);
    caller.call(&secret, "Secret.Replace", &(fd(&value), 0_u64)).await;
    caller.call(&secret, "Secret.Remove", &0_u64).await;
}

async fn life(caller: &Caller<'_>) {
    let path = caller.create("life").await;
    caller.job(&path, "Container.Start", &(0_u64, none())).await;
    caller.call(&path, "Container.Pause", &0_u64).await;
    assert_eq!(caller.state(&path).await, "paused");
    caller.call(&path, "Container.Resume", &0_u64).await;
    assert_eq!(caller.state(&path).await, "running");
    caller.call(&path, "Container.Rename", &("renamed", 0_u64)).await;
    let limits = Options::from([("RestartPolicy", "on-failure:3".into())]);
    caller.call(&path, "Container.Update", &limits).await;
    caller.job(&path, "Container.Restart", &(1_000_000_u64, 0_u64)).await;
    caller.job(&path, "Container.Stop", &(1_000_000_u64, 0_u64)).await;
    caller.job(&path, "Container.Start", &(0_u64, none())).await;
    caller.call(&path, "Container.Kill", &("init", 9, 0_u64)).await;
    caller.job(&path, "Container.Remove", &1_u64).await;
}

async fn checkpoints(caller: &Caller<'_>) {
    let path = caller.create("checkpoints").await;
    caller.job(&path, "Container.Start", &(0_u64, none())).await;
    let goes_on = Options::from([("LeaveRunning", true.into())]);
    caller.job(ROOT, "Manager.CheckpointContainer", &("checkpoints", goes_on)).await;
    caller.job(&path, "Container.Checkpoint", &none()).await;
    assert_eq!(caller.state(&path).await, "exited");
    let (listed, _): (Vec<Row>, u64) = caller.get(ROOT, "Manager.ListCheckpoints", &none()).await;
    let found: Vec<OwnedObjectPath> =
        listed.into_iter().map(|mut row| row.remove("Path").unwrap().try_into().unwrap()).collect();
    let [first, last] = &found[..] else { panic!("{found:?}") };
    let json: String = caller.get(first, "Checkpoint.Inspect", &0_u64).await;
    assert!(json.contains("CRIUVersion"), "{json}");
    caller.job(first, "Checkpoint.RestoreAs", &("another", none())).await;
    let another: OwnedObjectPath = caller.get(ROOT, "Manager.GetContainer", &"another").await;
    assert_eq!(caller.state(&another).await, "running");
    caller.job(&another, "Container.Remove", &1_u64).await;
    caller.job(first, "Checkpoint.Remove", &0_u64).await;
    caller.job(&path, "Container.Restore", &(last, none())).await;
    assert_eq!(caller.state(&path).await, "running");
    caller.job(&path, "Container.Remove", &1_u64).await;
}

async fn by_name(caller: &Caller<'_>) {
    let options = Options::from([("Command", vec!["sh", "-c", RUNS].into())]);
    let (spec, ..): (String, Vec<String>, String) =
        caller.get(ROOT, "Manager.GenerateSpec", &("busybox", options.clone(), 0_u64)).await;
    assert!(spec.contains("\"ociVersion\""), "{spec}");
    caller.job(ROOT, "Manager.RunContainer", &("n", "busybox", options)).await;
    let path: OwnedObjectPath = caller.get(ROOT, "Manager.GetContainer", &"n").await;
    let (listed, _): (Vec<Row>, u64) = caller.get(ROOT, "Manager.ListContainers", &none()).await;
    assert_eq!(listed.len(), 1);
    let json: String = caller.get(ROOT, "Manager.InspectContainer", &("n", 0_u64)).await;
    assert!(json.contains("busybox"), "{json}");
    caller.call(ROOT, "Manager.Subscribe", &0_u64).await;
    let (_, events): (u64, Vec<Row>) = caller.get(ROOT, "Manager.GetEvents", &(0_u64, 9_u32)).await;
    assert_eq!(events.len(), 9);
    caller.call(ROOT, "Manager.Unsubscribe", &()).await;
    let stats: Vec<Row> = caller.get(ROOT, "Manager.GetStats", &(vec![&path], 0_u64)).await;
    assert_eq!(stats.len(), 1);
    caller.job(ROOT, "Manager.RestartContainer", &("n", 1_000_000_u64, 0_u64)).await;
    caller.job(ROOT, "Manager.StopContainer", &("n", 1_000_000_u64, 0_u64)).await;
    caller.job(ROOT, "Manager.StartContainer", &("n", 0_u64)).await;
    caller.call(ROOT, "Manager.KillContainer", &("n", "init", 9, 0_u64)).await;
    caller.job(ROOT, "Manager.RemoveContainer", &("n", 1_u64)).await;
}

async fn sessions(caller: &Caller<'_>) {
    let path = caller.create("sessions").await;
    caller.job(&path, "Container.Prepare", &none()).await;
    caller.job(&path, "Container.Cleanup", &0_u64).await;
    let (_output, writer) = pipe().unwrap();
    let stdout = Variant::from(Fd::from(std::os::fd::OwnedFd::from(writer)));
    let options = Options::from([("Stdout", stdout)]);
    caller.job(&path, "Container.Start", &(0_u64, options)).await;
    let options = Options::from([("TTY", true.into())]);
    let (process, fds): (OwnedObjectPath, HashMap<String, OwnedFd>) =
        caller.get(&path, "Container.Exec", &(vec!["sleep", "1000"], options)).await;
    assert!(fds.contains_key("pty"));
    caller.call(&process, "Process.Resize", &(40_u16, 100_u16)).await;
    let _pidfd: OwnedFd = caller.get(&process, "Process.OpenPIDFD", &0_u64).await;
    let stream: OwnedFd = caller.get(&process, "Process.WaitFD", &("stopped", 0_u64)).await;
    caller.call(&process, "Process.Kill", &(9, 0_u64)).await;
    assert!(first_line(stream).contains("\"ExitSignal\":9"));
    caller.job(&path, "Container.Remove", &1_u64).await;
}

async fn attaching(caller: &Caller<'_>) {
    let script = "read a; echo got $a";
    let options =
        Options::from([("Command", vec!["sh", "-c", script].into()), ("TTY", true.into())]);
    let path = caller.client.create_with("attaching", options).await.unwrap();
    caller.job(&path, "Container.Start", &(0_u64, none())).await;
    caller.call(&path, "Container.Resize", &(40_u16, 100_u16)).await;
    let options = Options::from([("Stdin", true.into())]);
    let mut fds: HashMap<String, OwnedFd> = caller.get(&path, "Container.Attach", &options).await;
    let mut take = |name| File::from(std::os::fd::OwnedFd::from(fds.remove(name).unwrap()));
    take("stdin").write_all(b"in\n").unwrap();
    let mut text = String::new();
    take("stdout").read_to_string(&mut text).unwrap();
    assert_eq!(text, "in\r\ngot in\r\n");
    caller.job(&path, "Container.Remove", &1_u64).await;
}

async fn looking(caller: &Caller<'_>) {
    let path = caller.create("looking").await;
    caller.job(&path, "Container.Start", &(0_u64, none())).await;
    let (_, fds): (OwnedObjectPath, HashMap<String, OwnedFd>) =
        caller.get(&path, "Container.Exec", &(vec!["true"], none())).await;
    assert!(!fds.is_empty());
    let pid: u32 = caller.client.container(&path).await.get("PID");
    let found: OwnedObjectPath = caller.get(ROOT, "Manager.GetContainerByPID", &pid).await;
    assert_eq!(found, path);
    let pidfd: OwnedFd = caller.get(&path, "Container.OpenPIDFD", &0_u64).await;
    let found: OwnedObjectPath = caller.get(ROOT, "Manager.GetContainerByPIDFD", &fd(&pidfd)).await;
    assert_eq!(found, path);
    let json: String = caller.get(&path, "Container.Inspect", &0_u64).await;
    assert!(json.contains("busybox"), "{json}");
    let processes: Vec<Row> = caller.get(&path, "Container.GetProcesses", &0_u64).await;
    assert!(!processes.is_empty());
    let stats: Row = caller.get(&path, "Container.GetStats", &0_u64).await;
    assert!(!stats.is_empty());
    let stream: OwnedFd = caller.get(&path, "Container.OpenStats", &(100_000_u64, 0_u64)).await;
    assert!(first_line(stream).contains("\"v\""));
    let stream: OwnedFd = caller.get(&path, "Container.WaitFD", &("running", 0_u64)).await;
    assert!(first_line(stream).contains("running"));
    let _logs: OwnedFd = caller.get(&path, "Container.OpenLogs", &none()).await;
    caller.job(&path, "Container.Remove", &1_u64).await;
}

async fn files(caller: &Caller<'_>) {
    let path = caller.create("files").await;
    caller.job(&path, "Container.Start", &(0_u64, none())).await;
    let content = file_of(&files_tar(&[("sent", b"content")]));
    caller.job(&path, "Container.CopyIn", &(fd(&content), "/tmp", none())).await;
    let out = file_of(b"");
    caller.job(&path, "Container.CopyOut", &("/tmp/sent", fd(&out), none())).await;
    assert!(out.metadata().unwrap().len() > 0);
    let (changes, _): (Vec<(String, Vec<u8>)>, bool) =
        caller.get(&path, "Container.GetChanges", &(100_u32, 0_u64)).await;
    assert!(changes.contains(&("added".into(), b"/tmp/sent".into())), "{changes:?}");
    let root: OwnedFd = caller.get(&path, "Container.OpenRootDirectory", &1_u64).await;
    let root = Path::new("/proc/self/fd").join(root.as_raw_fd().to_string());
    assert_eq!(fs::read_to_string(root.join("tmp/sent")).unwrap(), "content");
    let root: String = caller.get(&path, "Container.MountRootfs", &1_u64).await;
    assert_eq!(fs::read_to_string(Path::new(&root).join("tmp/sent")).unwrap(), "content");
    caller.call(&path, "Container.UnmountRootfs", &0_u64).await;
    assert!(!Path::new(&root).exists());
    let out = file_of(b"");
    caller.job(&path, "Container.Export", &(fd(&out), none())).await;
    assert!(out.metadata().unwrap().len() > 100_000);
    let paused = Options::from([("Pause", true.into())]);
    caller.job(&path, "Container.Commit", &("committed:1", paused)).await;
    caller.job(&path, "Container.Remove", &1_u64).await;
    let image: OwnedObjectPath = caller.get(ROOT, "Manager.GetImage", &"committed:1").await;
    caller.job(&image, "Image.Remove", &1_u64).await;
}

async fn networks(caller: &Caller<'_>) {
    let network: OwnedObjectPath = caller.get(ROOT, "Manager.CreateNetwork", &("m", none())).await;
    let found: OwnedObjectPath = caller.get(ROOT, "Manager.GetNetwork", &"m").await;
    assert_eq!(found, network);
    let (listed, _): (Vec<Row>, u64) = caller.get(ROOT, "Manager.ListNetworks", &none()).await;
    assert_eq!(listed.len(), 2);
    let json: String = caller.get(&network, "Network.Inspect", &0_u64).await;
    assert!(json.contains("\"m\""), "{json}");
    let labels = HashMap::from([("a", "b")]);
    caller.call(&network, "Network.Update", &Options::from([("AddLabels", labels.into())])).await;
    let path = caller.create("networks").await;
    caller.job(&path, "Container.Start", &(0_u64, none())).await;
    caller.call(&path, "Container.ConnectNetwork", &(&network, none())).await;
    let port = || vec![HashMap::from([("ContainerPort", Variant::from(80_u16))])];
    let published: Vec<Row> = caller.get(&path, "Container.PublishPorts", &(port(), 0_u64)).await;
    assert_eq!(published.len(), 1);
    caller.call(&path, "Container.UnpublishPorts", &(port(), 0_u64)).await;
    caller.call(&path, "Container.DisconnectNetwork", &(&network, 0_u64)).await;
    caller.job(&path, "Container.Remove", &1_u64).await;
    caller.call(&network, "Network.Remove", &0_u64).await;
}

async fn jobs(caller: &Caller<'_>) {
    for cancel in ["Job.Cancel", "Manager.CancelJob"] {
        // Nobody writes to it, so that the import waits.
        let (archive, _writes) = pipe().unwrap();
        let job: OwnedObjectPath =
            caller.get(ROOT, "Manager.ImportImage", &(fd(&archive), none())).await;
        let id: u32 = caller.client.properties(&job, "Job").await.get("Id");
        let found: OwnedObjectPath = caller.get(ROOT, "Manager.GetJob", &id).await;
        assert_eq!(found, job);
        let (listed, _): (Vec<Row>, u64) = caller.get(ROOT, "Manager.ListJobs", &none()).await;
        assert!(!listed.is_empty());
        let _log: OwnedFd = caller.get(&job, "Job.OpenLog", &0_u64).await;
        match cancel {
            "Job.Cancel" => caller.call(&job, cancel, &0_u64).await,
            _ => caller.call(ROOT, cancel, &(id, 0_u64)).await,
        };
        assert_eq!(caller.client.ended(&job).await.result, "canceled");
        caller.call(&job, "Job.Forget", &0_u64).await;
    }
}

/// The first line of a stream that goes on.
fn first_line(stream: OwnedFd) -> String {
    let mut line = String::new();
    BufReader::new(File::from(std::os::fd::OwnedFd::from(stream))).read_line(&mut line).unwrap();
    line
}
