//! A step that is added to the code is tried without anybody having to say so.

use fault_tests::NEW_STEP_VARIABLE;
use fault_tests::lab::Lab;
use fault_tests::matrix::Matrix;
use fault_tests::operations::CreateVolume;
use system_tests::{Host, on_busy_scratch_host};

/// In what comes right after it: a row is written for a new volume.
const BEFORE: &str = "::create_volume::";

/// A daemon that has a new step, which makes that file.
fn with_new_step(makes: &str) -> (String, String) {
    (NEW_STEP_VARIABLE.into(), format!("{BEFORE}\t{makes}"))
}

async fn lab<'h>(host: &'h Host, makes: &str) -> Lab<'h> {
    Lab::with(host, [with_new_step(makes)]).await
}

#[test]
fn privileged_a_new_step_is_tried_with_every_fault() {
    on_busy_scratch_host(async |host| {
        let mut lab = lab(host, "").await;
        let mut matrix = Matrix::record(&mut lab, CreateVolume).await;
        matrix.fail_everywhere(&mut lab).await;
        matrix.hang_everywhere(&mut lab).await;
        matrix.kill_everywhere(&mut lab).await;
        for fate in ["fails", "hangs", "is where the daemon is killed"] {
            let wanted = format!("service: take a new step {fate}");
            assert!(matrix.tried().contains(&wanted), "{wanted}: {:#?}", matrix.tried());
        }
        matrix.report(&mut lab).await;
        lab.end();
    });
}

#[test]
fn privileged_a_new_step_that_is_not_taken_back_is_told() {
    on_busy_scratch_host(async |host| {
        let file = host.path("s").join("left");
        let mut lab = lab(host, &file.display().to_string()).await;
        let mut matrix = Matrix::record(&mut lab, CreateVolume).await;
        // It was made already.
        std::fs::remove_file(&file).unwrap();
        matrix.fail_everywhere(&mut lab).await;
        let problems = matrix.problems(&mut lab).await.join("\n");
        assert!(problems.contains("new file: "), "nothing is told of it: {problems}");
        assert!(problems.contains("/left"), "it is not named: {problems}");
        std::fs::remove_file(&file).unwrap();
        lab.end();
    });
}
