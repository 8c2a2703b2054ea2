//! On a host whose mounts are shared, as systemd makes them, nothing of a container may propagate.
//!
//! A binary of its own: it changes the mount namespace of a thread.

#![allow(clippy::disallowed_methods, reason = "a test makes its own surroundings")]
#![expect(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` misses helpers")]
#![allow(dead_code, reason = "other binaries use the rest of the world")]

mod world;

use std::fs;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use serde_json::Value;
use tare_spawn::{Force, OciRuntime, Verdict};
use world::{World, config, trial, wait_end};

/// What is mounted where, as this thread sees it.
fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    table.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap().to_owned()).collect()
}

fn on_a_host_with_shared_mounts(body: impl FnOnce() + Send) {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount_change("/", shared).unwrap();
            body();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn privileged_a_trial_and_a_life_leave_shared_mounts_alone() {
    on_a_host_with_shared_mounts(|| {
        let world = World::local().0;
        let before = mounts();
        for runtime in [OciRuntime::Crun, OciRuntime::Runc] {
            let mut trial = trial(&world, runtime, &["/bin/true"]);
            // Of all settings the one with which crun leaves the mounts below the root as they are.
            let mut config: Value = serde_json::from_slice(&trial.config_json).unwrap();
            config["linux"]["rootfsPropagation"] = "private".into();
            trial.config_json = config.to_string().into_bytes();
            let probed = world.probe(&trial).unwrap();
            assert_eq!(probed.verdict, Verdict::Works, "{runtime}");
            assert_eq!(mounts(), before, "after a trial of {runtime}");
        }

        world.write_config(&config(&world.request.cgroup, "exit 0"));
        let created = world.create("exit 0");
        assert_eq!(mounts(), before, "while it waits");
        let supervisor = created.supervisor.pidfd.as_fd();
        world.spawner.start(&world.target(), supervisor).unwrap();
        wait_end(&created.supervisor.pidfd);
        world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
        assert_eq!(mounts(), before, "after a life");
        world.assert_clean();
    });
}
