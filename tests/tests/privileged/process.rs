//! What a container's process is made of, and by what.

use std::os::fd::AsFd;

use system_tests::image::file_of;
use system_tests::{Client, ERROR, Options, Tared, on_scratch_host};
use zbus::{Fd, OwnedObjectPath, Variant};

const WRONG: &str = "org.freedesktop.DBus.Error.InvalidArgs";

fn sleeping() -> Options<'static> {
    Options::from([("Command", vec!["sleep", "1000"].into())])
}

fn with(key: &'static str, value: Variant<'static>) -> Options<'static> {
    let mut options = sleeping();
    options.insert(key, value);
    options
}

async fn running(client: &Client, name: &str, options: Options<'_>) -> OwnedObjectPath {
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

async fn refusal(client: &Client, options: Options<'_>) -> (String, String) {
    let refused = client.create_with("refused", options).await.unwrap_err();
    (refused.name, refused.message)
}

#[test]
fn privileged_variables_come_from_a_file_that_is_handed_over() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let file = file_of(b"# a comment\nA=from the file\n\nB=\"x\"\n");
        let fd = || Variant::Fd(Fd::from(file.as_fd().try_clone_to_owned().unwrap()));
        let mut options = with("EnvFile", fd());
        options.insert("Env", vec!["A=said"].into());
        let path = running(&client, "c", options).await;
        let seen = client.exec(&path, "cat /proc/1/environ | tr '\\0' '\\n' | grep '^[AB]='").await;
        assert_eq!(seen.stdout, "A=said\nB=\"x\"\n");
        client.remove(&path).await.done();

        let bad = file_of(b"A=b\nhunter2\n");
        let bad = Variant::Fd(Fd::from(bad.as_fd().try_clone_to_owned().unwrap()));
        let (name, message) = refusal(&client, with("EnvFile", bad)).await;
        assert_eq!(name, WRONG);
        assert!(message.contains("'EnvFile'") && message.contains("line 2"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
        let (pipe, _writer) = std::io::pipe().unwrap();
        let pipe = Variant::Fd(Fd::from(std::os::fd::OwnedFd::from(pipe)));
        assert_eq!(refusal(&client, with("EnvFile", pipe)).await.0, WRONG, "nobody waits for it");
        tared.stop();
    });
}

#[test]
fn privileged_an_init_reaps_what_the_command_leaves_behind() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        // Orphans that have ended, and a way to ask for the end.
        let script = "(sleep 0.1 & exec true); trap 'exit 7' TERM; while :; do sleep 0.1; done";
        let mut options = with("Init", true.into());
        options.insert("Command", vec!["sh", "-c", script].into());
        let path = running(&client, "c", options).await;
        let names = client.exec(&path, "cat /proc/1/comm; grep -c zombie /proc/*/status").await;
        assert!(
            names.stdout.starts_with("catatonit\n") || names.stdout.starts_with("tare-init\n"),
            "{names:?}"
        );
        let zombies = "sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
        assert_eq!(client.exec(&path, zombies).await.stdout, "0\n");
        let written = client.exec(&path, "echo x > /run/tare-init || echo refused").await;
        assert_eq!(written.stdout, "refused\n", "it is the host's");
        client.stop(&path).await.done();
        assert_eq!(client.exit(&path).await.code, 7, "the signal is handed on");
        client.remove(&path).await.done();

        let mut options = with("Init", true.into());
        options.insert("PIDMode", "host".into());
        assert_eq!(refusal(&client, options).await.0, WRONG, "it would not be process 1");
        tared.stop();
    });
}

#[test]
fn privileged_a_container_is_made_by_the_runtime_it_names() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let features: Vec<String> =
            client.properties(system_tests::ROOT, "Manager").await.get("Features");
        let works = if features.iter().any(|it| it == "crun") { "crun" } else { "runc" };
        let path = running(&client, "c", with("Runtime", works.into())).await;
        assert_eq!(client.exec(&path, "echo hello").await.stdout, "hello\n");
        assert!(client.container(&path).await.get::<bool>("Privileged"), "the choice is a reason");
        client.remove(&path).await.done();
        // On this host crun may not work, in a lab system both do.
        let other = if works == "crun" { "runc" } else { "crun" };
        let path = client.create_with("c", with("Runtime", other.into())).await.unwrap();
        let started = client.start(&path).await;
        if started.result == "done" {
            assert_eq!(client.exec(&path, "echo hello").await.stdout, "hello\n");
        } else {
            assert_eq!(started.error_name, format!("{ERROR}.RuntimeFailed"), "{started:?}");
        }
        client.remove(&path).await.done();
        let (name, message) = refusal(&client, with("Runtime", "youki".into())).await;
        assert_eq!(name, WRONG);
        assert!(message.contains("crun or runc"), "{message}");
        tared.stop();
    });
}

#[test]
fn privileged_the_hardware_address_is_that_of_the_first_network() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mac = "02:11:22:33:44:55";
        let path = running(&client, "c", with("MAC", mac.into())).await;
        let seen = client.exec(&path, "cat /sys/class/net/eth0/address").await;
        assert_eq!(seen.stdout.trim(), mac);
        client.remove(&path).await.done();
        for (key, value) in [("NetworkMode", Variant::from("none")), ("MAC", "01:00".into())] {
            let mut options = with("MAC", mac.into());
            options.insert(key, value);
            let (name, _) = refusal(&client, options).await;
            assert_eq!(name, WRONG, "{key}");
        }
        tared.stop();
    });
}
