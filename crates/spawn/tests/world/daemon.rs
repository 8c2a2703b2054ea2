//! A real `tare-spawn`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tare_spawn::Remote;

/// A `tare-spawn` on a socket and a run directory of a test's own.
pub(crate) struct Daemon {
    socket: PathBuf,
    run_dir: PathBuf,
    child: Child,
}

impl Daemon {
    pub(crate) fn start(socket: &Path, run_dir: &Path) -> Self {
        let child = Self::command(socket, run_dir).spawn().unwrap();
        Self { socket: socket.into(), run_dir: run_dir.into(), child }
    }

    pub(crate) fn command(socket: &Path, run_dir: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tare-spawn"));
        command.arg("--socket").arg(socket).arg("--run-dir").arg(run_dir);
        command
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::connect(&self.socket, &self.run_dir).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end.
    pub(crate) fn ask_to_end(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "tare-spawn does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn stop(&mut self) {
        self.ask_to_end();
        assert!(self.wait().success());
        assert!(!self.socket.exists(), "it takes its socket away");
    }

    /// Another one in the place of one that has ended.
    pub(crate) fn start_again(&mut self) {
        self.child = Self::command(&self.socket, &self.run_dir).spawn().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.child.try_wait().unwrap().is_none() {
            return self.stop();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
