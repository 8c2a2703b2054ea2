//! The service on a whole machine: with all control groups, and with what enforces security there.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

mod apparmor;
mod audit;
mod limits;
mod quota;
mod resolvers;
mod selinux;
mod vlan;

use std::fs;

use system_tests::Ring::Machine;
use system_tests::in_lab;
use system_tests::main_job::main_job;

#[test]
fn vm_the_main_job() {
    in_lab(Machine, async |lab| main_job(&lab.client().await).await);
}

#[test]
fn vm_selinux_the_main_job() {
    in_lab(Machine, async |lab| {
        assert_eq!(
            fs::read_to_string("/sys/fs/selinux/enforce").ok().as_deref(),
            Some("0"),
            "permissive"
        );
        main_job(&lab.client().await).await;
    });
}
