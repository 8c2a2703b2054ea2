//! Against the real conmon and runc, as root, on a directory with a static busybox in it.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use crate::world::hosts::{finish, hosts_mounts, inside, mount_of, seen_in, swap, with_hosts};
use crate::world::{
    cgroup2, config, mount_table, parent_of, process, stdio, trial, wait_end, within,
};
use rustix::fs::CWD;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{Signal, pidfd_send_signal};
use serde_json::json;
use tare_spawn::{
    Cause, CgroupPath, Create, Deleted, Error, ErrorKind, Extent, FIRST_KEPT, Force, Incarnation,
    Layout, Log, OciRuntime, Place, PlacedMount, Refusal, Stdin, Swapped, Verdict,
};

#[test]
fn privileged_a_container_lives_and_leaves_nothing() {
    let world = crate::world();
    let created = world.create("echo out; echo err >&2; exit 7");
    let supervisor = created.supervisor.pidfd.as_fd();
    assert!(!mount_table().contains(world.request.id.as_str()), "nothing shows on the host");
    assert_ne!(parent_of(created.supervisor.pid), std::process::id(), "it outlives its parent");
    assert_eq!(parent_of(created.init.pid), created.supervisor.pid);
    let procs = |group: CgroupPath| {
        let dir = cgroup2().join(&group.as_str()[1..]);
        fs::read_to_string(dir.join("cgroup.procs")).unwrap()
    };
    assert_eq!(procs(world.request.cgroup.supervisor()), format!("{}\n", created.supervisor.pid));
    assert_eq!(procs(world.request.cgroup.payload()), format!("{}\n", created.init.pid));
    assert!(world.log().is_empty(), "it waits for start");

    world.spawner.start(&world.target(), supervisor).unwrap();
    wait_end(&created.supervisor.pidfd);
    let log = world.log();
    assert!(log.contains("+00:00 stdout F out\n") && log.contains("stderr F err\n"), "{log}");
    assert_eq!(world.exit_code(), "7");

    let error = world.spawner.start(&world.target(), supervisor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
    let delete = || world.spawner.delete(&world.target(), Some(supervisor), Force::No).unwrap();
    assert_eq!(delete(), Deleted::Deleted, "in a new view, conmon having ended");
    assert_eq!(delete(), Deleted::AlreadyGone);
    world.assert_clean();
}

#[test]
fn privileged_conmon_waits_until_all_is_there() {
    let world = crate::world();
    fs::create_dir_all(world.layout().bundle()).unwrap();
    let prepared = world.spawner.prepare(&world.request, Vec::new()).unwrap();
    let waiting = prepared.supervisor().pid;
    assert!(fs::read_to_string(format!("/proc/{waiting}/comm")).unwrap().starts_with("conmon"));
    assert!(!world.layout().container_pid().exists(), "nothing is made before the word");
    world.write_config(&config(&world.request.cgroup, "exit 6"));
    let created = prepared.create(world.rootfs()).unwrap();
    world.spawner.start(&world.target(), created.supervisor.pidfd.as_fd()).unwrap();
    wait_end(&created.supervisor.pidfd);
    assert_eq!(world.exit_code(), "6");
    world.spawner.delete(&world.target(), None, Force::No).unwrap();
    world.assert_clean();
}

#[test]
fn privileged_conmon_keeps_what_it_is_given_and_the_container_does_not_get_it() {
    let world = crate::world();
    fs::create_dir_all(world.layout().bundle()).unwrap();
    let (kept, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    let inode = fs::read_link(format!("/proc/self/fd/{}", kept.as_raw_fd())).unwrap();
    let prepared = world.spawner.prepare(&world.request, vec![kept.into()]).unwrap();
    world.write_config(&config(&world.request.cgroup, "exec sleep 1000"));
    let created = prepared.create(world.rootfs()).unwrap();
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.start(&world.target(), supervisor).unwrap();
    let open_in = |pid: u32| -> Vec<_> {
        let dir = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let entries = dir.filter_map(|entry| Some((entry.ok()?.file_name(), pid)));
        entries
            .filter(|(name, pid)| {
                let to = fs::read_link(Path::new(&format!("/proc/{pid}/fd")).join(name));
                to.is_ok_and(|to| to == inode)
            })
            .map(|(name, _)| name.into_string().unwrap())
            .collect()
    };
    assert_eq!(open_in(created.supervisor.pid), [FIRST_KEPT.to_string()]);
    // The runtime has marked it: it goes when the program of the container comes.
    let comm = format!("/proc/{}/comm", created.init.pid);
    while !fs::read_to_string(&comm).unwrap().starts_with("sleep") {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(open_in(created.init.pid), Vec::<String>::new());
    world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
    wait_end(&created.supervisor.pidfd);
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!((&ours).read(&mut [0]).unwrap(), 0, "nobody has it any more");
    world.assert_clean();
}

#[test]
fn privileged_what_was_prepared_in_vain_is_taken_back() {
    let world = crate::world();
    fs::create_dir_all(world.layout().bundle()).unwrap();
    let prepared = world.spawner.prepare(&world.request, Vec::new()).unwrap();
    let pidfd = prepared.supervisor().pidfd.try_clone().unwrap();
    drop(prepared);
    wait_end(&pidfd);
    // By whoever has forked it, which hears of it.
    let is_gone = || world.traces().is_empty() && !world.layout().exit_dir().exists();
    within(Duration::from_secs(5), is_gone);
    assert!(is_gone(), "{:?}", world.traces());
    // conmon killed by somebody else while it waits.
    let prepared = world.spawner.prepare(&world.request, Vec::new()).unwrap();
    pidfd_send_signal(&prepared.supervisor().pidfd, Signal::KILL).unwrap();
    wait_end(&prepared.supervisor().pidfd);
    world.write_config(&config(&world.request.cgroup, "true"));
    let error = prepared.create(world.rootfs()).unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Supervisor { .. })), "{error:?}");
    assert_eq!(world.traces(), Vec::<String>::new());
    // Nothing is in the way of another try.
    world.create("true");
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    world.assert_clean();
}

#[test]
fn privileged_a_running_container_is_deleted_by_force_only() {
    let world = crate::world();
    let created = world.create("sleep 1000");
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.start(&world.target(), supervisor).unwrap();
    let error = world.spawner.delete(&world.target(), Some(supervisor), Force::No).unwrap_err();
    let Some(Cause::Runtime { message }) = error.cause() else { panic!("{error:?}") };
    assert!(message.contains("running"), "{message}");
    world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
    wait_end(&created.supervisor.pidfd);
    assert_eq!(world.exit_code(), "137");
    world.assert_clean();
}

#[test]
fn privileged_the_runtime_says_why_a_config_is_bad() {
    let world = crate::world();
    let mut config = config(&world.request.cgroup, "true");
    config["process"]["args"] = json!(["/bin/absent"]);
    world.write_config(&config);
    let before = mount_table();
    let error = world.spawner.create(&world.request, world.rootfs()).unwrap_err();
    let Some(Cause::Runtime { message }) = error.cause() else { panic!("{error:?}") };
    assert!(message.contains("/bin/absent") && !message.contains('{'), "{message}");
    assert_eq!(error.kind(), ErrorKind::Runtime);
    assert_eq!(mount_table(), before);
    assert_eq!(world.traces(), Vec::<String>::new(), "without any cleaning by the caller");
    assert!(!world.layout().exit_dir().exists() && !world.layout().rootfs().exists());
    // Nothing is in the way of a second try.
    world.create("true");
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    world.assert_clean();
}

#[test]
fn privileged_bad_requests_change_nothing() {
    let world = crate::world();
    let refused = |request: &Create, mounts| match world.spawner.create(request, mounts) {
        Err(Error::Create { cause: Cause::Refused(refusal), .. }) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&world.request, world.rootfs()), Refusal::NoBundle);
    assert!(!world.settings.run_dir.exists());
    fs::create_dir_all(world.layout().bundle()).unwrap();
    assert_eq!(refused(&world.request, world.rootfs()), Refusal::NoConfig);
    world.write_config(&config(&world.request.cgroup, "true"));
    assert_eq!(refused(&world.request, vec![]), Refusal::Places);
    assert_eq!(world.traces(), Vec::<String>::new(), "conmon is gone again");
    assert!(!world.layout().exit_dir().exists());
    let log = Log::File("relative".into());
    assert_eq!(refused(&Create { log, ..world.request.clone() }, world.rootfs()), Refusal::LogPath);
    let _created = world.create("sleep 1000");
    assert_eq!(refused(&world.request, world.rootfs()), Refusal::Exists);
    let next = Create { incarnation: Incarnation(2), ..world.request.clone() };
    let bundle = Layout::new(&world.settings.run_dir, &next.id, next.incarnation).bundle();
    fs::create_dir_all(&bundle).unwrap();
    fs::write(bundle.join("config.json.new"), "{}").unwrap();
    assert_eq!(refused(&next, world.rootfs()), Refusal::Exists, "the runtime knows the id");
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    world.assert_clean();
}

#[test]
fn privileged_a_supervisor_that_cannot_start_is_explained() {
    let world = crate::world();
    world.write_config(&config(&world.request.cgroup, "true"));
    // conmon's own complaint: a log it cannot open.
    let log = Log::File(world.dir.path().join("absent/log"));
    let request = Create { log, ..world.request.clone() };
    let error = world.spawner.create(&request, world.rootfs()).unwrap_err();
    let Some(Cause::Supervisor { message }) = error.cause() else { panic!("{error:?}") };
    assert!(message.contains("log file"), "{message}");
    assert_eq!(world.traces(), Vec::<String>::new());
}

#[test]
fn privileged_a_shm_mount_is_placed_in_the_view_only() {
    let world = crate::world();
    let shm = world.dir.path().join("shm");
    fs::create_dir(&shm).unwrap();
    fs::write(shm.join("mark"), "found me").unwrap();
    let mut config = config(&world.request.cgroup, "cat /dev/shm/mark");
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/dev/shm", "type": "bind", "options": ["bind", "rw"],
        "source": world.layout().shm(),
    }));
    world.write_config(&config);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mut mounts = world.rootfs();
    mounts.push(PlacedMount { place: Place::Shm, mount: open_tree(CWD, &shm, flags).unwrap() });
    let created = world.spawner.create(&world.request, mounts).unwrap();
    assert!(fs::read_dir(world.layout().shm()).unwrap().next().is_none(), "empty on the host");
    world.spawner.start(&world.target(), created.supervisor.pidfd.as_fd()).unwrap();
    wait_end(&created.supervisor.pidfd);
    assert!(world.log().contains("found me"), "{}", world.log());
    world.spawner.delete(&world.target(), None, Force::No).unwrap();
    world.assert_clean();
}

#[test]
fn privileged_no_descriptor_leaks_into_conmon() {
    let world = crate::world();
    let secret = world.dir.path().join("secret");
    let file = fs::File::create(&secret).unwrap();
    // As a careless library would leave it.
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    let created = world.create("sleep 1000");
    for pid in [created.supervisor.pid, created.init.pid] {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        // Some are closed while this looks.
        let open: Vec<_> = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).collect();
        assert!(!open.contains(&secret), "{open:?}");
    }
    world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
    world.assert_clean();
}

/// systemd makes all mounts of a host shared; where that is not so, the test makes it so for a
/// thread that ends.
#[test]
fn privileged_nothing_propagates_to_a_host_with_shared_mounts() {
    let body = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).unwrap();
        let world = crate::world();
        let table = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let before = table();
        let created = world.create("sleep 1000");
        assert_eq!(table(), before);

        // The other way round they do: a container must not hold on to what the host lets go.
        let late = world.dir.path().join("late");
        fs::create_dir(&late).unwrap();
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, world.dir.path().join("rootfs"), flags).unwrap();
        move_mount(&tree, "", CWD, &late, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
        let mounts = format!("/proc/{}/mountinfo", created.supervisor.pid);
        let seen = || fs::read_to_string(&mounts).unwrap().contains(&*late.to_string_lossy());
        assert!(seen());
        drop(tree);
        unmount(&late, UnmountFlags::empty()).unwrap();
        assert!(!seen());

        let supervisor = created.supervisor.pidfd.as_fd();
        world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
        world.assert_clean();
    };
    std::thread::spawn(body).join().unwrap();
}

#[test]
fn privileged_stdin_is_null_or_open() {
    for (stdin, want) in [(Stdin::Null, "ended"), (Stdin::Open, "waits")] {
        let mut world = crate::world();
        world.request.stdin = stdin;
        let created = world.create("(sleep 1; echo waits; kill 1) & cat && echo ended; exit");
        world.spawner.start(&world.target(), created.supervisor.pidfd.as_fd()).unwrap();
        within(Duration::from_secs(5), || world.log().contains("stdout F"));
        assert!(world.log().contains(want), "{stdin:?}: {}", world.log());
        world.spawner.delete(&world.target(), None, Force::Kill).unwrap();
        world.assert_clean();
    }
}

#[test]
fn privileged_exec_speaks_through_pipes_and_leaves_its_code_in_a_file() {
    let world = crate::world();
    let created = world.create("sleep 1000");
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.start(&world.target(), supervisor).unwrap();
    let text = |mut file: &fs::File| {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    };

    let request = world.session(1, &process("cat; echo err >&2; exit 3"));
    let (theirs, [mut input, output, error]) = stdio();
    let execed = world.spawner.exec(&request, supervisor, theirs).unwrap();
    let session = execed.supervisor.expect("it waits for input");
    let running = execed.process.expect("it waits for input");
    assert_eq!(parent_of(running.pid), session.pid);
    input.write_all(b"hello").unwrap();
    drop(input);
    assert_eq!((text(&output), text(&error)), ("hello".into(), "err\n".into()));
    wait_end(&session.pidfd);
    assert_eq!(world.session_code(1), "3");
    let error = world.spawner.exec(&request, supervisor, stdio().0).unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Refused(Refusal::Exists))), "{error:?}");

    // One that is over at once, many times: nobody may be mistaken for it.
    for number in 10..20 {
        let request = world.session(number, &process("exit 5"));
        let execed = world.spawner.exec(&request, supervisor, stdio().0).unwrap();
        if let Some(session) = execed.supervisor {
            wait_end(&session.pidfd);
        }
        assert_eq!(world.session_code(number), "5");
        world.spawner.cleanup_cgroup(&request.cgroup.session(number), Extent::Whole).unwrap();
    }

    // One that the runtime cannot start.
    let mut absent = process("");
    absent["args"] = json!(["/bin/absent"]);
    let request = world.session(2, &absent);
    let error = world.spawner.exec(&request, supervisor, stdio().0).unwrap_err();
    let Some(Cause::Runtime { message }) = error.cause() else { panic!("{error:?}") };
    assert!(message.contains("/bin/absent"), "{message}");
    assert!(!world.layout().exec_exit_dir(2).exists(), "taken back");

    world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
    wait_end(&created.supervisor.pidfd);
    let request = world.session(3, &process("true"));
    let error = world.spawner.exec(&request, supervisor, stdio().0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
    world.assert_clean();
}

#[test]
fn privileged_a_runtime_killed_half_way_leaves_nothing() {
    let world = crate::world();
    // A hook that never ends holds the runtime back in the middle of creating.
    let mut config = config(&world.request.cgroup, "true");
    let mark = world.dir.path().join("half-way");
    let script = format!("echo > {}; exec sleep 1000", mark.display());
    config["hooks"] = json!({ "createRuntime": [
        { "path": "/bin/sh", "args": ["sh", "-c", script] },
    ]});
    world.write_config(&config);
    let supervisor_group = cgroup2().join(&world.request.cgroup.supervisor().as_str()[1..]);
    let error = std::thread::scope(|scope| {
        let create = scope.spawn(|| world.spawner.create(&world.request, world.rootfs()));
        within(Duration::from_secs(10), || mark.exists());
        let procs = fs::read_to_string(supervisor_group.join("cgroup.procs")).unwrap();
        let runtime = procs.lines().find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            name.starts_with("runc")
        });
        let pid: i32 = runtime.expect("runc works on it").parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let flags = rustix::process::PidfdFlags::empty();
        let pidfd = rustix::process::pidfd_open(pid, flags).unwrap();
        pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
        create.join().unwrap().unwrap_err()
    });
    assert!(error.leftovers().is_empty(), "{error:?}");
    within(Duration::from_secs(5), || world.traces().is_empty());
    assert_eq!(world.traces(), Vec::<String>::new(), "{error:?}");
}

#[test]
fn privileged_containers_come_and_go_side_by_side() {
    let worlds: Vec<_> = (0..8).map(|_| crate::world()).collect();
    std::thread::scope(|scope| {
        for (number, world) in worlds.iter().enumerate() {
            scope.spawn(move || {
                let created = world.create(&format!("exit {number}"));
                world.spawner.start(&world.target(), created.supervisor.pidfd.as_fd()).unwrap();
                wait_end(&created.supervisor.pidfd);
                assert_eq!(world.exit_code(), number.to_string());
                world.spawner.delete(&world.target(), None, Force::No).unwrap();
                world.assert_clean();
            });
        }
    });
}

#[test]
fn privileged_a_probe_tells_what_works() {
    let world = crate::world();
    let before = mount_table();
    let works = trial(&world, OciRuntime::Runc, &["/bin/true"]);
    let probed = world.probe(&works).unwrap();
    assert!(probed.version.starts_with("runc version "), "{probed:?}");
    assert_eq!(probed.verdict, Verdict::Works);

    let fails = trial(&world, OciRuntime::Runc, &["/bin/false"]);
    let Verdict::Fails { reason } = world.probe(&fails).unwrap().verdict else {
        panic!("false is not true")
    };
    assert!(reason.contains("code 1"), "{reason}");

    let mut fails = works.clone();
    fails.config_json = b"{".to_vec();
    let Verdict::Fails { reason } = world.probe(&fails).unwrap().verdict else {
        panic!("that is no configuration")
    };
    assert!(!reason.is_empty(), "{reason}");

    if world.settings.crun.is_some() {
        let crun = trial(&world, OciRuntime::Crun, &["/bin/true"]);
        let probed = world.probe(&crun).unwrap();
        assert!(probed.version.starts_with("crun version "), "{probed:?}");
        eprintln!("crun: {:?}", probed.verdict);
    }
    assert_eq!(mount_table(), before);
    assert!(!Path::new(&world.layout().container()).exists());
    world.assert_clean();
}

#[test]
fn privileged_a_file_of_a_container_is_swapped_and_nobody_reads_a_part_of_it() {
    let world = crate::world();
    let whole = |n: usize| format!("{n}\n").repeat(if n.is_multiple_of(2) { 1 } else { 20_000 });
    let created = with_hosts(&world, &whole(0));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        let read = || {
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let text = seen_in(&created);
                let n = text.lines().next().expect("it is never empty").parse().unwrap();
                assert!(text == whole(n), "a part of it was read");
                count += 1;
            }
            count
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        let swapped: Vec<_> = (1..300).map(|n| swap(&world, &created, &whole(n))).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let count: u32 = readers.map(|reader| reader.join().unwrap()).iter().sum();
        assert!(swapped.iter().all(|it| matches!(it, Ok(Swapped::Done))), "{swapped:?}");
        count
    });
    assert!(count > 300, "{count} reads tell nothing");
    assert_eq!(seen_in(&created), whole(299));
    let mounts = hosts_mounts(&created);
    assert!(mounts.len() == 1 && mounts[0].contains(" ro,nosuid,nodev,noexec,"), "{mounts:?}");
    assert!(!mounts[0].contains("shared:"), "{mounts:?}");
    assert!(!mount_table().contains(world.request.id.as_str()), "nothing shows on the host");
    let names: Vec<_> = fs::read_dir(world.layout().files()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    finish(&world, &created);
}

#[test]
fn privileged_a_swap_that_was_killed_is_settled_by_the_next() {
    let world = crate::world();
    let created = with_hosts(&world, "1\n");
    let at = |name: &str| world.layout().files().join(name);
    fs::write(at("hosts.new"), "begun, and not mounted\n").unwrap();
    assert_eq!(swap(&world, &created, "2\n").unwrap(), Swapped::Done);
    assert_eq!(seen_in(&created), "2\n");
    // The container has it, and only its last name is missing.
    fs::rename(at("hosts"), at("hosts.new")).unwrap();
    fs::write(at("hosts"), "1\n").unwrap();
    assert_eq!(swap(&world, &created, "3\n").unwrap(), Swapped::Done);
    assert_eq!((seen_in(&created), hosts_mounts(&created).len()), ("3\n".into(), 1));
    assert_eq!(fs::read_to_string(at("hosts")).unwrap(), "3\n");
    // Both are there, the new one beneath the old one.
    fs::write(at("hosts.new"), "4\n").unwrap();
    let mount = mount_of(&at("hosts.new"));
    inside(&created, &|| {
        let beneath = MoveMountFlags::from_bits_retain(0x200);
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | beneath;
        move_mount(&mount, "", CWD, "/etc/hosts", flags).unwrap();
    });
    assert_eq!((seen_in(&created), hosts_mounts(&created).len()), ("3\n".into(), 2));
    assert_eq!(swap(&world, &created, "5\n").unwrap(), Swapped::Done);
    assert_eq!((seen_in(&created), hosts_mounts(&created).len()), ("5\n".into(), 1));
    assert_eq!(fs::read_dir(world.layout().files()).unwrap().count(), 1);
    finish(&world, &created);
    let error = swap(&world, &created, "6\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone, "{error:?}");
}

#[test]
fn privileged_what_a_container_has_put_over_its_file_stays() {
    let world = crate::world();
    let created = with_hosts(&world, "1\n");
    let other = world.dir.path().join("other");
    fs::write(&other, "its own\n").unwrap();
    let mount = mount_of(&other);
    inside(&created, &|| {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", CWD, "/etc/hosts", flags).unwrap();
    });
    assert_eq!(swap(&world, &created, "2\n").unwrap(), Swapped::NotOurs);
    assert_eq!((seen_in(&created), hosts_mounts(&created).len()), ("its own\n".into(), 2));
    inside(&created, &|| unmount("/etc/hosts", UnmountFlags::DETACH).unwrap());
    assert_eq!(seen_in(&created), "1\n");
    inside(&created, &|| unmount("/etc/hosts", UnmountFlags::DETACH).unwrap());
    assert_eq!(swap(&world, &created, "2\n").unwrap(), Swapped::NotOurs);
    assert_eq!(hosts_mounts(&created), Vec::<String>::new());
    finish(&world, &created);
}
