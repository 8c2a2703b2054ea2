//! The installed service of a lab system, with programs in the place of its own that ask before every
//! effect: `tared` in its sandbox, `tare-names` in a narrower one, and `tare-spawn` without any.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use system_tests::faults::Faults;
use system_tests::world::Scope;
use system_tests::{SYSTEM_BUS, bin, run};

use crate::daemon::Daemon;
use crate::helper::Helper;

const TARED: &str = "tared.service";
const SPAWN: &str = "tare-spawn.service";
const NAMES: &str = "tare-names.service";
/// Each unit, what runs in the place of its program, and what else is different. One that is started at
/// once does not keep the test waiting.
const UNITS: [(&str, &str, &str); 3] = [
    (TARED, "tared-faulty", "Restart=no\n"),
    (SPAWN, "tare-spawn-faulty", ""),
    (NAMES, "tare-names-faulty", "RestartSec=5ms\nRestartSteps=0\n"),
];
/// Where systemd looks for what is added to units until the next boot.
const FRAGMENTS: &str = "/run/systemd/system";
const FRAGMENT: &str = "faults.conf";
/// Settings of the service beside the administrator's.
const SETTINGS: &str = "/etc/tare/tared.toml.d/faults.toml";
/// How long systemd may take to see that a process has ended, or to start it again.
const PATIENCE: Duration = Duration::from_secs(20);

/// The installed service. It is put back when this is dropped.
#[derive(Debug)]
pub(crate) struct Installed {
    logged: SystemTime,
}

impl Installed {
    /// Where whoever answers is to listen.
    pub(crate) fn socket_dir() -> PathBuf {
        let dir = PathBuf::from("/run/tare-faults");
        // Of an earlier test of this system.
        let _ = fs::remove_dir_all(&dir);
        // Also for `tare-names`, which is nobody in particular.
        DirBuilder::new().mode(0o711).create(&dir).unwrap();
        dir
    }

    /// Has the service run by programs that ask.
    pub(crate) fn start(faults: &Faults, settings: &str) -> Self {
        let mut installed = Self { logged: SystemTime::now() };
        installed.stop();
        systemctl(&["stop", "--quiet", SPAWN, NAMES]);
        fs::create_dir_all(Path::new(SETTINGS).parent().unwrap()).unwrap();
        fs::write(SETTINGS, settings).unwrap();
        let (name, value) = faults.variable();
        fs::set_permissions(&value, Permissions::from_mode(0o666)).unwrap();
        for (unit, program, more) in UNITS {
            let dir = Path::new(FRAGMENTS).join(format!("{unit}.d"));
            fs::create_dir_all(&dir).unwrap();
            let program = bin(program);
            let fragment = format!(
                "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=\nExecStart={}\n\
                 Environment={name}={value}\n{more}",
                program.display()
            );
            fs::write(dir.join(FRAGMENT), fragment).unwrap();
        }
        systemctl(&["daemon-reload"]);
        installed.launch();
        assert!(installed.is_ready(), "it does not begin:\n{}", installed.log());
        installed
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // As long as that is there, it has the others started again.
        let _ = Command::new("systemctl").args(["stop", "--quiet", TARED]).status();
        let _ = Command::new("systemctl").args(["stop", "--quiet", SPAWN, NAMES]).status();
        for (unit, ..) in UNITS {
            let dir = Path::new(FRAGMENTS).join(format!("{unit}.d"));
            let _ = fs::remove_file(dir.join(FRAGMENT));
            // Somebody else's may be in it.
            let _ = fs::remove_dir(dir);
        }
        let _ = fs::remove_file(SETTINGS);
        let _ = Command::new("systemctl").arg("daemon-reload").status();
        let _ = Command::new("systemctl").args(["start", TARED]).status();
    }
}

impl Daemon for Installed {
    fn state_dir(&self) -> PathBuf {
        "/var/lib/tare".into()
    }

    fn run_dir(&self) -> PathBuf {
        "/run/tare".into()
    }

    fn scope(&self) -> Scope {
        let mut scope = Scope::of_installed_service();
        // The programs themselves, of which open descriptors count.
        for (_, program, _) in UNITS {
            scope.marks.push(bin(program).display().to_string());
            scope.daemons.push(program.into());
        }
        scope
    }

    fn address(&self) -> String {
        SYSTEM_BUS.into()
    }

    fn launch(&mut self) {
        systemctl(&["start", "--no-block", TARED]);
    }

    fn is_ready(&mut self) -> bool {
        Command::new("systemctl").args(["start", TARED]).status().unwrap().success()
    }

    fn kill(&mut self) {
        kill_main(TARED);
        until("tared has ended", || property(TARED, "ActiveState") == "failed");
        systemctl(&["reset-failed", TARED]);
    }

    fn kill_helper(&self, helper: Helper) {
        let unit = match helper {
            Helper::Spawn => SPAWN,
            Helper::Names => NAMES,
        };
        let before = kill_main(unit);
        until("it is there again", || {
            let now = property(unit, "MainPID");
            property(unit, "ActiveState") == "active" && now != "0" && now != before
        });
    }

    fn terminate(&mut self) {
        systemctl(&["stop", "--no-block", TARED]);
    }

    fn wait(&mut self) {
        until("tared has ended", || property(TARED, "MainPID") == "0");
    }

    fn stop(&mut self) {
        systemctl(&["stop", TARED]);
    }

    fn log(&mut self) -> String {
        let since = self.logged.duration_since(UNIX_EPOCH).unwrap();
        self.logged = SystemTime::now();
        let since = format!("--since=@{}.{:06}", since.as_secs(), since.subsec_micros());
        run("journalctl", &["--sync"]);
        let units = UNITS.map(|(unit, ..)| format!("--unit={unit}"));
        let mut arguments = vec!["--quiet", "--no-pager", "--output=cat", &since];
        arguments.extend(units.iter().map(String::as_str));
        run("journalctl", &arguments)
    }
}

/// Kills the main process of a unit, and says which that was.
fn kill_main(unit: &str) -> String {
    let main = property(unit, "MainPID");
    let pid = main.parse().ok().and_then(Pid::from_raw).expect("it runs");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(pidfd, Signal::KILL).unwrap();
    main
}

fn property(unit: &str, name: &str) -> String {
    run("systemctl", &["show", "--value", "--property", name, unit]).trim_end().into()
}

fn systemctl(arguments: &[&str]) {
    run("systemctl", arguments);
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
