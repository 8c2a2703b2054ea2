//! A real daemon.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::host::scope;
use crate::world::{Change, Scope, settle};
use crate::{Client, Host, World, bin, sys};

/// What a case has failed with in which the daemon had not taken something away before it was to end.
const LEFT_WHILE_IT_RUNS: &str = "the world is not as it was, and tared still runs";

/// How long a daemon may take to be ready, or to end.
const TIMEOUT: Duration = Duration::from_secs(70);

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The program: `tared`, or one that is like it.
    pub program: PathBuf,
    /// `--bus`.
    pub bus: String,
    /// `--state`.
    pub state: PathBuf,
    /// `--runtime`.
    pub runtime: PathBuf,
    /// `--config`, if it is given one.
    pub config: Option<PathBuf>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
    /// Where what it logs is appended.
    pub log: PathBuf,
    /// The directory of its test, which all that it leaves bears in its name.
    pub scratch: PathBuf,
}

impl Setup {
    /// A private bus, and directories in the scratch directory of `host`.
    pub fn private(host: &Host) -> Self {
        Self {
            program: bin("tared"),
            bus: "private".into(),
            state: host.path("s"),
            runtime: host.path("r"),
            config: None,
            env: Vec::new(),
            log: host.path("tared.log"),
            scratch: host.scratch().into(),
        }
    }

    /// Where everything of it is; beside it a test may have what it likes.
    fn scope(&self) -> Scope {
        let mut scope = scope(&self.scratch);
        scope.directories = vec![self.state.clone(), self.runtime.clone(), "/run".into()];
        scope
    }

    /// The command that starts it; what it logs is appended to a file.
    pub fn command(&self) -> Command {
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--bus={}", self.bus))
            .arg("--state")
            .arg(&self.state)
            .arg("--runtime")
            .arg(&self.runtime)
            .args(self.config.iter().flat_map(|file| ["--config".as_ref(), file.as_os_str()]))
            .env_remove("SUDO_UID")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        sys::inherit_nothing(&mut command);
        command
    }
}

/// A running daemon, or one that was killed and can be started again.
#[derive(Debug)]
pub struct Tared {
    setup: Setup,
    child: Child,
    lines: Receiver<String>,
    address: String,
    /// Whether there was one before it, which has left its state.
    follows: bool,
    /// The world when it had just begun.
    fresh: Option<World>,
}

impl Tared {
    /// Starts one on a private bus.
    ///
    /// # Panics
    ///
    /// If it is not ready in time.
    pub fn start(host: &Host) -> Self {
        Self::with(Setup::private(host))
    }

    /// Starts one on a private bus with a setup of the caller's.
    pub fn with(setup: Setup) -> Self {
        let command = setup.command();
        Self::ready(Self::launch(setup, command))
    }

    fn ready(mut tared: Self) -> Self {
        assert!(tared.is_ready(), "tared does not say where its bus is");
        tared
    }

    /// The same, as a shell starts a job: in a process group of its own.
    pub fn in_a_group(setup: Setup) -> Self {
        let mut command = setup.command();
        command.process_group(0);
        Self::ready(Self::launch(setup, command))
    }

    /// Starts one on a bus that is there, and does not wait for it.
    pub fn on(address: &str, setup: Setup) -> Self {
        let command = setup.command();
        let mut tared = Self::launch(setup, command);
        tared.address = address.into();
        tared
    }

    /// Starts one on a private bus, and does not wait for it.
    pub fn begin(setup: Setup) -> Self {
        let command = setup.command();
        Self::launch(setup, command)
    }

    /// Waits until it says where its bus is; whether it did, and did not end before.
    pub fn is_ready(&mut self) -> bool {
        self.lines.recv_timeout(TIMEOUT).is_ok_and(|line| {
            self.address = line;
            self.fresh = Some(World::capture(&self.setup.scope()));
            true
        })
    }

    fn launch(setup: Setup, mut command: Command) -> Self {
        let follows = setup.state.join("state.db").exists();
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { setup, child, lines, address: String::new(), follows, fresh: None }
    }

    /// The address of its bus.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A connection to it, by root.
    pub async fn client(&self) -> Client {
        Client::connect(&self.address).await
    }

    /// Kills it as the kernel would, between any two instructions.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9), "it had ended before");
    }

    /// Starts it again on the same directories, after it was killed or stopped.
    #[must_use]
    pub fn restart(self) -> Self {
        Self::with(self.setup.clone())
    }

    /// Asks it to end as a service manager would, and does not wait for that.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Ends it as a service manager would.
    ///
    /// # Panics
    ///
    /// If something is there that should have gone before it, if it does not end cleanly, or has said
    /// more on standard output than it should.
    pub fn stop(&mut self) {
        self.leaves_nothing_while_it_runs();
        self.terminate();
        let status = self.wait();
        assert!(status.success(), "tared ended with {status}");
        let more: Vec<String> = self.lines.try_iter().collect();
        assert_eq!(more, Vec::<String>::new(), "more than an address on standard output");
    }

    /// Compares the world with what it was when this had just begun: with the daemon much would go that
    /// it has forgotten, and that would be found by nobody.
    ///
    /// Not where containers are to outlive it: those who stop the next one compare. Nor beside another
    /// daemon, nor of one on a bus that was there before, which says nothing of when it begins: they are
    /// compared after their end alone.
    fn leaves_nothing_while_it_runs(&mut self) {
        let scope = || self.setup.scope();
        let Some(fresh) = self.fresh.take() else { return };
        let now = World::capture(&scope());
        if now.has_container() || (fresh.daemons(), now.daemons()) != (1, 1) {
            return;
        }
        let (follows, had_containers) = (self.follows, fresh.has_container());
        settle(LEFT_WHILE_IT_RUNS, || {
            let mut left = fresh.leftovers_of_running(&World::capture(&scope()), &scope());
            left.retain(|it| match it.change {
                Change::New(_) => true,
                // What an earlier one has made may be removed and changed; and what a test has
                // started beside it may end.
                Change::Gone(_) => !(follows || had_containers || it.kind == "process"),
                Change::Changed { .. } => !(follows && it.kind == "row"),
            });
            left
        });
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "tared does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.setup.log).unwrap_or_default()
    }
}

impl Drop for Tared {
    #[expect(clippy::print_stderr, reason = "why a test failed, shown with its failure")]
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let fate = ended.map(|status| format!("had ended with {status}"));
            let fate = fate.unwrap_or_else(|| "was running".into());
            eprintln!("tared {fate}; it logged:\n{}", self.log());
        }
    }
}
