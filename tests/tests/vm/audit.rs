//! What a container was kept from is told to the host's administrator.

use std::process::Command;
use std::time::{Duration, Instant};

use system_tests::Ring::Machine;
use system_tests::{Lab, Options, in_lab};

/// Longer than a line of the kernel takes to the journal of a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first line of the journal with all of these words.
async fn line(lab: &Lab, words: &[&str]) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let journal = lab.journal("cat", &[]);
        let mut lines = journal.lines();
        if let Some(line) = lines.find(|line| words.iter().all(|word| line.contains(word))) {
            return line.to_owned();
        }
        assert!(Instant::now() < end, "no {words:?} in the journal:\n{journal}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A container that sees all processes, with the profile that all have by themselves. What that denies in so
/// many words the kernel keeps to itself; what it does not allow is told.
#[test]
fn vm_apparmor_a_denial_is_in_the_journal() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let mut host = Command::new("sleep").arg("1000").spawn().unwrap();
        let options =
            Options::from([("Command", vec!["sleep", "1000"].into()), ("PIDMode", "host".into())]);
        let path = client.create_with("c", options).await.unwrap();
        client.start(&path).await.done();
        let tried = client.exec(&path, &format!("kill -CONT {}", host.id())).await;
        host.kill().unwrap();
        host.wait().unwrap();
        assert_ne!(tried.code, 0, "{tried:?}");
        assert!(tried.stderr.to_lowercase().contains("permission denied"), "{tried:?}");
        let denied = ["apparmor=\"DENIED\"", "operation=\"signal\"", "profile=\"tare-default\""];
        let line = line(lab, &denied).await;
        assert!(line.contains("peer=\"unconfined\""), "{line}");
        client.remove(&path).await.done();
    });
}
