//! Control groups that containers share, made and removed by several at once, as root.

use std::fs;

use crate::world::{cgroup2, come_and_go, trial};
use tare_spawn::{CgroupPath, Extent, Force, OciRuntime, Verdict};

#[test]
fn privileged_failures_take_no_group_away_from_others() {
    const ROUNDS: usize = 6;
    let mut worlds: Vec<_> = (0..8).map(|_| crate::world()).collect();
    let shared: CgroupPath =
        format!("/tare-test-{}-shared/deep", std::process::id()).parse().unwrap();
    for (number, world) in worlds.iter_mut().enumerate() {
        world.request.cgroup = format!("{shared}/c{number}").parse().unwrap();
    }
    // The failures are quick, so they take the shared groups away as often as they can.
    std::thread::scope(|scope| {
        for (number, world) in worlds.iter_mut().enumerate() {
            scope.spawn(move || (0..ROUNDS).for_each(|_| come_and_go(world, number % 2 == 0)));
        }
    });
    let spawner = &worlds[0].spawner;
    let groups: Vec<_> = fs::read_dir(cgroup2()).unwrap().map(|it| it.unwrap().path()).collect();
    let parent: CgroupPath = shared.as_str().trim_end_matches("/deep").parse().unwrap();
    spawner.remove_empty_cgroup(&shared).unwrap();
    spawner.remove_empty_cgroup(&parent).unwrap();
    assert!(!cgroup2().join(&parent.as_str()[1..]).exists(), "{groups:?}");
}

#[test]
fn privileged_shared_groups_are_made_and_removed_when_empty() {
    let world = crate::world();
    let group: CgroupPath = format!("{}/deep/er", world.cgroup).parse().unwrap();
    let dir = cgroup2().join(&group.as_str()[1..]);
    for _ in 0..2 {
        world.spawner.make_cgroup(&group).unwrap();
        assert!(dir.exists());
    }
    world.spawner.remove_empty_cgroup(&world.cgroup).unwrap();
    assert!(dir.exists(), "it has others in it");
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
    world.spawner.remove_empty_cgroup(&group).unwrap();
    assert!(dir.exists() && child.try_wait().unwrap().is_none(), "it has a process in it");
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..2 {
        world.spawner.remove_empty_cgroup(&group).unwrap();
        assert!(!dir.exists());
    }
    world.assert_clean();
    world.spawner.remove_empty_cgroup(&group).unwrap(); // nor is what it was in
}

#[test]
fn privileged_groups_are_made_while_others_remove_them() {
    let world = crate::world();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (spawner, shared) = (&world.spawner, &world.cgroup);
            scope.spawn(move || {
                let group: CgroupPath = format!("{shared}/a/{number}").parse().unwrap();
                let above: CgroupPath = format!("{shared}/a").parse().unwrap();
                for _ in 0..200 {
                    spawner.make_cgroup(&group).unwrap();
                    for group in [&group, &above, shared] {
                        spawner.remove_empty_cgroup(group).unwrap();
                    }
                }
            });
        }
    });
    world.assert_clean();
}

#[test]
fn privileged_a_group_of_somebody_else_is_emptied_and_left() {
    let world = crate::world();
    let created = world.create("sleep 1000");
    let group = cgroup2().join(&world.request.cgroup.as_str()[1..]);
    for _ in 0..2 {
        world.spawner.cleanup_cgroup(&world.request.cgroup, Extent::Below).unwrap();
        let below = fs::read_dir(&group).unwrap().map(|it| it.unwrap());
        let below: Vec<_> = below.filter(|it| it.path().is_dir()).map(|it| it.path()).collect();
        assert!(below.is_empty(), "{below:?}");
    }
    crate::world::wait_end(&created.init.pidfd);
    let trial = tare_spawn::Trial {
        extent: Extent::Below,
        ..trial(&world, OciRuntime::Runc, &["/bin/true"])
    };
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    fs::remove_dir_all(world.layout().container()).unwrap();
    assert_eq!(world.probe(&trial).unwrap().verdict, Verdict::Works);
    assert!(group.exists(), "it is not the trial's to remove");
    world.assert_clean();
}
