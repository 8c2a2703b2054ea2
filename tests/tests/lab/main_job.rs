//! One container's whole life, under the unit that is shipped.

use system_tests::Ring::System;
use system_tests::in_lab;
use system_tests::main_job::main_job;

#[test]
fn lab_the_main_job() {
    in_lab(System, async |lab| main_job(&lab.client().await).await);
}
