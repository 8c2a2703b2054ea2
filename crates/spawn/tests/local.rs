//! The suite, forked by the test itself.

#![allow(clippy::disallowed_methods, reason = "a test makes its own surroundings")]

mod suite;
mod world;

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use tare_spawn::{Cause, Exec, Force, Local, Settings, Spawner, Streams};

use world::{cgroup2, process, stdio, within};

fn world() -> world::World {
    world::World::local().0
}

#[test]
fn privileged_a_process_whose_terminal_does_not_come_is_killed() {
    let world = world();
    let created = world.create("sleep 1000");
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.start(&world.target(), supervisor).unwrap();
    // A runtime that does not hear that there is to be one.
    let runc = world.settings.runc.as_ref().expect("runc is installed").display();
    let deaf = format!(
        "#!/bin/sh\nfor word; do shift\ncase $word in --console-socket=*) ;; \
         *) set -- \"$@\" \"$word\" ;; esac; done\nexec {runc} \"$@\"\n",
    );
    let runc = Some(world.script("deaf", &deaf));
    let spawner = Local::new(Settings { runc, ..world.settings.clone() });
    let session = world.session(1, &process("exec sleep 1000"));
    let payload = cgroup2().join(&session.cgroup.payload().as_str()[1..]).join("cgroup.procs");

    let request = Exec { streams: Streams::Terminal, ..session };
    let error = spawner.exec(&request, supervisor, stdio().0).unwrap_err();
    let Some(Cause::Runtime { message }) = error.cause() else { panic!("{error:?}") };
    assert_eq!(message, "sent no terminal");
    assert!(error.leftovers().is_empty(), "{error:?}");
    let left = || fs::read_to_string(&payload).unwrap().lines().count();
    within(Duration::from_secs(5), || left() == 1);
    assert_eq!(left(), 1, "the container's first process");
    world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
    world.assert_clean();
}
