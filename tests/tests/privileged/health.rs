//! Checks of whether containers are well.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use rustix::process::Pid;
use system_tests::main_job::changes;
use system_tests::{Client, Options, Properties, Tared, on_scratch_host, read};
use zbus::{OwnedFd, OwnedObjectPath, Variant};

use crate::crash::pid;

/// Well as long as there is a file in its root.
const FILE: &str = "test -e /well";

fn check(options: &[(&'static str, Variant<'static>)]) -> Variant<'static> {
    let mut check = HashMap::from([
        ("Command", Variant::from(vec!["sh", "-c", FILE])),
        ("IntervalUSec", 100_000_u64.into()),
        ("Retries", 2_u32.into()),
    ]);
    for (key, value) in options {
        check.insert(key, value.try_clone().unwrap());
    }
    check.into()
}

async fn checked(
    client: &Client,
    name: &str,
    script: &str,
    check: Variant<'static>,
) -> OwnedObjectPath {
    let command = vec!["sh", "-c", script];
    let options = Options::from([("Command", command.into()), ("Healthcheck", check)]);
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

/// Waits until a container is that well.
async fn until(client: &Client, path: &OwnedObjectPath, health: &str) {
    for _ in 0..3000 {
        if client.container(path).await.text("Health") == health {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {health}: {:?}", client.container(path).await);
}

fn file(process: Pid) -> String {
    format!("/proc/{}/root/well", process.as_raw_nonzero())
}

#[test]
fn privileged_containers_are_checked_and_only_changes_are_told() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = checked(&client, "c", "exec sleep 1000", check(&[])).await;
        let well = file(pid(&client.container(&path).await));
        until(&client, &path, "unhealthy").await;
        let reply = client.call(&path, "Container", "WaitFD", &("healthy", 0_u64)).await.unwrap();
        let line: OwnedFd = reply.body().deserialize().unwrap();
        drop(reply);
        fs::write(&well, "").unwrap();
        until(&client, &path, "healthy").await;
        assert!(read(line).await.contains("\"State\":\"running\""));

        // Nobody hears of checks that say what is known, and they leave nothing.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(client.container(&path).await.paths("Processes").is_empty());
        let told = changes(&client, &path);
        let is_well = |it: &&Properties| it.has("Health") && it.text("Health") == "healthy";
        assert_eq!(told.iter().filter(is_well).count(), 1, "{told:?}");
        assert!(told.last().is_some_and(|last| is_well(&last)), "{told:?}");

        // What is paused cannot answer, and nobody asks it.
        client.call(&path, "Container", "Pause", &0_u64).await.unwrap();
        fs::remove_file(&well).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(client.container(&path).await.text("Health"), "healthy");
        client.call(&path, "Container", "Resume", &0_u64).await.unwrap();
        until(&client, &path, "unhealthy").await;

        // Another daemon knows how it is, and goes on.
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(client.container(&path).await.text("Health"), "unhealthy");
        assert!(client.container(&path).await.paths("Processes").is_empty());
        fs::write(&well, "").unwrap();
        until(&client, &path, "healthy").await;
        client.stop(&path).await.done();
        assert_eq!(client.container(&path).await.text("Health"), "none");
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_what_is_not_well_is_killed_restarted_or_left_alone() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let kill = check(&[("OnFailure", "kill".into())]);
        let killed = checked(&client, "killed", "exec sleep 1000", kill).await;
        assert_eq!(client.exit(&killed).await.code, 137);

        // It is well after its first restart: what it has made is in its root.
        let restart = check(&[("OnFailure", "restart".into())]);
        let script = "test -e /before && touch /well; touch /before; exec sleep 1000";
        let again = checked(&client, "again", script, restart).await;
        until(&client, &again, "healthy").await;

        // Failures that do not count yet, and a check that does not end.
        let late = check(&[("StartPeriodUSec", 3_600_000_000_u64.into())]);
        let late = checked(&client, "late", "exec sleep 1000", late).await;
        let hangs = check(&[
            ("Command", vec!["sleep", "1000"].into()),
            ("TimeoutUSec", 200_000_u64.into()),
        ]);
        let hangs = checked(&client, "hangs", "exec sleep 1000", hangs).await;
        until(&client, &hangs, "unhealthy").await;
        let missing = check(&[("Command", vec!["/no/such/program"].into())]);
        let missing = checked(&client, "missing", "exec sleep 1000", missing).await;
        until(&client, &missing, "unhealthy").await;
        assert_eq!(client.container(&late).await.text("Health"), "starting");

        for (wrong, name) in [
            (("IntervalUSec", Variant::from(1_u64)), "InvalidArgs"),
            (("Retries", 0_u32.into()), "InvalidArgs"),
            (("OnFailure", "pray".into()), "InvalidArgs"),
            (("Hope", 1_u32.into()), "UnknownOption"),
        ] {
            let options = Options::from([("Healthcheck", check(&[wrong]))]);
            assert_eq!(client.create_with("x", options).await.unwrap_err().short(), name, "{name}");
        }
        for path in [killed, again, late, hangs, missing] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}
