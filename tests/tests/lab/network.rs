//! What containers reach, and as whom, beside a real host's own network settings.

use std::fs;

use system_tests::Ring::System;
use system_tests::main_job::address;
use system_tests::{Asking, Client, in_lab, network, run, started};
use zbus::OwnedObjectPath;

use crate::unit::{another_daemon, main_pid};

#[test]
fn lab_containers_reach_each_other_and_the_host() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        network::containers_reach_each_other_and_the_host(&client).await;
    });
}

#[test]
fn lab_the_world_sees_the_hosts_address() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        network::the_world_sees_the_hosts_address(&client).await;
    });
}

/// Where the containers on the default network ask, and the address of one of them.
async fn server_and_address(client: &Client, path: &OwnedObjectPath) -> (String, Vec<u8>) {
    let known = address(client, path).await;
    let (ip, _) = known["Address"].split_once('/').unwrap();
    let ip: std::net::Ipv4Addr = ip.parse().unwrap();
    (known["Gateway"].clone(), ip.octets().to_vec())
}

fn namespace(path: &OwnedObjectPath) -> String {
    format!("tare-{}", &path.rsplit('/').next().unwrap()[..12])
}

#[test]
fn lab_names_are_answered_while_the_service_is_away() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let db = started(&client, "db", "sleep 1000").await;
        let web = started(&client, "web", "sleep 1000").await;
        let (server, of_db) = server_and_address(&client, &db).await;
        let asking = Asking::from(&namespace(&web), &server, "db");
        let names = main_pid("tare-names.service");
        assert_ne!(names, 0);

        run("systemctl", &["stop", "tared.service"]);
        assert_eq!(main_pid("tared.service"), 0);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(client.list("ListContainers").await.len(), 2, "the call starts it");
        for how in [&["restart"][..], &["kill", "--signal=KILL"]] {
            let daemon = main_pid("tared.service");
            run("systemctl", &[how, &["tared.service"]].concat());
            another_daemon(&client, daemon).await;
        }
        assert_eq!(main_pid("tare-names.service"), names, "it does not notice");
        // The other way round, questions wait.
        run("systemctl", &["restart", "tare-names.service"]);
        let answers = asking.stop();
        let wrong: Vec<_> =
            answers.iter().enumerate().filter(|(_, it)| it.as_ref() != Some(&of_db)).collect();
        assert!(answers.len() > 100 && wrong.is_empty(), "of {}: {wrong:?}", answers.len());

        let names = main_pid("tare-names.service");
        run("systemctl", &["kill", "--signal=KILL", "tare-names.service"]);
        while [0, names].contains(&main_pid("tare-names.service")) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let late = started(&client, "late", "sleep 1000").await;
        let (_, of_late) = server_and_address(&client, &late).await;
        for (name, address) in [("late", of_late), ("db", of_db)] {
            let asking = Asking::from(&namespace(&web), &server, name);
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            assert_eq!(asking.stop().last().unwrap(), &Some(address), "{name}: it is told anew");
        }
        for path in [db, web, late] {
            client.remove(&path).await.done();
        }
    });
}

#[test]
fn lab_who_answers_names_has_no_privilege() {
    in_lab(System, async |_| {
        let pid = main_pid("tare-names.service");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        assert_ne!(field("Uid:"), "0");
        for capabilities in ["CapEff:", "CapPrm:", "CapBnd:", "CapInh:", "CapAmb:"] {
            assert_eq!(u64::from_str_radix(&field(capabilities), 16).unwrap(), 0, "{capabilities}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        assert_ne!(field("Seccomp:"), "0");
    });
}
