//! What containers reach, and as whom.

use rustix::mount::{UnmountFlags, unmount};
use system_tests::main_job::address;
use system_tests::{Tared, network, on_scratch_host};

use super::started;

#[test]
fn privileged_containers_reach_each_other_and_the_host() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network::containers_reach_each_other_and_the_host(&client).await;
        tared.stop();
    });
}

#[test]
fn privileged_the_world_sees_the_hosts_address() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network::the_world_sees_the_hosts_address(&client).await;
        tared.stop();
        // `ip` made it a mount before the daemon was there, so it is not the daemon's to undo.
        unmount("/run/netns", UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn privileged_an_address_rests_before_it_is_used_again() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mut seen = Vec::new();
        for name in ["a", "b", "c"] {
            let path = started(&client, name, "sleep 1000").await;
            seen.push(address(&client, &path).await["Address"].clone());
            client.remove(&path).await.done();
        }
        let mut different = seen.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 3, "{seen:?}");
        tared.stop();
    });
}
