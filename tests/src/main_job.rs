//! The main job: one container's whole life, over whatever bus, on whatever host.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use zbus::message::{Message, Sequence};
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use crate::{Client, ERROR, Options, Properties, RESOLV_CONF, ROOT, signal};

/// Runs until it is asked to end, and then ends with 7.
const SCRIPT: &str =
    "trap 'echo bye; exit 7' TERM; echo hello; echo oops >&2; while :; do sleep 0.05; done";

/// Imports an image, runs a container of it, looks at it from all sides, and takes it away.
///
/// The host's `resolv.conf` is [`RESOLV_CONF`](crate::RESOLV_CONF).
///
/// # Panics
///
/// If anything is not as it should be.
pub async fn main_job(client: &Client) {
    let image = import(client).await;
    let web = create(client, &image).await;
    start(client, &web).await;
    exec(client, &web).await;
    logs_and_stop(client, &web).await;
    remove(client, &web).await;
}

async fn import(client: &Client) -> OwnedObjectPath {
    let image = client.import_busybox().await;
    let properties = client.properties(&image, "Image").await;
    assert_eq!(properties.get::<Vec<String>>("References"), ["localhost/busybox:latest"]);
    assert_eq!(properties.get::<u32>("NLayers"), 1);
    assert!(properties.get::<u64>("Size") > 500_000, "{properties:?}");
    image
}

/// Bytes in their order: the new object is told of before the call that made it returns.
async fn create(client: &Client, image: &OwnedObjectPath) -> OwnedObjectPath {
    let options = Options::from([
        ("Command", vec!["sh", "-c", SCRIPT].into()),
        ("Labels", HashMap::from([("org.tare.public.of", "test"), ("secret", "x")]).into()),
    ]);
    let body = ("web", "busybox", options);
    let reply = client.call(ROOT, "Manager", "CreateContainer", &body).await.unwrap();
    let web: OwnedObjectPath = reply.body().deserialize().unwrap();
    let added = position(client, |message| interfaces_added(message, &web)).await;
    assert!(added < reply.recv_position(), "InterfacesAdded comes before the reply");

    let properties = client.container(&web).await;
    assert_eq!(properties.text("State"), "configured");
    let image = image.as_str().rsplit('/').next().unwrap().replacen('_', ":", 1);
    assert_eq!(properties.text("ImageId"), image);
    let labels: HashMap<String, String> = properties.get("PublicLabels");
    assert_eq!(labels, HashMap::from([("org.tare.public.of".into(), "test".into())]));
    web
}

async fn start(client: &Client, web: &OwnedObjectPath) {
    let body = (0_u64, Options::new());
    let reply = client.call(web, "Container", "Start", &body).await.unwrap();
    let job: OwnedObjectPath = reply.body().deserialize().unwrap();
    let ended = client.ended(&job).await;
    ended.done();
    assert_eq!((ended.kind.as_str(), &ended.object), ("start-container", web));
    let new = position(client, |message| job_signal(message, "JobNew", &job)).await;
    let removed = position(client, |message| job_signal(message, "JobRemoved", &job)).await;
    assert!(new < reply.recv_position(), "JobNew comes before the reply");
    assert!(reply.recv_position() < removed, "JobRemoved comes after the reply");
    assert_eq!(states(client, web), ["starting", "running"]);
    let change = changes(client, web).into_iter().find(|it| it.has("PID")).unwrap();
    for together in ["State", "IPAddresses", "CGroupPath", "StartedTimestamp"] {
        assert!(change.has(together), "{together} changes with PID: {change:?}");
    }
    let container = client.container(web).await;
    let seen = tokio::time::timeout(Duration::from_secs(10), seen_from_outside(&container));
    seen.await.expect("the first process becomes the program");
    seen_from_inside(client, web).await;
}

async fn seen_from_outside(properties: &Properties) {
    let pid: u32 = properties.get("PID");
    let of_process = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    // The runtime lets the first process go, and does not wait until it is the program.
    while !of_process("cmdline").contains("trap") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let group = format!("0::{}/payload\n", properties.text("CGroupPath"));
    assert!(of_process("cgroup").ends_with(&group), "{} {group}", of_process("cgroup"));
}

/// What a container's `resolv.conf` says: its network's server, which asks those of the host, and the
/// domain of containers before those of the host.
fn resolvers(server: &str) -> String {
    let of_host = RESOLV_CONF.lines().find_map(|line| line.strip_prefix("search ")).unwrap();
    format!("search tare.internal {of_host}\nnameserver {server}\n")
}

async fn seen_from_inside(client: &Client, web: &OwnedObjectPath) {
    let id = web.as_str().rsplit('/').next().unwrap();
    let address = address(client, web).await;
    let (ip, _) = address["Address"].split_once('/').unwrap();
    let gateway = &address["Gateway"];
    for (script, wanted) in [
        ("hostname", format!("{}\n", &id[..12])),
        ("cat /etc/hostname", format!("{}\n", &id[..12])),
        ("grep -v '^#' /etc/resolv.conf", resolvers(gateway)),
        ("nslookup web. | grep '^Address: '", format!("Address: {ip}\n")),
        ("test -e /run/.containerenv && echo there", "there\n".into()),
        ("grep -c ' /dev/shm tmpfs ' /proc/mounts", "1\n".into()),
        ("grep -c '^[^ ]* / overlay ' /proc/mounts", "1\n".into()),
        (
            "ip route | grep -o 'default via [^ ]* dev eth0'",
            format!("default via {gateway} dev eth0\n"),
        ),
        ("cat /sys/class/net/eth0/address", format!("{}\n", address["MAC"])),
        // The set of podman and containerd, without what this machine may not give.
        ("grep CapEff /proc/self/status", "CapEff:\t00000000800405fb\n".into()),
        ("grep CapBnd /proc/self/status", "CapBnd:\t00000000800405fb\n".into()),
        ("grep ^Seccomp: /proc/self/status", "Seccomp:\t2\n".into()),
        ("wc -c < /proc/keys", "0\n".into()),
        ("ls /proc/acpi /sys/firmware | grep -vc :", "1\n".into()),
        ("echo x 2>/dev/null > /proc/sys/kernel/domainname || echo no", "no\n".into()),
        ("ls /proc | grep -c '^[0-9]*$' | xargs test 9 -gt && echo few", "few\n".into()),
    ] {
        let got = client.exec(web, script).await;
        assert_eq!(got.stdout, wanted, "{script}: {got:?}");
    }
    let inside = client.exec(web, "ip -o -4 addr show eth0").await.stdout;
    assert!(inside.contains(&address["Address"]), "{address:?} {inside}");
    let hosts = client.exec(web, "cat /etc/hosts").await.stdout;
    let has = |ip: &str, name: &str| {
        hosts.lines().any(|line| line.starts_with(ip) && line.split_whitespace().any(|w| w == name))
    };
    assert!(has(ip, "web") && has(ip, &id[..12]) && has("127.0.0.1", "localhost"), "{hosts}");
}

async fn exec(client: &Client, web: &OwnedObjectPath) {
    let argv = ["sh", "-c", "cat; echo $ADDED; pwd; id -un; echo err >&2; exit 9"];
    let options = Options::from([
        ("Env", vec!["ADDED=by exec"].into()),
        ("WorkingDir", "/tmp".into()),
        ("User", "www".into()),
    ]);
    let executed = client.exec_argv(web, &argv, options, b"from outside\n").await.unwrap();
    assert_eq!(executed.stdout, "from outside\nby exec\n/tmp\nwww\n", "{executed:?}");
    assert_eq!((executed.stderr.as_str(), executed.code), ("err\n", 9));

    let process = client.properties(&executed.process, "Process").await;
    assert_eq!(process.text("State"), "exited");
    assert_eq!(process.get::<i32>("ExitCode"), 9);
    assert_eq!(process.get::<OwnedObjectPath>("Container"), *web);
    assert!(client.container(web).await.paths("Processes").contains(&executed.process));
}

async fn logs_and_stop(client: &Client, web: &OwnedObjectPath) {
    let present = lines(&client.logs(web, Options::new()).await);
    assert_eq!(present, [("stdout".into(), "hello".into()), ("stderr".into(), "oops".into())]);

    let follow = Options::from([("Follow", true.into()), ("Streams", vec!["stdout"].into())]);
    let (followed, ended) = tokio::join!(client.logs(web, follow), client.stop(web));
    ended.done();
    let stdout = |text: &str| ("stdout".to_string(), text.to_string());
    assert_eq!(lines(&followed), [stdout("hello"), stdout("bye")]);

    let exit = client.exit(web).await;
    assert_eq!((exit.code, exit.signal, exit.reason.as_str()), (7, 0, "exited"));
    let properties = client.container(web).await;
    assert_eq!(properties.get::<i32>("ExitCode"), 7);
    assert_eq!(properties.get::<u32>("PID"), 0);
    assert_eq!(properties.get::<Vec<Variant<'_>>>("IPAddresses"), []);
    assert_eq!(states(client, web), ["starting", "running", "stopping", "exited"]);
    let all = lines(&client.logs(web, Options::from([("Tail", 1_u32.into())])).await);
    assert_eq!(all, [stdout("bye")], "the log outlives the container");
}

async fn remove(client: &Client, web: &OwnedObjectPath) {
    client.remove(web).await.done();
    let gone: Vec<String> = client
        .until("InterfacesRemoved", |message| {
            let (path, interfaces) =
                signal::<(OwnedObjectPath, Vec<String>)>(message, ROOT, "InterfacesRemoved")?;
            (path == *web).then_some(interfaces)
        })
        .await;
    assert_eq!(gone, ["org.tare.Containers1.Container"]);
    let error = client.manager::<_, OwnedObjectPath>("GetContainer", &"web").await.unwrap_err();
    assert_eq!(error.name, format!("{ERROR}.NoSuchContainer"));
    assert_eq!(client.list("ListContainers").await.len(), 0);
}

/// Stream and text of the lines of a log.
///
/// # Panics
///
/// If they are not such lines.
pub fn lines(log: &str) -> Vec<(String, String)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_string();
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .inspect(|line| assert!(line["t"].as_u64().is_some_and(|t| t > 0), "{line}"))
        .map(|line| (text(&line, "stream"), text(&line, "msg")))
        .collect()
}

/// The one address of a container, without its network.
///
/// # Panics
///
/// If it has none, or more.
pub async fn address(client: &Client, path: &OwnedObjectPath) -> HashMap<String, String> {
    let addresses: Vec<HashMap<String, Variant<'static>>> =
        client.container(path).await.get::<Vec<_>>("IPAddresses");
    let [address] = addresses.try_into().unwrap();
    let text = |value: Variant<'static>| String::try_from(value).unwrap();
    let texts = address.into_iter().filter(|(key, _)| key != "Network");
    texts.map(|(key, value)| (key, text(value))).collect()
}

/// What `PropertiesChanged` has told of a container, in order.
///
/// # Panics
///
/// If another thread has panicked.
pub fn changes(client: &Client, path: &str) -> Vec<Properties> {
    type Changed = (String, HashMap<String, OwnedVariant>, Vec<String>);
    let messages = client.messages();
    let told = messages.iter().filter_map(|it| signal::<Changed>(it, path, "PropertiesChanged"));
    told.map(|(_, changed, _)| Properties(changed)).collect()
}

fn states(client: &Client, path: &str) -> Vec<String> {
    let changes = changes(client, path);
    changes.iter().filter(|it| it.has("State")).map(|it| it.text("State")).collect()
}

async fn position(client: &Client, fits: impl Fn(&Message) -> bool) -> Sequence {
    client.until("a signal", |message| fits(message).then(|| message.recv_position())).await
}

fn interfaces_added(message: &Message, path: &OwnedObjectPath) -> bool {
    type Added = (OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>);
    signal::<Added>(message, ROOT, "InterfacesAdded").is_some_and(|(added, _)| added == *path)
}

fn job_signal(message: &Message, member: &str, job: &OwnedObjectPath) -> bool {
    let header = message.header();
    header.member().is_some_and(|it| it.as_str() == member)
        && message
            .body()
            .deserialize_ignore_signature::<(u32, OwnedObjectPath)>()
            .is_ok_and(|(_, path)| path == *job)
}
