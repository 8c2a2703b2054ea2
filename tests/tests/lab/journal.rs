//! The journal: who did what.

use serde_json::Value;
use system_tests::Ring::System;
use system_tests::{Lab, in_lab};

/// The records of the service since the case began.
fn records(lab: &Lab) -> Vec<Value> {
    let text = lab.journal("json", &["--unit=tared.service"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lab_the_journal_says_who_did_what() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let path = client.create("audited", "true").await;
        client.remove(&path).await.done();
        // What is a job is told of when it begins; its end is told by the container's.
        for (action, result) in [("create-container", "done"), ("remove-containers", "begun")] {
            let action = format!("org.tare.containers1.{action}");
            let found: Vec<Value> = records(lab)
                .into_iter()
                .filter(|it| it["POLKIT_ACTION"] == *action && it["CONTAINER"] == "audited")
                .collect();
            let [record] = &found[..] else { panic!("{action}: {found:?}") };
            assert_eq!(record["CALLER_UID"], "0", "{record}");
            assert_eq!(record["RESULT"], result, "{record}");
            assert_eq!(record["SYSLOG_IDENTIFIER"], "tared", "{record}");
            // A field that journald writes, and nobody else can.
            assert_eq!(record["_SYSTEMD_UNIT"], "tared.service", "{record}");
        }
    });
}
