//! Who gets through to the service, and on which bus.

use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use system_tests::image::{busybox_tar, file_of};
use system_tests::world::Change;
use system_tests::{
    Client, Host, Options, ROOT, Refused, Setup, Tared, as_user, on_scratch_host, run,
};
use zbus::{Fd, OwnedObjectPath, Variant};

use super::started;

const NOBODY: u32 = 65534;
const DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";

/// `busctl`, as a user who is neither root nor the one who started the daemon.
fn busctl_as_nobody(address: &str) -> Output {
    Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "busctl"])
        .arg(format!("--address={address}"))
        .args(["call", "org.tare.Containers1", ROOT, "org.tare.Containers1.Manager"])
        .args(["ListContainers", "a{sv}", "0"])
        .output()
        .unwrap()
}

#[test]
fn privileged_nobody_else_gets_on_a_private_bus() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let output = busctl_as_nobody(tared.address());
        assert!(!output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"");
        tared.stop();
    });
}

#[test]
fn privileged_the_invoker_may_look_and_not_touch() {
    on_scratch_host(async |host| {
        let mut setup = Setup::private(host);
        setup.env.push(("SUDO_UID".into(), NOBODY.to_string()));
        let mut tared = Tared::with(setup);
        let root = tared.client().await;
        let image = root.import_busybox().await;
        let path = started(&root, "c", "sleep 1000").await;
        let before = root.container(&path).await;

        let output = busctl_as_nobody(tared.address());
        assert!(output.status.success(), "{output:?}");
        let address = tared.address().to_string();
        as_user(NOBODY, async || {
            let client = Client::connect(&address).await;
            looks(&client, &path).await;
            for (call, refused) in touches(&client, &path).await {
                assert_eq!(refused.unwrap_err().name, DENIED, "{call}");
            }
        });
        assert_eq!(root.container(&path).await.0, before.0, "nothing happened");
        assert_eq!(root.list("ListContainers").await.len(), 1);
        assert_eq!(
            root.properties(&image, "Image").await.get::<Vec<String>>("References").len(),
            1
        );
        root.remove(&path).await.done();
        tared.stop();
    });
}

async fn looks(client: &Client, path: &OwnedObjectPath) {
    assert_eq!(client.list("ListContainers").await.len(), 1);
    assert_eq!(client.list("ListImages").await.len(), 1);
    assert_eq!(client.list("ListJobs").await.len(), 2);
    let found: OwnedObjectPath = client.manager("GetContainer", &"c").await.unwrap();
    assert_eq!(found, *path);
    let container = client.container(path).await;
    assert_eq!(container.text("State"), "running");
    for secret in ["Env", "Command", "Labels", "Mounts"] {
        assert!(!container.has(secret), "{secret} is not for everybody");
    }
}

fn done<T>(result: Result<T, Refused>) -> Result<(), Refused> {
    result.map(drop)
}

/// Every call that changes something or reads what is not public.
async fn touches(
    client: &Client,
    path: &OwnedObjectPath,
) -> Vec<(&'static str, Result<(), Refused>)> {
    let none = Options::new;
    let archive = file_of(busybox_tar());
    vec![
        ("create", done(client.create_with("d", none()).await)),
        (
            "create of nothing",
            done(
                client
                    .manager::<_, OwnedObjectPath>(
                        "CreateContainer",
                        &("d", "no-such-image", none()),
                    )
                    .await,
            ),
        ),
        ("create privileged", done(client.create_with("d", options("NetworkMode", "host")).await)),
        (
            "import",
            done(client.call(ROOT, "Manager", "ImportImage", &(Fd::from(&archive), none())).await),
        ),
        ("start", done(client.call(path, "Container", "Start", &(0_u64, none())).await)),
        ("stop", done(client.call(path, "Container", "Stop", &(0_u64, 0_u64)).await)),
        ("kill", done(client.call(path, "Container", "Kill", &("init", 9_i32, 0_u64)).await)),
        ("remove", done(client.call(path, "Container", "Remove", &1_u64).await)),
        ("exec", done(client.exec_argv(path, &["true"], none(), b"").await)),
        ("logs", done(client.call(path, "Container", "OpenLogs", &none()).await)),
        ("cancel", done(client.call(ROOT, "Manager", "CancelJob", &(1_u32, 0_u64)).await)),
        ("job log", done(client.call(&format!("{ROOT}/job/_1"), "Job", "OpenLog", &0_u64).await)),
        ("forget", done(client.call(&format!("{ROOT}/job/_1"), "Job", "Forget", &0_u64).await)),
        ("log level", set_log_level(client).await),
    ]
}

fn options<'a>(key: &'a str, value: &'a str) -> Options<'a> {
    Options::from([(key, value.into())])
}

async fn set_log_level(client: &Client) -> Result<(), Refused> {
    let body = ("org.freedesktop.LogControl1", "LogLevel", Variant::from("debug"));
    let path = "/org/freedesktop/LogControl1";
    client.call(path, "org.freedesktop.DBus.Properties", "Set", &body).await.map(drop)
}

/// A bus that was there before the daemon; ends with the test.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    fn start(host: &Host) -> Self {
        let address = format!("unix:path={}", host.path("bus-of-others").display());
        let daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile"])
            .arg(format!("--address={address}"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while UnixStream::connect(host.path("bus-of-others")).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { daemon, address }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

async fn serves(bus: &Bus, setup: Setup) {
    let mut tared = Tared::on(&bus.address, setup);
    let client = tared.client().await;
    is_there(&client).await;
    client.import_busybox().await;
    let path = started(&client, "c", "exit 7").await;
    assert_eq!(client.exit(&path).await.code, 7);
    client.remove(&path).await.done();
    tared.stop();
    assert!(!client.is_there().await, "the name is given back");
}

#[test]
fn privileged_a_bus_given_by_address_serves() {
    on_scratch_host(async |host| {
        let bus = Bus::start(host);
        serves(&bus, Setup { bus: bus.address.clone(), ..Setup::private(host) }).await;
    });
}

#[test]
fn privileged_the_session_bus_serves() {
    on_scratch_host(async |host| {
        let bus = Bus::start(host);
        let env = vec![("DBUS_SESSION_BUS_ADDRESS".into(), bus.address.clone())];
        serves(&bus, Setup { bus: "session".into(), env, ..Setup::private(host) }).await;
    });
}

#[test]
fn privileged_the_end_of_the_bus_is_the_end_of_the_daemon() {
    on_scratch_host(async |host| {
        let bus = Bus::start(host);
        let setup = Setup { bus: bus.address.clone(), ..Setup::private(host) };
        let mut tared = Tared::on(&bus.address, setup);
        let before = host.world();
        let client = tared.client().await;
        is_there(&client).await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        client.remove(&path).await.done();
        drop(client);
        drop(bus);
        assert!(!tared.wait().success(), "it fails, so that it is started again");
        assert!(tared.log().contains("the bus went away"), "{}", tared.log());
        let mut left = before.leftovers(&host.world(), &host.scope());
        left.retain(|it| !matches!(it.change, Change::Gone(_)));
        assert!(
            left.iter().all(|it| it.name.contains("dbus-daemon")),
            "bridge, table and groups go as at any end: {left:#?}"
        );
    });
}

/// What a terminal or a shell sends, it sends to a whole group.
#[test]
fn privileged_a_signal_to_the_whole_group_is_a_clean_end() {
    on_scratch_host(async |host| {
        let mut tared = Tared::in_a_group(Setup::private(host));
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        client.remove(&path).await.done();
        let group = Pid::from_raw(i32::try_from(tared.pid()).unwrap()).unwrap();
        kill_process_group(group, Signal::TERM).unwrap();
        assert!(tared.wait().success(), "{}", tared.log());
    });
}

/// Spaces, and all that means something in an address or in XML.
#[test]
fn privileged_directories_may_have_unusual_names() {
    on_scratch_host(async |host| {
        let odd = "a b,c=d;e%f<&>'g";
        let mut tared = Tared::with(Setup {
            state: host.path(&format!("s {odd}")),
            runtime: host.path(&format!("r {odd}")),
            ..Setup::private(host)
        });
        let address = format!("--address={}", tared.address());
        let manager = "org.tare.Containers1.Manager";
        let listed = run(
            "busctl",
            &[
                &address,
                "call",
                "org.tare.Containers1",
                ROOT,
                manager,
                "ListContainers",
                "a{sv}",
                "0",
            ],
        );
        assert_eq!(listed.split(' ').next(), Some("aa{sv}t"), "{listed}");
        tared.stop();
    });
}

#[test]
fn privileged_one_bus_has_one_daemon() {
    on_scratch_host(async |host| {
        let bus = Bus::start(host);
        let setup = Setup { bus: bus.address.clone(), ..Setup::private(host) };
        let mut tared = Tared::on(&bus.address, setup.clone());
        let client = tared.client().await;
        is_there(&client).await;
        let second = Setup { state: host.path("s2"), runtime: host.path("r2"), ..setup };
        let output = second.command().stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("org.tare.Containers1"), "it names the name: {said}");
        assert!(client.is_there().await, "the first keeps it");
        tared.stop();
        Tared::with(Setup { bus: "private".into(), ..second }).stop();
    });
}

async fn is_there(client: &Client) {
    while !client.is_there().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
