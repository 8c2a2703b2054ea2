//! A daemon to try things on, and what it is compared with.

use std::fs;
use std::time::{Duration, Instant};

use system_tests::faults::Faults;
use system_tests::image::{file_of, least_busybox_tar};
use system_tests::world::{Change, Difference};
use system_tests::{Client, Host, Options, ROOT, Setup, Tared, World, bin};
use tokio::sync::OnceCell;

use super::operations::{Exec, Operation, Publish};

/// What goes on after an operation takes no longer than this to come to an end.
const SETTLING: Duration = Duration::from_secs(5);

/// A daemon with an image and a network that was used before, whose effects can be made to fail.
pub(crate) struct Lab<'h> {
    pub(crate) host: &'h Host,
    pub(crate) faults: Faults,
    tared: Tared,
    client: Option<Client>,
}

impl<'h> Lab<'h> {
    pub(crate) async fn new(host: &'h Host) -> Self {
        let faults = Faults::listen(host.scratch());
        let settings = host.path("tared.toml");
        fs::write(
            &settings,
            format!("[runtime]\npreferred = [{:?}]\ntrial = \"never\"\n", runtime(host).await),
        )
        .unwrap();
        let setup = Setup {
            program: bin("tared-faulty"),
            config: Some(settings),
            env: vec![faults.variable()],
            ..Setup::private(host)
        };
        let tared = Tared::with(setup);
        let client = tared.client().await;
        let options = Options::from([("Reference", "busybox".into())]);
        client.import(&file_of(&least_busybox_tar()), options).await.unwrap().done();
        let lab = Self { host, faults, tared, client: Some(client) };
        lab.use_all().await;
        lab
    }

    /// Brings about what stays after its first use: the bridge, the firewall, directories.
    async fn use_all(&self) {
        Exec.prepare(self).await;
        Publish.run(self.client()).await.unwrap();
        Exec.clear(self.client()).await;
    }

    pub(crate) fn client(&self) -> &Client {
        self.client.as_ref().expect("there is one but while the daemon is away")
    }

    /// Kills the daemon where it is, and starts the next one.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.kill();
        self.begin().await;
    }

    /// Kills the daemon where it is.
    pub(crate) fn kill(&mut self) {
        self.tared.kill9();
        self.client = None;
    }

    /// Asks the daemon to end, and does not wait for it.
    pub(crate) fn terminate(&mut self) {
        self.client = None;
        self.tared.terminate();
    }

    /// Waits for the end of a daemon that ends by itself.
    pub(crate) fn wait(&mut self) {
        self.tared.wait();
    }

    /// Ends the daemon in good order.
    pub(crate) fn end(&mut self) {
        self.client = None;
        self.tared.stop();
    }

    /// Starts the next daemon.
    pub(crate) async fn begin(&mut self) {
        self.faults.count();
        assert!(self.launch().is_ready(), "tared does not begin");
        self.client = Some(self.tared.client().await);
    }

    /// Starts the next daemon, and does not wait for it.
    pub(crate) fn launch(&mut self) -> &mut Tared {
        self.tared = Tared::begin(self.tared.setup().clone());
        &mut self.tared
    }

    pub(crate) fn world(&self) -> World {
        self.host.world()
    }

    /// What is different from `wanted`, once nothing is or enough time has passed.
    ///
    /// How a container ended does not count: that a start failed is told of it from then on, and a
    /// daemon that was not its parent cannot know which signal it got. Nor what a daemon has not
    /// opened that was started anew.
    pub(crate) async fn differences(&self, wanted: &World) -> Vec<Difference> {
        settled(|| {
            let mut differences = wanted.differences(&self.world());
            differences.retain(|it| !is_about_the_end(it) && !is_not_open(it));
            differences
        })
        .await
    }

    /// The same without what stays where no container is any more.
    pub(crate) async fn leftovers(&self, wanted: &World) -> Vec<Difference> {
        settled(|| {
            let mut left = wanted.leftovers(&self.world(), &self.host.scope());
            left.retain(|it| !is_not_open(it));
            left
        })
        .await
    }

    /// What the daemon has logged since this was last asked.
    pub(crate) fn log(&mut self) -> String {
        let path = self.tared.setup().log.clone();
        let log = fs::read_to_string(&path).unwrap_or_default();
        // It is appended to.
        fs::write(path, "").unwrap();
        log
    }
}

async fn settled(differences: impl Fn() -> Vec<Difference>) -> Vec<Difference> {
    let end = Instant::now() + SETTLING;
    loop {
        let left = differences();
        if left.is_empty() || Instant::now() > end {
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

fn without_end(row: &str) -> Vec<&str> {
    let ends = ["started_usec", "finished_usec", "exit_code", "exit_signal", "exit_reason"];
    let is_end = |field: &&str| ends.iter().any(|end| field.starts_with(end));
    row.split(' ').filter(|field| !is_end(field)).collect()
}

/// The runtime that works here: tried out once, and not at each of many starts.
async fn runtime(host: &Host) -> &'static str {
    static WORKS: OnceCell<String> = OnceCell::const_new();
    let try_out = || async {
        let setup = Setup { program: bin("tared-faulty"), ..Setup::private(host) };
        let mut tared = Tared::with(setup);
        let features: Vec<String> =
            tared.client().await.properties(ROOT, "Manager").await.get("Features");
        tared.stop();
        let is_runtime = |it: &String| ["crun", "runc"].contains(&it.as_str());
        features.into_iter().find(is_runtime).expect("a runtime works here")
    };
    WORKS.get_or_init(try_out).await
}
