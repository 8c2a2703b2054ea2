//! Makes every single effect of a call fail in turn, and looks for what remains.
//!
//! One test only: the hook is the process's. Needs root and the feature `fault`.

#![allow(clippy::disallowed_methods, reason = "a test makes its own surroundings")]

mod world;

use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tare_spawn::{
    Error, ErrorKind, Execed, Extent, Force, IdRange, LiveFile, Swapped, UserMap, fault,
};
use world::{World, config, mount_table, process, stdio, wait_end, within};

/// How many effects may still go well; below zero all do.
static LEFT: AtomicI64 = AtomicI64::new(-1);

fn hook(step: &dyn Display) -> io::Result<()> {
    match LEFT.fetch_sub(1, Ordering::SeqCst) {
        0 => Err(io::Error::other(format!("injected at: {step}"))),
        _ => Ok(()),
    }
}

/// Makes the first, second, ... effect of `call` fail, until there is none left to fail.
fn fail_each<T>(call: impl Fn() -> Result<T, Error>, check: impl Fn(&Error)) -> (T, i64) {
    for fail_at in 0.. {
        LEFT.store(fail_at, Ordering::SeqCst);
        let result = call();
        let reached = LEFT.swap(-1, Ordering::SeqCst) < 0;
        match result {
            Ok(value) if !reached => return (value, fail_at),
            Ok(_) => panic!("a failure of effect {fail_at} was passed over"),
            Err(error) => {
                assert!(reached, "{error:?}");
                assert_ne!(error.kind(), ErrorKind::NeedsRepair, "{error:?}");
                check(&error);
            }
        }
    }
    unreachable!()
}

#[test]
fn privileged_a_failure_of_any_effect_leaves_nothing() {
    fault::set_hook(hook);
    let (world, local) = World::local();
    let mut config = config(&world.request.cgroup, "sleep 1000");
    let hosts = world.layout().live_file(LiveFile::Hosts);
    config["mounts"].as_array_mut().unwrap().push(serde_json::json!({
        "destination": "/etc/hosts", "type": "bind", "source": hosts, "options": ["bind"],
    }));
    std::fs::create_dir_all(world.layout().files()).unwrap();
    std::fs::write(hosts, "old").unwrap();
    world.write_config(&config);
    let before = mount_table();
    let clean = |error: &Error| {
        within(Duration::from_secs(5), || world.traces().is_empty());
        assert_eq!(world.traces(), Vec::<String>::new(), "{error:?}");
        assert_eq!(mount_table(), before, "{error:?}");
        assert!(!world.layout().exit_dir().exists(), "{error:?}");
        assert!(!world.layout().rootfs().exists(), "{error:?}");
    };
    let (created, effects) =
        fail_each(|| world.spawner.create(&world.request, world.rootfs()), clean);
    assert!(effects > 10, "{effects} effects");
    let supervisor = created.supervisor.pidfd.as_fd();

    let range = IdRange { inside: 0, outside: 100_000, size: 9 };
    let map = UserMap { uids: vec![range], gids: vec![range] };
    let (_users, effects) = fail_each(|| world.spawner.make_users(&map), |_| ());
    assert_eq!(effects, 1);

    let start = || world.spawner.start(&world.target(), supervisor);
    let ((), effects) = fail_each(start, |_| ());
    assert_eq!(effects, 2);

    let request = world.session(1, &process("exit 4"));
    let exec = || world.spawner.exec(&request, supervisor, stdio().0);
    let group = world::cgroup2().join(&request.cgroup.session(1).as_str()[1..]);
    let clean = |error: &Error| {
        assert!(!world.layout().exec_exit_dir(1).exists(), "{error:?}");
        assert!(!group.exists(), "{error:?}");
        // Others on this machine may be executing something, too.
        let process_json = world.layout().exec_process(1);
        let conmons = world::processes_of(process_json.to_str().unwrap());
        assert_eq!(conmons, Vec::<String>::new(), "{error:?}");
    };
    let (Execed { supervisor: session, .. }, effects) = fail_each(exec, clean);
    assert!(effects > 5, "{effects} effects");
    if let Some(session) = session {
        wait_end(&session.pidfd);
    }
    assert_eq!(world.session_code(1), "4");

    let init = created.init.pidfd.as_fd();
    let layout = world.layout();
    let seen =
        || std::fs::read_to_string(format!("/proc/{}/root/etc/hosts", created.init.pid)).unwrap();
    let before = std::cell::RefCell::new(String::new());
    let swap = || {
        *before.borrow_mut() = seen();
        let next = layout.next_live_file(LiveFile::Hosts);
        let _ = std::fs::remove_file(&next);
        std::fs::write(next, seen() + "+").unwrap();
        world.spawner.swap_file(&world.target(), LiveFile::Hosts, init)
    };
    let (swapped, effects) = fail_each(swap, |error| {
        let old = before.borrow().clone();
        assert!([old.clone(), old + "+"].contains(&seen()), "{error:?}");
    });
    assert_eq!((swapped, seen()), (Swapped::Done, before.borrow().clone() + "+"));
    assert_eq!(std::fs::read_dir(layout.files()).unwrap().count(), 1);
    assert!(effects >= 6, "{effects} effects");

    let delete = || world.spawner.delete(&world.target(), Some(supervisor), Force::Kill);
    let (_, effects) = fail_each(delete, |_| ());
    assert_eq!(effects, 2);
    let ((), effects) =
        fail_each(|| world.spawner.cleanup_cgroup(&world.cgroup, Extent::Whole), |_| ());
    assert!(effects >= 1, "{effects} effects");
    world.assert_clean();

    let made = || world.spawner.make_cgroup(&world.request.cgroup);
    let ((), effects) =
        fail_each(made, |error| assert_eq!(world.traces(), Vec::<String>::new(), "{error:?}"));
    assert!(effects >= 2, "{effects} effects");
    fail_each(|| world.spawner.remove_empty_cgroup(&world.request.cgroup), |_| ());
    fail_each(|| local.adopt_orphans(), |_| ());
    world.assert_clean();
}
