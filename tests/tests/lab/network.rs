//! What containers reach, and as whom, beside a real host's own network settings.

use system_tests::Ring::System;
use system_tests::{in_lab, network};

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
