//! Where a daemon runs whose effects can be made to fail.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use system_tests::world::Scope;
use system_tests::{Host, Setup, Tared, World};

use crate::helper::Helper;

/// A daemon and the programs it needs, as a test handles them.
pub(crate) trait Daemon: fmt::Debug {
    /// Where it keeps what stays.
    fn state_dir(&self) -> PathBuf;

    /// Where it keeps what dies with the boot.
    fn run_dir(&self) -> PathBuf;

    /// Where everything of it is.
    fn scope(&self) -> Scope;

    /// The address of its bus.
    fn address(&self) -> String;

    /// Starts it, and does not wait for that.
    fn launch(&mut self);

    /// Waits until it serves, or has ended; whether it serves.
    fn is_ready(&mut self) -> bool;

    /// Kills it where it is.
    fn kill(&mut self);

    /// Kills a program that does something for it, where that is one of its own; it is started again by
    /// itself.
    fn kill_helper(&self, helper: Helper);

    /// Asks it to end, and does not wait for that.
    fn terminate(&mut self);

    /// Waits for its end.
    fn wait(&mut self);

    /// Ends it in good order.
    fn stop(&mut self);

    /// What was logged since this was last asked.
    fn log(&mut self) -> String;
}

/// A daemon on the scratch host of a test, on a bus of its own, which starts programs itself.
#[derive(Debug)]
pub(crate) struct Private<'h> {
    host: &'h Host,
    tared: Tared,
}

impl<'h> Private<'h> {
    pub(crate) fn start(host: &'h Host, setup: Setup) -> Self {
        Self { host, tared: Tared::with(setup) }
    }
}

impl Daemon for Private<'_> {
    fn state_dir(&self) -> PathBuf {
        self.tared.setup().state.clone()
    }

    fn run_dir(&self) -> PathBuf {
        self.tared.setup().runtime.clone()
    }

    fn scope(&self) -> Scope {
        self.host.scope()
    }

    fn address(&self) -> String {
        self.tared.address().into()
    }

    fn launch(&mut self) {
        self.tared = Tared::begin(self.tared.setup().clone());
    }

    fn is_ready(&mut self) -> bool {
        self.tared.is_ready()
    }

    fn kill(&mut self) {
        self.tared.kill9();
    }

    /// That is the daemon itself.
    fn kill_helper(&self, _helper: Helper) {}

    fn terminate(&mut self) {
        self.tared.terminate();
    }

    fn wait(&mut self) {
        self.tared.wait();
    }

    fn stop(&mut self) {
        self.tared.stop();
    }

    fn log(&mut self) -> String {
        let path = self.tared.setup().log.clone();
        let log = fs::read_to_string(&path).unwrap_or_default();
        // It is appended to.
        fs::write(path, "").unwrap();
        log
    }
}

/// Everything containers can leave behind, where a daemon is.
pub(crate) fn world(daemon: &dyn Daemon) -> World {
    World::capture(&daemon.scope())
}
