//! What a container writes and reads, passed on to those who have attached.
#![expect(clippy::unwrap_used, reason = "`allow-unwrap-in-tests` misses helpers")]

use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde_json::json;
use tare_spawn::{Attach, Cause, Created, Error, Force, MAX_ATTACHED, Refusal, Stdin};

use crate::world::{World, config, wait_end, within};

/// The other ends of what somebody has attached with.
struct Ends {
    input: Option<File>,
    output: File,
    errors: File,
}

fn attach(world: &World, created: &Created, with_input: bool) -> Result<Ends, Error> {
    let [(input, their_input), (their_output, output), (their_errors, errors)] =
        [(); 3].map(|()| pipe().unwrap());
    let request = Attach { target: world.target(), stdin: world.request.stdin, owner: None };
    let streams = [with_input.then(|| input.into()), Some(output.into()), Some(errors.into())];
    world.spawner.attach(&request, created.init.pidfd.as_fd(), streams)?;
    Ok(Ends {
        input: with_input.then(|| OwnedFd::from(their_input).into()),
        output: OwnedFd::from(their_output).into(),
        errors: OwnedFd::from(their_errors).into(),
    })
}

fn rest(mut file: &File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Reads until `end` has come.
fn until(mut file: &File, end: &str) -> String {
    let mut text = String::new();
    let mut block = [0; 4096];
    while !text.ends_with(end) {
        let count = file.read(&mut block).unwrap();
        assert_ne!(count, 0, "it ended after {text:?}");
        text += &String::from_utf8_lossy(&block[..count]);
    }
    text
}

fn created(world: &mut World, stdin: Stdin, script: &str) -> Created {
    world.request.stdin = stdin;
    let mut config = config(&world.request.cgroup, script);
    if stdin == Stdin::Terminal {
        config["process"]["terminal"] = json!(true);
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        }));
    }
    world.write_config(&config);
    world.spawner.create(&world.request, world.rootfs()).unwrap()
}

fn start(world: &World, created: &Created) {
    world.spawner.start(&world.target(), created.supervisor.pidfd.as_fd()).unwrap();
}

fn end(world: &World, created: &Created) {
    let supervisor = created.supervisor.pidfd.as_fd();
    world.spawner.delete(&world.target(), Some(supervisor), Force::Kill).unwrap();
    wait_end(&created.supervisor.pidfd);
    world.assert_clean();
}

/// The numbers up to that one, a line each.
fn numbers(last: u32) -> String {
    (1..=last).fold(String::new(), |all, number| all + &number.to_string() + "\n")
}

#[test]
fn privileged_who_attaches_before_the_start_gets_every_byte() {
    let mut world = crate::world();
    let script = "n=0; while [ $n -lt 9999 ]; do n=$((n+1)); echo $n; done; echo last >&2";
    let created = created(&mut world, Stdin::Null, script);
    let several = [0; 3].map(|_| attach(&world, &created, false).unwrap());
    start(&world, &created);
    let want = numbers(9999);
    for ends in &several {
        assert!(rest(&ends.output) == want, "something is missing, or too much");
        assert_eq!(rest(&ends.errors), "last\n");
    }
    wait_end(&created.supervisor.pidfd);
    let error = attach(&world, &created, false).err().expect("it has ended");
    assert!(matches!(error.cause(), Some(Cause::Gone)), "{error:?}");
    end(&world, &created);
}

#[test]
fn privileged_input_arrives_and_its_end_does_but_not_that_of_who_goes_away() {
    let mut world = crate::world();
    let created = created(&mut world, Stdin::Open, "cat; echo end >&2; exit 4");
    start(&world, &created);
    for round in 0..3 {
        let mut ends = attach(&world, &created, true).unwrap();
        let line = format!("round {round}\n");
        ends.input.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        assert_eq!(until(&ends.output, &line), line);
    }
    drop(attach(&world, &created, false).unwrap());
    let Ends { input, output, errors } = attach(&world, &created, true).unwrap();
    let much = numbers(40_000);
    let writer = std::thread::spawn({
        let (mut input, much) = (input.unwrap(), much.clone());
        move || input.write_all(much.as_bytes()).unwrap()
    });
    assert!(rest(&output) == much, "it is not what was typed");
    assert_eq!(rest(&errors), "end\n");
    writer.join().unwrap();
    wait_end(&created.supervisor.pidfd);
    assert_eq!(world.exit_code(), "4");
    end(&world, &created);
}

#[test]
fn privileged_who_does_not_read_holds_up_the_container_but_not_its_end() {
    let mut world = crate::world();
    let script = "n=0; while :; do n=$((n+1)); echo $n; done";
    let created = created(&mut world, Stdin::Null, script);
    let stalled = attach(&world, &created, false).unwrap();
    start(&world, &created);
    let size = || fs::metadata(world.log_path()).map_or(0, |log| log.len());
    within(Duration::from_secs(20), || {
        let before = size();
        std::thread::sleep(Duration::from_millis(300));
        before > 100_000 && size() == before
    });
    let before = size();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(size(), before, "it goes on");
    rustix::process::pidfd_send_signal(&created.init.pidfd, rustix::process::Signal::KILL).unwrap();
    wait_end(&created.supervisor.pidfd);
    assert_eq!(world.exit_code(), "137");
    // All of it is there for whoever reads late.
    let numbers: Vec<u32> = rest(&stalled.output).lines().map(|n| n.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len().try_into().unwrap()));
    assert!(numbers.len() > 10_000);
    end(&world, &created);
}

#[test]
fn privileged_a_container_can_have_a_terminal() {
    let mut world = crate::world();
    let created = created(&mut world, Stdin::Terminal, "echo first; read a; echo got $a; exit 5");
    let socket_dir = world.layout().console_dir();
    assert!(!socket_dir.exists(), "{} is left", socket_dir.display());
    let mut ends = attach(&world, &created, true).unwrap();
    start(&world, &created);
    assert_eq!(until(&ends.output, "\r\n"), "first\r\n");
    ends.input.as_mut().unwrap().write_all(b"this\n").unwrap();
    assert_eq!(rest(&ends.output), "this\r\ngot this\r\n");
    assert_eq!(rest(&ends.errors), "", "a terminal has one output");
    wait_end(&created.supervisor.pidfd);
    assert_eq!(world.exit_code(), "5");
    end(&world, &created);
}

#[test]
fn privileged_only_so_many_attach_and_only_with_pipes() {
    let mut world = crate::world();
    let created = created(&mut world, Stdin::Null, "sleep 1000");
    start(&world, &created);
    let attached: Vec<_> =
        (0..MAX_ATTACHED).map(|_| attach(&world, &created, false).unwrap()).collect();
    let error = attach(&world, &created, false).err().expect("one too many");
    assert!(matches!(error.cause(), Some(Cause::Refused(Refusal::TooManyAttached))), "{error:?}");
    drop(attached);
    within(Duration::from_secs(5), || attach(&world, &created, false).is_ok());
    let request = Attach { target: world.target(), stdin: Stdin::Null, owner: None };
    let null = File::open("/dev/null").unwrap().into();
    let init = created.init.pidfd.as_fd();
    let error = world.spawner.attach(&request, init, [Some(null), None, None]).unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Refused(Refusal::NoPipe))), "{error:?}");
    end(&world, &created);
}
