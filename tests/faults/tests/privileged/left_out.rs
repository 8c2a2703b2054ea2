//! One step of an undo that does not happen turns a case red: what ends every case tells it by its name.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fault_tests::lab::Lab;
use fault_tests::left_out::Told;
use fault_tests::matrix::Matrix;
use fault_tests::operations::{Create, Operation, Remove, Start};
use system_tests::on_busy_scratch_host;

/// A power cut alone would tell of that.
const FLUSH: &str = "storage: flush to disk";

/// Leaves out each step that takes something away. Each that begins with one of `redundant` is done by
/// another one, too; all others are told of, and those that begin with the first of a pair of `names` by
/// a line that begins with the second.
fn is_told(operation: impl Operation + Send, redundant: &[&str], names: &[(&str, &str)]) {
    let told = leave_out(operation);
    let all: Vec<String> = told.iter().map(|(it, lines)| format!("{it}: {lines:#?}")).collect();
    let all = all.join("\n");
    for (effect, lines) in &told {
        let is_redundant = redundant.iter().any(|it| effect.starts_with(it));
        assert!(!lines.is_empty() || is_redundant, "nobody told of '{effect}':\n{all}");
    }
    for (effect, name) in names {
        let is_told = told.iter().any(|(it, lines)| {
            it.starts_with(effect) && lines.iter().any(|line| line.starts_with(name))
        });
        assert!(is_told, "'{effect}' is not told of by '{name}':\n{all}");
    }
}

fn leave_out(operation: impl Operation + Send) -> Told {
    let mut told = Told::new();
    let case = || {
        on_busy_scratch_host(async |host| {
            let mut lab = Lab::new(host).await;
            told = Matrix::record(&mut lab, operation).await.leave_out_everywhere(&mut lab).await;
            lab.end();
        });
    };
    let ended = catch_unwind(AssertUnwindSafe(case));
    // What was left out for good, the guard of this case has told as well.
    match ended {
        Err(panic) if told.is_empty() => resume_unwind(panic),
        _ => told,
    }
}

#[test]
fn privileged_a_step_left_out_of_the_undo_of_a_create_is_told() {
    let of_no_log = "service: remove /s/logs/";
    // The service takes away what the store has not.
    let of_volumes = ["\"*\"", "\"v\""].map(|it| format!("storage: rename {it} to \"volume-"));
    let [own, named] = &of_volumes;
    let removed = "storage: remove directory \"removed-container-";
    is_told(
        Create,
        &[of_no_log, FLUSH, own, named],
        &[(removed, "new file: "), ("storage: rename ", "new file: ")],
    );
}

#[test]
fn privileged_a_step_left_out_of_the_undo_of_a_start_is_told() {
    // Two do most of it: the leaf that failed, and the service, which takes down all that it had written
    // down. And with a namespace goes what is in it.
    let redundant = [
        "netns: delete veth ",
        "netns: forget neighbours ",
        "spawn: attach cgroup2 ",
        "spawn: clear control group ",
        "spawn: detach the mount ",
        "spawn: kill process ",
        "spawn: mount cgroup2",
        "spawn: remove control group ",
        "spawn: remove directory ",
        "spawn: remove mount point ",
        "spawn: rename ",
        "spawn: write ",
    ];
    is_told(
        Start,
        &redundant,
        &[
            ("spawn: call /usr/bin/", "new file: "),
            ("spawn: clear control group /", "new control group: "),
            ("netns: remove N elements from firewall table ", "new firewall: inet tare_"),
            ("netns: unmount network namespace ", "new network namespace: tare-"),
            ("storage: remove \"config.json\"", "new file: "),
            ("storage: remove directory \"rootfs\"", "new file: "),
        ],
    );
}

#[test]
fn privileged_a_step_left_out_of_a_removal_is_told() {
    is_told(Remove, &[FLUSH], &[("service: remove /s/logs/", "new file: ")]);
}
