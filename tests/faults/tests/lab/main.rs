//! The same with the installed service, under systemd: effects of `tare-spawn`, which is a program of its
//! own there, and what is asked of systemd.

use fault_tests::lab::Lab;
use fault_tests::matrix::Matrix;
use fault_tests::operations::{Exec, Remove, Start, Stop};
use system_tests::Ring::System;
use system_tests::in_lab;

/// One test for each operation and each kind of fault.
macro_rules! tests {
    ($($name:ident: $operation:expr, $method:ident;)+) => {
        $(#[test]
        fn $name() {
            in_lab(System, async |_| {
                let mut lab = Lab::of_installed_service().await;
                Matrix::record(&mut lab, $operation).await.$method(&mut lab).await;
            });
        })+
    };
}

tests! {
    lab_a_start_that_fails_leaves_nothing: Start, fail_everywhere;
    lab_a_start_that_hangs_holds_up_nobody: Start, hang_everywhere;
    lab_a_start_that_is_cut_off_leaves_nothing: Start, kill_everywhere;
    lab_a_start_without_tare_spawn_leaves_nothing: Start, kill_spawner_everywhere;
    lab_an_exec_that_fails_leaves_nothing: Exec, fail_everywhere;
    lab_an_exec_that_hangs_holds_up_nobody: Exec, hang_everywhere;
    lab_an_exec_that_is_cut_off_leaves_nothing: Exec, kill_everywhere;
    lab_an_exec_without_tare_spawn_leaves_nothing: Exec, kill_spawner_everywhere;
    lab_a_stop_that_fails_can_be_repeated: Stop, fail_everywhere;
    lab_a_stop_that_hangs_holds_up_nobody: Stop, hang_everywhere;
    lab_a_stop_that_is_cut_off_can_be_repeated: Stop, kill_everywhere;
    lab_a_stop_without_tare_spawn_can_be_repeated: Stop, kill_spawner_everywhere;
    lab_a_removal_that_is_cut_off_can_be_repeated: Remove, kill_everywhere;
}
