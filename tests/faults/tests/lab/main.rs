//! The same with the installed service, under systemd: effects of `tare-spawn` and `tare-names`, which are
//! programs of their own there, and what is asked of systemd.

use fault_tests::all_operations;
use fault_tests::begin::begin_names_everywhere;
use fault_tests::lab::Lab;
use fault_tests::matrix::Matrix;
use fault_tests::operations::{Operation, take_away_what_stays};
use system_tests::Ring::System;
use system_tests::in_lab;

/// For each operation, a test for each kind of fault.
macro_rules! tests {
    ($($name:ident: $operation:ty, $how:ident, $where:tt;)+) => {
        $(test!($name: $operation, $where);)+
    };
}

macro_rules! test {
    // It says why not.
    ($name:ident: $operation:ty, $why:literal) => {};
    ($name:ident: $operation:ty, installed) => {
        mod $name {
            use super::*;

            #[test]
            fn lab_fails() {
                on_installed(async |lab, matrix: &mut Matrix<$operation>| {
                    matrix.fail_everywhere(lab).await;
                });
            }

            #[test]
            fn lab_hangs() {
                on_installed(async |lab, matrix: &mut Matrix<$operation>| {
                    matrix.hang_everywhere(lab).await;
                });
            }

            #[test]
            fn lab_is_cut_off() {
                on_installed(async |lab, matrix: &mut Matrix<$operation>| {
                    matrix.kill_everywhere(lab).await;
                });
            }

            #[test]
            fn lab_has_its_helpers_killed() {
                on_installed(async |lab, matrix: &mut Matrix<$operation>| {
                    matrix.kill_helpers_everywhere(lab).await;
                });
            }
        }
    };
}

fn on_installed<O: Operation + Send>(
    drive: impl AsyncFnOnce(&mut Lab<'static>, &mut Matrix<O>) + Send,
) {
    on_lab(async |lab| {
        let mut matrix = Matrix::record(lab, O::default()).await;
        drive(lab, &mut matrix).await;
        matrix.report(lab).await;
    });
}

fn on_lab(case: impl AsyncFnOnce(&mut Lab<'static>) + Send) {
    in_lab(System, async |_| {
        let mut lab = Lab::of_installed_service().await;
        case(&mut lab).await;
        take_away_what_stays(lab.client()).await;
    });
}

all_operations!(tests);

#[test]
fn lab_a_server_of_names_that_begins_badly_is_told_again() {
    on_lab(async |lab| begin_names_everywhere(lab).await);
}
