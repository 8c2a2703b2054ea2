//! Every effect of every operation fails, hangs, and is where the daemon is killed, one after the
//! other, on the real implementation; what the host looks like afterwards says whether that was
//! taken back.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

mod daemon;
mod left_out;
mod shared_firewall;

use fault_tests::lab::Lab;
use fault_tests::matrix::Matrix;
use fault_tests::network_update::UpdateNetwork;
use system_tests::on_busy_scratch_host;

use fault_tests::operations::{
    Connect, Create, CreateNetwork, Disconnect, Exec, Import, Publish, Remove, RemoveNetwork,
    Start, Stop, Unpublish,
};

/// One test for each operation and each kind of fault.
macro_rules! tests {
    ($($name:ident: $operation:expr, $method:ident;)+) => {
        $(#[test]
        fn $name() {
            on_busy_scratch_host(async |host| {
                let mut lab = Lab::new(host).await;
                Matrix::record(&mut lab, $operation).await.$method(&mut lab).await;
                lab.end();
            });
        })+
    };
}

tests! {
    privileged_a_create_that_fails_leaves_nothing: Create, fail_everywhere;
    privileged_a_create_that_hangs_holds_up_nobody: Create, hang_everywhere;
    privileged_a_create_that_is_cut_off_leaves_nothing: Create, kill_everywhere;
    privileged_a_start_that_fails_leaves_nothing: Start, fail_everywhere;
    privileged_a_start_that_hangs_holds_up_nobody: Start, hang_everywhere;
    privileged_a_start_that_is_cut_off_leaves_nothing: Start, kill_everywhere;
    privileged_an_exec_that_fails_leaves_nothing: Exec, fail_everywhere;
    privileged_an_exec_that_hangs_holds_up_nobody: Exec, hang_everywhere;
    privileged_an_exec_that_is_cut_off_leaves_nothing: Exec, kill_everywhere;
    privileged_a_stop_that_fails_can_be_repeated: Stop, fail_everywhere;
    privileged_a_stop_that_hangs_holds_up_nobody: Stop, hang_everywhere;
    privileged_a_stop_that_is_cut_off_can_be_repeated: Stop, kill_everywhere;
    privileged_a_removal_that_fails_can_be_repeated: Remove, fail_everywhere;
    privileged_a_removal_that_hangs_holds_up_nobody: Remove, hang_everywhere;
    privileged_a_removal_that_is_cut_off_can_be_repeated: Remove, kill_everywhere;
    privileged_an_import_that_fails_leaves_nothing: Import::default(), fail_everywhere;
    privileged_an_import_that_hangs_holds_up_nobody: Import::default(), hang_everywhere;
    privileged_an_import_that_is_cut_off_leaves_nothing: Import::default(), kill_everywhere;
    privileged_making_a_network_fails_and_leaves_nothing: CreateNetwork, fail_everywhere;
    privileged_making_a_network_is_cut_off_and_leaves_nothing: CreateNetwork, kill_everywhere;
    privileged_removing_a_network_fails_and_can_be_repeated: RemoveNetwork, fail_everywhere;
    privileged_removing_a_network_is_cut_off_and_can_be_repeated: RemoveNetwork, kill_everywhere;
    privileged_updating_a_network_fails_and_leaves_nothing: UpdateNetwork, fail_everywhere;
    privileged_updating_a_network_is_cut_off_and_leaves_nothing: UpdateNetwork, kill_everywhere;
    privileged_connecting_fails_and_leaves_nothing: Connect, fail_everywhere;
    privileged_connecting_hangs_and_holds_up_nobody: Connect, hang_everywhere;
    privileged_connecting_is_cut_off_and_leaves_nothing: Connect, kill_everywhere;
    privileged_disconnecting_fails_and_can_be_repeated: Disconnect, fail_everywhere;
    privileged_disconnecting_is_cut_off_and_can_be_repeated: Disconnect, kill_everywhere;
    privileged_publishing_fails_and_leaves_nothing: Publish, fail_everywhere;
    privileged_publishing_is_cut_off_and_leaves_nothing: Publish, kill_everywhere;
    privileged_unpublishing_fails_and_can_be_repeated: Unpublish, fail_everywhere;
    privileged_unpublishing_is_cut_off_and_can_be_repeated: Unpublish, kill_everywhere;
}

#[test]
fn privileged_a_daemon_that_fails_as_it_begins_is_followed_by_a_whole_one() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        daemon::begin_everywhere(&mut lab, daemon::Fate::Fails).await;
        lab.end();
    });
}

#[test]
fn privileged_a_daemon_that_is_killed_as_it_begins_is_followed_by_a_whole_one() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        daemon::begin_everywhere(&mut lab, daemon::Fate::Killed).await;
        lab.end();
    });
}

#[test]
fn privileged_what_containers_share_goes_with_the_daemon() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        daemon::share_everywhere(&mut lab).await;
        lab.end();
    });
}
