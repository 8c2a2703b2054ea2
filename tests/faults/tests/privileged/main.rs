//! Every effect of every operation fails, hangs, and is where the daemon is killed, one after the
//! other, on the real implementation; what the host looks like afterwards says whether that was
//! taken back.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

mod left_out;
mod moved_ports;
mod new_step;
mod owed_networks;
mod resting;
mod shared_firewall;

use fault_tests::all_operations;
use fault_tests::begin::{Fate, begin_everywhere, share_everywhere};
use fault_tests::lab::Lab;
use fault_tests::matrix::Matrix;
use fault_tests::operations::Operation;
use system_tests::on_busy_scratch_host;

/// For each operation, a test for each kind of fault, or one for all of them.
macro_rules! tests {
    ($($name:ident: $operation:ty, $how:ident, $where:tt;)+) => {
        $(mod $name {
            use super::*;

            $how!($operation);
        })+
    };
}

macro_rules! apart {
    ($operation:ty) => {
        #[test]
        fn privileged_fails() {
            on_daemon(async |lab, matrix: &mut Matrix<$operation>| {
                matrix.fail_everywhere(lab).await;
            });
        }

        #[test]
        fn privileged_hangs() {
            on_daemon(async |lab, matrix: &mut Matrix<$operation>| {
                matrix.hang_everywhere(lab).await;
            });
        }

        #[test]
        fn privileged_is_cut_off() {
            on_daemon(async |lab, matrix: &mut Matrix<$operation>| {
                matrix.kill_everywhere(lab).await;
            });
        }
    };
}

macro_rules! together {
    ($operation:ty) => {
        #[test]
        fn privileged_fails_hangs_and_is_cut_off() {
            on_daemon(async |lab, matrix: &mut Matrix<$operation>| {
                matrix.fail_everywhere(lab).await;
                matrix.hang_everywhere(lab).await;
                matrix.kill_everywhere(lab).await;
            });
        }
    };
}

fn on_daemon<O: Operation + Send>(drive: impl AsyncFnOnce(&mut Lab<'_>, &mut Matrix<O>) + Send) {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        let mut matrix = Matrix::record(&mut lab, O::default()).await;
        drive(&mut lab, &mut matrix).await;
        matrix.report(&mut lab).await;
        lab.end();
    });
}

all_operations!(tests);

#[test]
fn privileged_a_daemon_that_fails_as_it_begins_is_followed_by_a_whole_one() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        begin_everywhere(&mut lab, Fate::Fails).await;
        lab.end();
    });
}

#[test]
fn privileged_a_daemon_that_is_killed_as_it_begins_is_followed_by_a_whole_one() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        begin_everywhere(&mut lab, Fate::Killed).await;
        lab.end();
    });
}

#[test]
fn privileged_what_containers_share_goes_with_the_daemon() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        share_everywhere(&mut lab).await;
        lab.end();
    });
}
