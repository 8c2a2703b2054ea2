//! `SELinux`, where the kernel uses it with Debian's policy: who runs as what.
//!
//! The service chooses no labels yet, so a container has that of whoever starts it. When it does, this is
//! to say `container_t` with categories of its own, and that its files have them too.

use std::fs;

use system_tests::Ring::Machine;
use system_tests::{in_lab, run, started};

/// Of services that the policy does not know.
const SERVICE: &str = "system_u:system_r:initrc_t:s0";
/// Of crun, and so of what crun starts.
const CONTAINER: &str = "system_u:system_r:container_engine_t:s0";
/// What is in `/run/tare`.
const RUNTIME_FILES: &str = "tcontext=system_u:object_r:initrc_runtime_t:s0";
/// What containers are made of, that has no label of ours: crun makes what it mounts on there.
const ROOT_FILES: &str = "tcontext=system_u:object_r:var_lib_t:s0";
/// What crun does with the file system of a container's terminals. The kernel tells of it once, and
/// again when it has forgotten that it did.
const TERMINALS: &str = "{ remount }";
/// What crun gives to the user of a container that has no terminal: its pipes, which conmon made.
const PIPES: &str = "tcontext=system_u:system_r:initrc_t:s0 tclass=fifo_file";

/// The label of a process.
fn label(pid: &str) -> String {
    let label = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    label.trim_end_matches(['\0', '\n']).into()
}

fn main_pid(unit: &str) -> String {
    run("systemctl", &["show", "--property=MainPID", "--value", unit]).trim().into()
}

/// What the policy does not allow and we did since the machine was started, a line each: the kernel tells
/// of each kind once, be it in this case or in one before it.
fn denials() -> Vec<String> {
    let ours =
        ["tared", "tare-spawn", "tare-names", "tare-worker", "conmon", "crun", "sleep", "sh"];
    let is_ours = |line: &&str| ours.iter().any(|it| line.contains(&format!("comm=\"{it}\"")));
    run("journalctl", &["--sync"]);
    let journal = run("journalctl", &["--no-pager", "--quiet", "--boot", "--output=cat"]);
    let denied = journal.lines().filter(|line| line.contains("avc:  denied"));
    denied.filter(is_ours).map(str::to_owned).collect()
}

#[test]
fn vm_selinux_services_and_containers_have_the_labels_that_the_policy_gives_them() {
    in_lab(Machine, async |lab| {
        assert_eq!(
            label("1"),
            "system_u:system_r:init_t:s0",
            "the files of the system are labelled"
        );
        let client = lab.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        for unit in ["tared.service", "tare-spawn.service", "tare-names.service"] {
            assert_eq!(label(&main_pid(unit)), SERVICE, "{unit}");
        }
        let pid: u32 = client.container(&path).await.get("PID");
        assert_eq!(label(&pid.to_string()), CONTAINER);
        let inside = client.exec(&path, "cat /proc/self/attr/current").await;
        assert_eq!(inside.stdout.trim_end_matches(['\0', '\n']), CONTAINER, "{inside:?}");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        assert!(mounts.contains("seclabel") && !mounts.contains("context="), "{mounts}");
        client.remove(&path).await.done();
    });
}

/// The boot is permissive: this is what a policy of ours has to allow before it can be enforcing.
#[test]
fn vm_selinux_the_policy_lacks_nothing_but_what_runtimes_do_for_us() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        assert_eq!(client.exec(&path, "true").await.code, 0);
        client.remove(&path).await.done();
        let denials = denials();
        let known = |line: &&String| {
            let what = [RUNTIME_FILES, ROOT_FILES, TERMINALS, PIPES];
            let of_crun = line.contains("comm=\"crun\"") && what.iter().any(|it| line.contains(it));
            // What is in a container has the label of crun, and uses what it is made of as soon as that does.
            let inside =
                line.contains(&format!("scontext={CONTAINER}")) && line.contains(ROOT_FILES);
            of_crun || inside
        };
        let more: Vec<_> = denials.iter().filter(|line| !known(line)).collect();
        assert!(more.is_empty(), "{more:#?}");
    });
}
