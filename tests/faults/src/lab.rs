//! A daemon to try things on, and what it is compared with.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use system_tests::faults::Faults;
use system_tests::image::{file_of, least_busybox_tar};
use system_tests::world::{Change, Difference};
use system_tests::{Client, Host, Options, ROOT, SYSTEM_BUS, Setup, Tared, World, bin};
use tokio::sync::OnceCell;
use zbus::OwnedObjectPath;

use crate::daemon::{Daemon, Private, world};
use crate::helper::Helper;
use crate::installed::Installed;
use crate::operations::ask_for_what_stays;

/// What goes on after an operation takes no longer than this to come to an end.
const SETTLING: Duration = Duration::from_secs(5);
/// What is the same after this is not about to change.
const AT_REST: Duration = Duration::from_millis(300);

/// A daemon with an image and a network that was used before, whose effects can be made to fail.
#[derive(Debug)]
pub struct Lab<'h> {
    /// Answers before each effect.
    pub faults: Faults,
    daemon: Box<dyn Daemon + 'h>,
    client: Option<Client>,
}

impl<'h> Lab<'h> {
    /// One on the scratch host of a test.
    pub async fn new(host: &'h Host) -> Self {
        Self::with(host, []).await
    }

    /// The same, with more in the environment of the daemon.
    pub async fn with(host: &'h Host, more: impl IntoIterator<Item = (String, String)>) -> Self {
        let faults = Faults::listen(host.scratch());
        let file = host.path("tared.toml");
        fs::write(&file, settings(runtime(host).await)).unwrap();
        let setup = Setup {
            program: bin("tared-faulty"),
            config: Some(file),
            env: more.into_iter().chain([faults.variable()]).collect(),
            ..Setup::private(host)
        };
        Self::on(faults, Box::new(Private::start(host, setup))).await
    }

    /// Brings about what stays after its first use: an image, the bridge, the firewall, directories.
    async fn on(faults: Faults, daemon: Box<dyn Daemon + 'h>) -> Self {
        let client = Client::connect(&daemon.address()).await;
        if client.manager::<_, OwnedObjectPath>("GetImage", &"busybox").await.is_err() {
            let options = Options::from([("Reference", "busybox".into())]);
            client.import(&file_of(&least_busybox_tar()), options).await.unwrap().done();
        }
        let lab = Self { faults, daemon, client: Some(client) };
        ask_for_what_stays(&lab).await;
        lab
    }

    /// Where the daemon keeps what stays.
    pub fn state_dir(&self) -> PathBuf {
        self.daemon.state_dir()
    }

    /// Where it keeps what dies with the boot.
    pub fn run_dir(&self) -> PathBuf {
        self.daemon.run_dir()
    }

    /// A connection to the daemon.
    pub fn client(&self) -> &Client {
        self.client.as_ref().expect("there is one but while the daemon is away")
    }

    /// Kills the daemon where it is, and starts the next one.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.begin().await;
    }

    /// Kills the daemon where it is.
    pub fn kill(&mut self) {
        self.daemon.kill();
        self.client = None;
    }

    /// Kills a program that does something for it, where that is one of its own; it is started again by
    /// itself.
    pub fn kill_helper(&self, helper: Helper) {
        self.daemon.kill_helper(helper);
    }

    /// Asks the daemon to end, and does not wait for it.
    pub fn terminate(&mut self) {
        self.client = None;
        self.daemon.terminate();
    }

    /// Waits for the end of a daemon that ends by itself.
    pub fn wait(&mut self) {
        self.daemon.wait();
    }

    /// Ends the daemon in good order.
    pub fn end(&mut self) {
        self.client = None;
        self.daemon.stop();
    }

    /// Starts the next daemon.
    pub async fn begin(&mut self) {
        self.faults.count();
        self.launch();
        assert!(self.is_ready(), "tared does not begin");
        self.client = Some(Client::connect(&self.daemon.address()).await);
    }

    /// Starts the next daemon, and does not wait for it.
    pub fn launch(&mut self) {
        self.daemon.launch();
    }

    /// Waits until it serves, or has ended; whether it serves.
    pub fn is_ready(&mut self) -> bool {
        self.daemon.is_ready()
    }

    /// Everything containers can leave behind, as it is now.
    pub fn world(&self) -> World {
        world(&*self.daemon)
    }

    /// What is different from `wanted`, once nothing is or enough time has passed.
    ///
    /// How a container ended does not count: that a start failed is told of it from then on, and a
    /// daemon that was not its parent cannot know which signal it got. Nor what a daemon has not
    /// opened that was started anew.
    pub async fn differences(&self, wanted: &World) -> Vec<Difference> {
        self.differences_that_may_last(wanted, |_| false).await
    }

    /// The same; what may last is not waited for, once it stays as it is.
    pub async fn differences_that_may_last(
        &self,
        wanted: &World,
        may_last: impl Fn(&[Difference]) -> bool,
    ) -> Vec<Difference> {
        let left = settled(|| self.differences_now(wanted), &may_last).await;
        if may_last(&left) { self.lasting_differences(wanted).await } else { left }
    }

    fn differences_now(&self, wanted: &World) -> Vec<Difference> {
        let mut differences = wanted.differences(&self.world());
        differences.retain(|it| !is_about_the_end(it) && !is_not_open(it));
        differences
    }

    /// The same once they stay the same, where there are to be some.
    pub async fn lasting_differences(&self, wanted: &World) -> Vec<Difference> {
        let mut before = self.differences_now(wanted);
        loop {
            tokio::time::sleep(AT_REST).await;
            let now = self.differences_now(wanted);
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// The same without what stays where no container is any more.
    pub async fn leftovers(&self, wanted: &World) -> Vec<Difference> {
        let now = || {
            let mut left = wanted.leftovers(&self.world(), &self.daemon.scope());
            left.retain(|it| !is_not_open(it));
            left
        };
        settled(now, |_| false).await
    }

    /// What the daemon has logged since this was last asked.
    pub fn log(&mut self) -> String {
        self.daemon.log()
    }
}

impl Lab<'static> {
    /// The installed service of a lab system, with `tare-spawn` and systemd.
    pub async fn of_installed_service() -> Self {
        let manager = Client::connect(SYSTEM_BUS).await;
        let runtime = works(&manager).await;
        drop(manager);
        let faults = Faults::listen(&Installed::socket_dir());
        let installed = Box::new(Installed::start(&faults, &settings(&runtime)));
        Self::on(faults, installed).await
    }
}

/// Containers are made with that runtime, which is not tried out at each of many starts.
fn settings(runtime: &str) -> String {
    format!("[runtime]\npreferred = [{runtime:?}]\ntrial = \"never\"\n")
}

/// The runtime that a daemon has found to work.
async fn works(client: &Client) -> String {
    let features: Vec<String> = client.properties(ROOT, "Manager").await.get("Features");
    let is_runtime = |it: &String| ["crun", "runc"].contains(&it.as_str());
    features.into_iter().find(is_runtime).expect("a runtime works here")
}

/// What is left once that is nothing, or all of it may be, or enough time has passed.
async fn settled(
    differences: impl Fn() -> Vec<Difference>,
    may_be: impl Fn(&[Difference]) -> bool,
) -> Vec<Difference> {
    let end = Instant::now() + SETTLING;
    loop {
        let left = differences();
        if left.is_empty() || may_be(&left) || Instant::now() > end {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_about_the_end(difference: &Difference) -> bool {
    let row = difference.kind == "row" && difference.name.contains("state.db containers ");
    match &difference.change {
        Change::Changed { before, after } if row => without_end(before) == without_end(after),
        _ => false,
    }
}

fn is_not_open(difference: &Difference) -> bool {
    difference.kind == "descriptor" && matches!(difference.change, Change::Gone(_))
}

/// Whoever is killed before it could write that down did not say that it shall end, either.
fn without_end(row: &str) -> Vec<&str> {
    let ends =
        ["started_usec", "finished_usec", "exit_code", "exit_signal", "exit_reason", "asked"];
    let is_end = |field: &&str| ends.iter().any(|end| field.starts_with(end));
    row.split(' ').filter(|field| !is_end(field)).collect()
}

/// The runtime that works here: tried out once, and not at each of many starts.
async fn runtime(host: &Host) -> &'static str {
    static WORKS: OnceCell<String> = OnceCell::const_new();
    let try_out = || async {
        let setup = Setup { program: bin("tared-faulty"), ..Setup::private(host) };
        let mut tared = Tared::with(setup);
        let works = works(&tared.client().await).await;
        tared.stop();
        works
    };
    WORKS.get_or_init(try_out).await
}
