//! Attaching to containers: what they write and read goes through pipes of somebody's.

use std::collections::HashMap;
use std::fs::File;
use std::io::{PipeReader, Read, Write, pipe};
use std::process::{Command, Stdio};

use system_tests::{Client, ERROR, Options, Refused, Tared, bin, failure, on_scratch_host, read};
use zbus::{Fd, OwnedFd, OwnedObjectPath, Variant};

use crate::spawner::TareSpawn;

/// What somebody who attaches has in his hands.
struct Pipes {
    stdin: Option<File>,
    stdout: File,
    stderr: File,
}

async fn attach(client: &Client, path: &OwnedObjectPath, stdin: bool) -> Result<Pipes, Refused> {
    let options = Options::from([("Stdin", stdin.into())]);
    let reply = client.call(path, "Container", "Attach", &options).await?;
    let mut fds: HashMap<String, OwnedFd> = reply.body().deserialize().unwrap();
    assert_eq!(fds.len(), if stdin { 3 } else { 2 }, "{fds:?}");
    let mut take = |name| fds.remove(name).map(|fd| File::from(std::os::fd::OwnedFd::from(fd)));
    Ok(Pipes {
        stdin: take("stdin"),
        stdout: take("stdout").unwrap(),
        stderr: take("stderr").unwrap(),
    })
}

fn create_options(script: &str, more: &'static str) -> Options<'static> {
    Options::from([
        ("Command", vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()].into()),
        (more, true.into()),
    ])
}

fn until(from: &mut impl Read, end: &str) -> String {
    let (mut all, mut block) = (String::new(), [0; 4096]);
    while !all.contains(end) {
        let count = from.read(&mut block).unwrap();
        assert_ne!(count, 0, "it ended after {all:?}");
        all.push_str(std::str::from_utf8(&block[..count]).unwrap());
    }
    all
}

fn rest(mut from: impl Read) -> String {
    let mut all = String::new();
    from.read_to_string(&mut all).unwrap();
    all
}

/// Starts a container; what it writes to its standard output.
async fn start_with_output<'o>(
    client: &Client,
    path: &OwnedObjectPath,
    more: impl IntoIterator<Item = (&'o str, Variant<'o>)>,
) -> PipeReader {
    let (reader, writer) = pipe().unwrap();
    let mut options =
        Options::from([("Stdout", Fd::from(std::os::fd::OwnedFd::from(writer)).into())]);
    options.extend(more);
    client.job(path, "Container", "Start", &(0_u64, options)).await.unwrap().done();
    reader
}

async fn stopped(client: &Client, path: &OwnedObjectPath) {
    let reply = client.call(path, "Container", "WaitFD", &("stopped", 0_u64)).await.unwrap();
    assert!(read(reply.body().deserialize().unwrap()).await.contains("\"ExitCode\":3"));
}

#[test]
fn privileged_who_starts_a_container_with_a_pipe_gets_all_that_it_writes() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create("c", "seq 20000; exit 3").await;
        let want = (1..=20_000).fold(String::new(), |all, n| all + &n.to_string() + "\n");
        for _ in 0..3 {
            let output = start_with_output(&client, &path, []).await;
            assert!(rest(output) == want, "something is missing, or too much");
            stopped(&client, &path).await;
        }
        let logs = client.logs(&path, Options::new()).await;
        assert_eq!(logs.lines().count(), 3 * 20_000, "it is in the log as well");

        // What it has not cannot be given to it.
        let (reader, _writer) = pipe().unwrap();
        let stdin = Variant::from(Fd::from(std::os::fd::OwnedFd::from(reader)));
        for (key, value) in [("Stdin", stdin), ("Rows", 24_u16.into())] {
            let options = Options::from([(key, value)]);
            let refused = client.call(&path, "Container", "Start", &(0_u64, options)).await;
            assert_eq!(refused.unwrap_err().name, format!("{ERROR}.InvalidState"), "{key}");
        }
        let refused = attach(&client, &path, false).await.err().unwrap();
        assert_eq!(refused.name, format!("{ERROR}.NotRunning"));
        let refused = client.call(&path, "Container", "Resize", &(7_u16, 77_u16)).await;
        assert_eq!(refused.unwrap_err().name, format!("{ERROR}.NotRunning"));
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_a_container_reads_what_is_typed_and_its_terminal_has_a_size() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let script = "tty; stty size; while read a; do echo got $a; stty size; done; exit 5";
        let options = create_options(script, "TTY");
        let path = client.create_with("c", options).await.unwrap();
        assert!(client.container(&path).await.get::<bool>("TTY"));
        let size = [("Rows", Variant::from(24_u16)), ("Columns", 100_u16.into())];
        let mut output = start_with_output(&client, &path, size).await;
        until(&mut output, "/dev/pts/0\r\n24 100\r\n");

        let Pipes { stdin, mut stdout, stderr } = attach(&client, &path, true).await.unwrap();
        let mut stdin = stdin.unwrap();
        stdin.write_all(b"one\n").unwrap();
        until(&mut stdout, "one\r\ngot one\r\n24 100\r\n");
        client.call(&path, "Container", "Resize", &(7_u16, 77_u16)).await.unwrap();
        stdin.write_all(b"two\n").unwrap();
        until(&mut stdout, "got two\r\n7 77\r\n");
        // Who goes away leaves it as it is.
        drop((stdin, stdout, stderr));
        let Pipes { stdin, stdout, stderr } = attach(&client, &path, true).await.unwrap();
        stdin.unwrap().write_all(b"three\n\x04").unwrap();
        assert!(rest(stdout).ends_with("got three\r\n7 77\r\n"));
        assert_eq!(rest(stderr), "");
        assert_eq!(client.exit(&path).await.code, 5);
        until(&mut output, "got three\r\n7 77\r\n");
        client.remove(&path).await.done();

        let plain = client.create("p", "exec sleep 1000").await;
        client.start(&plain).await.done();
        let refused = attach(&client, &plain, true).await.err().unwrap();
        assert_eq!(refused.name, format!("{ERROR}.InvalidState"));
        let refused = client.call(&plain, "Container", "Resize", &(7_u16, 77_u16)).await;
        assert_eq!(refused.unwrap_err().name, format!("{ERROR}.InvalidState"));
        client.remove(&plain).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_who_has_attached_does_not_notice_that_the_daemon_is_another_one() {
    on_scratch_host(async |host| {
        let spawner = TareSpawn::start(host);
        let mut tared = Tared::with(spawner.setup.clone());
        let client = tared.client().await;
        client.import_busybox().await;
        let script = "while read a; do echo got $a; done; echo end >&2; exit 6";
        let path = client.create_with("c", create_options(script, "OpenStdin")).await.unwrap();
        let mut first = start_with_output(&client, &path, []).await;
        let Pipes { stdin, mut stdout, stderr } = attach(&client, &path, true).await.unwrap();
        let mut stdin = stdin.unwrap();
        tared.kill9();
        drop(client);
        stdin.write_all(b"one\n").unwrap();
        until(&mut stdout, "got one\n");
        until(&mut first, "got one\n");
        let mut tared = tared.restart();
        let client = tared.client().await;
        let late = attach(&client, &path, false).await.unwrap();
        stdin.write_all(b"two\n").unwrap();
        drop(stdin);
        assert_eq!((rest(stdout).as_str(), rest(stderr).as_str()), ("got two\n", "end\n"));
        assert_eq!((rest(first).as_str(), rest(late.stdout).as_str()), ("got two\n", "got two\n"));
        assert_eq!(client.exit(&path).await.code, 6);
        client.remove(&path).await.done();
        tared.stop();
        spawner.stop();
    });
}

#[test]
fn privileged_a_start_that_fails_with_pipes_leaves_none_of_them_open() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        for (key, command) in [("TTY", "/absent"), ("OpenStdin", "/etc")] {
            let options = Options::from([("Command", vec![command].into()), (key, true.into())]);
            let path = client.create_with("c", options).await.unwrap();
            let (reader, writer) = pipe().unwrap();
            let stdout = Fd::from(std::os::fd::OwnedFd::from(writer)).into();
            let options = Options::from([("Stdout", stdout)]);
            let ended = client.job(&path, "Container", "Start", &(0_u64, options)).await.unwrap();
            assert!(failure(&ended).starts_with(&format!("{ERROR}.CommandNot")), "{ended:?}");
            assert_eq!(rest(reader), "");
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_tarectl_stays_with_a_container() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let tarectl = |arguments: &[&str], input: &str| {
            let mut command = Command::new(bin("tarectl"));
            command.arg("--address").arg(tared.address()).args(arguments);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (output.status.code(), text(output.stdout), text(output.stderr))
        };
        let run = ["run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo err >&2; exit 7"];
        assert_eq!(tarectl(&run, "in\n"), (Some(7), "in\n".into(), "err\n".into()));
        let run = ["run", "-t", "-i", "--rm", "busybox", "sh", "-c", "read a; echo got $a; exit 8"];
        let (code, output, _) = tarectl(&run, "in\n");
        assert_eq!((code, output.as_str()), (Some(8), "in\r\ngot in\r\n"));
        let (code, _, errors) = tarectl(&["run", "-i", "busybox", "/absent"], "");
        assert!(code == Some(1) && errors.contains("CommandNotFound"), "{errors}");
        assert_eq!(client.list("ListContainers").await.len(), 0, "it is taken back");

        let detached = ["run", "-di", "--name", "c", "busybox", "sh", "-c", "read a; echo got $a"];
        assert_eq!(tarectl(&detached, "").0, Some(0));
        assert_eq!(tarectl(&["attach", "c"], "in\n"), (Some(0), "got in\n".into(), String::new()));
        assert_eq!(tarectl(&["rm", "c"], "").0, Some(0));
        tared.stop();
    });
}
