//! A host on which not all is as it should be.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};
use system_tests::{Tared, on_scratch_host, started};

use crate::crash::pid;

/// What went on goes on, what cannot be written down is not begun, and when it can be, all is as before.
#[test]
fn privileged_on_a_state_that_cannot_be_written_nothing_is_begun() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "trap 'exit 7' TERM; while :; do sleep 0.05; done").await;
        let process = pid(&client.container(&path).await);
        tared.kill9();
        drop(client);

        let setup = tared.setup().clone();
        mount_bind(&setup.state, &setup.state).unwrap();
        mount_remount(&setup.state, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        let mut refused = Tared::begin(setup.clone());
        assert!(!refused.wait().success());
        let log = refused.log();
        assert!(log.contains("Read-only file system"), "it says why: {log}");
        assert!(fs::exists(format!("/proc/{}", process.as_raw_nonzero())).unwrap(), "it goes on");
        unmount(&setup.state, UnmountFlags::empty()).unwrap();

        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(pid(&client.container(&path).await), process);
        client.stop(&path).await.done();
        assert_eq!(client.exit(&path).await.code, 7);
        client.remove(&path).await.done();
        tared.stop();
    });
}
