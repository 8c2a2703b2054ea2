//! Against control groups of the kernel, as root.

#![allow(clippy::disallowed_methods, reason = "a test makes its own surroundings")]

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use host_world::{Groups, Guard, Scope};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tare_runtime::exit::{Exited, exit_info};
use tare_runtime::identity::{Identity, reopen};
use tare_runtime::{ErrorKind, Signal, cgroup};

/// A control group of a test's own, with a process in it.
struct Group {
    dir: PathBuf,
    child: Child,
    #[expect(dead_code, reason = "it looks when it is dropped, last")]
    guard: Guard,
}

impl Group {
    fn new(host: &cgroup::Host, name: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root");
        let root = host.cgroup2_mount.as_ref().expect("this host has cgroup2");
        let groups = vec![Groups { parent: root.clone(), prefix: name.into() }];
        let guard = Guard::new(Scope { groups, ..Scope::of_marked(Vec::new(), Vec::new()) });
        let dir = root.join(name).join("below");
        fs::create_dir_all(&dir).expect("make a control group");
        let child = Command::new("sleep").arg("1000").spawn().expect("start sleep");
        fs::write(dir.join("cgroup.procs"), child.id().to_string()).expect("move sleep");
        Self { dir, child, guard }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
        let _ = self.child.wait();
        let _ = fs::remove_dir(&self.dir);
        let _ = self.dir.parent().map(fs::remove_dir);
    }
}

fn within(limit: Duration, done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !done() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    done()
}

#[test]
fn privileged_a_group_is_watched_frozen_and_killed() {
    let host = cgroup::Host::detect().unwrap();
    let name = format!("tare-test-{}", std::process::id());
    let mut group = Group::new(&host, &name);
    let watched = host.open(&format!("/{name}")).unwrap().expect("it is there");
    assert!(host.open(&format!("/{name}/absent")).unwrap().is_none());
    assert_eq!(watched.processes().unwrap(), [group.child.id()]);
    assert!(watched.is_populated().unwrap());
    assert!(watched.figures().unwrap().cpu_usec.is_some());

    watched.freeze().unwrap();
    assert!(within(Duration::from_secs(5), || watched.is_frozen().unwrap()));
    watched.thaw().unwrap();
    assert!(within(Duration::from_secs(5), || !watched.is_frozen().unwrap()));

    let pidfd = pidfd_open(Pid::from_child(&group.child), PidfdFlags::empty()).unwrap();
    let identity = Identity::of(pidfd.as_fd()).unwrap();
    assert!(reopen(&identity).unwrap().is_some());
    watched.kill().unwrap();
    group.child.wait().unwrap();
    assert!(within(Duration::from_secs(5), || !watched.is_populated().unwrap()));
    let told = exit_info(pidfd.as_fd()).unwrap();
    assert!(matches!(told, None | Some(Exited::Signal(Signal::KILL))), "{told:?}");
    assert!(reopen(&identity).unwrap().is_none());

    drop(group);
    assert!(!watched.is_populated().unwrap());
    let error = watched.is_frozen().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
}

#[test]
fn privileged_who_expects_moves_stays_where_it_is() {
    let host = cgroup::Host::detect().unwrap();
    let groups = || std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let before = groups();
    cgroup::expect_moves(&host).unwrap();
    assert_eq!(groups(), before);
}
