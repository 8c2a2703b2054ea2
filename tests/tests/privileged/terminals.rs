//! Terminals of processes that are executed in a container: who has one has all that goes over it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};

use system_tests::{Client, ERROR, Options, Tared, on_scratch_host, read, started};
use zbus::{OwnedFd, OwnedObjectPath};

use crate::crash::{gone, pid};

/// Executes a script at a terminal; its session, and the other side of the terminal.
async fn at_a_terminal(
    client: &Client,
    path: &OwnedObjectPath,
    script: &str,
) -> (OwnedObjectPath, File) {
    let options = Options::from([
        ("TTY", true.into()),
        ("Rows", 24_u16.into()),
        ("Columns", 100_u16.into()),
        ("Env", vec!["PS1=> "].into()),
    ]);
    let body = (vec!["sh", "-c", script], options);
    let reply = client.call(path, "Container", "Exec", &body).await.unwrap();
    let (process, mut fds): (OwnedObjectPath, HashMap<String, OwnedFd>) =
        reply.body().deserialize().unwrap();
    assert_eq!(fds.keys().collect::<Vec<_>>(), ["pty"]);
    let pty = std::os::fd::OwnedFd::from(fds.remove("pty").unwrap());
    (process, File::from(pty))
}

/// Reads on until there is `end`.
fn until(terminal: &mut File, end: &str) -> String {
    let (mut all, mut block) = (String::new(), [0; 4096]);
    while !all.contains(end) {
        let count = terminal.read(&mut block).unwrap_or_else(|error| panic!("{error}: {all:?}"));
        all.push_str(std::str::from_utf8(&block[..count]).unwrap());
    }
    all
}

/// All that is left, up to the end of the process.
fn rest(mut terminal: File) -> String {
    let (mut all, mut block) = (Vec::new(), [0; 4096]);
    // The end of a terminal is an error.
    while let Ok(count @ 1..) = terminal.read(&mut block) {
        all.extend_from_slice(&block[..count]);
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn privileged_a_terminal_is_the_callers_and_no_byte_of_it_is_lost() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "exec sleep 1000").await;

        // What was said before anybody could listen is there, first byte to last.
        for round in 0..20 {
            let script = format!("tty; echo {round}; seq 100; exit 3");
            let (process, terminal) = at_a_terminal(&client, &path, &script).await;
            assert_eq!(client.session_code(&process).await, 3);
            let numbers: Vec<_> = (1..=100).map(|number: u32| number.to_string()).collect();
            let numbers = numbers.join("\r\n") + "\r\n";
            assert_eq!(rest(terminal), format!("/dev/pts/0\r\n{round}\r\n{numbers}"));
        }

        // It is a terminal that the process is at home on, of the size that was asked for.
        let script = "stty size; trap 'stty size' WINCH; sleep 1000 & while :; do wait $!; done";
        let (process, mut terminal) = at_a_terminal(&client, &path, script).await;
        assert!(client.properties(&process, "Process").await.get::<bool>("TTY"));
        until(&mut terminal, "24 100\r\n");
        client.call(&process, "Process", "Resize", &(7_u16, 77_u16)).await.unwrap();
        until(&mut terminal, "7 77\r\n");
        terminal.write_all(b"\x03").unwrap();
        assert_eq!(client.session_code(&process).await, 130, "Ctrl-C");

        // It goes on while there is no daemon, and can be resized by another one.
        let (process, mut terminal) =
            at_a_terminal(&client, &path, "while read a; do echo got $a; stty size; done").await;
        tared.kill9();
        drop(client);
        terminal.write_all(b"one\n").unwrap();
        until(&mut terminal, "got one\r\n24 100\r\n");
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert!(client.properties(&process, "Process").await.get::<bool>("TTY"));
        client.call(&process, "Process", "Resize", &(8_u16, 88_u16)).await.unwrap();
        terminal.write_all(b"two\n").unwrap();
        until(&mut terminal, "got two\r\n8 88\r\n");

        // Who closes it hangs up.
        let hung = pid(&client.properties(&process, "Process").await);
        drop(terminal);
        gone(hung).await;
        client.remove(&path).await.done();
        let left: Vec<_> = fs::read_dir(&tared.setup().runtime).unwrap().flatten().collect();
        let sockets = left.iter().filter(|it| it.file_name().to_string_lossy().starts_with("tty-"));
        assert_eq!(sockets.count(), 0, "{left:?}");
        tared.stop();
    });
}

#[test]
fn privileged_sessions_are_signaled_waited_for_and_watched() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "exec sleep 1000").await;
        let process =
            client.begin_exec(&path, "trap 'exit 9' USR1; while :; do sleep 0.02; done").await;
        let no_terminal = client.call(&process, "Process", "Resize", &(7_u16, 77_u16)).await;
        assert_eq!(no_terminal.unwrap_err().name, format!("{ERROR}.InvalidState"));
        for signal in [0, 65, -1] {
            let refused = client.call(&process, "Process", "Kill", &(signal, 0_u64)).await;
            assert_eq!(refused.unwrap_err().short(), "InvalidArgs", "{signal}");
        }
        let wait = ("stopped", 0_u64);
        let reply = client.call(&process, "Process", "WaitFD", &wait).await.unwrap();
        let line: OwnedFd = reply.body().deserialize().unwrap();
        drop(reply);
        let reply = client.call(&process, "Process", "OpenPIDFD", &0_u64).await.unwrap();
        let pidfd: OwnedFd = reply.body().deserialize().unwrap();
        // Until the trap is set, which nobody can see, it is the end of it as well.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        client.call(&process, "Process", "Kill", &(10, 0_u64)).await.unwrap();
        assert_eq!(client.session_code(&process).await, 9);
        assert!(read(line).await.contains("\"ExitCode\":9"));
        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap_err();
        for (method, body) in [("OpenPIDFD", None), ("Kill", Some((10, 0_u64)))] {
            let ended = match body {
                Some(body) => client.call(&process, "Process", method, &body).await,
                None => client.call(&process, "Process", method, &0_u64).await,
            };
            assert_eq!(ended.unwrap_err().name, format!("{ERROR}.NotRunning"), "{method}");
        }
        // At once, for it has ended.
        let reply = client.call(&process, "Process", "WaitFD", &wait).await.unwrap();
        assert!(read(reply.body().deserialize().unwrap()).await.contains("\"ExitCode\":9"));
        let refused = client.call(&process, "Process", "WaitFD", &("running", 0_u64)).await;
        assert_eq!(refused.unwrap_err().short(), "InvalidArgs");
        let both = Options::from([("TTY", true.into()), ("Detach", true.into())]);
        let refused = client.call(&path, "Container", "Exec", &(vec!["true"], both)).await;
        assert_eq!(refused.unwrap_err().short(), "InvalidArgs");
        client.remove(&path).await.done();
        tared.stop();
    });
}
