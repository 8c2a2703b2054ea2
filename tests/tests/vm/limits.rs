//! Limits bite, where the host has the control groups for them.

use std::fs;
use std::path::Path;

use system_tests::Ring::Machine;
use system_tests::{Client, Exit, Options, Properties, in_lab};
use zbus::{OwnedObjectPath, Variant};

/// Runs a script with a limit; its container, which has been started.
async fn run(client: &Client, name: &str, script: &str, limits: &[(&str, u64)]) -> OwnedObjectPath {
    let mut options = Options::from([("Command", vec!["sh", "-c", script].into())]);
    options.extend(limits.iter().map(|(key, limit)| (*key, Variant::from(*limit))));
    let body = (name, "busybox", options);
    let path: OwnedObjectPath = client.manager("CreateContainer", &body).await.unwrap();
    client.start(&path).await.done();
    path
}

#[test]
fn vm_limits_bite_and_are_seen() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let memory = [("Memory", 16 << 20), ("MemorySwap", 16 << 20)];
        let greedy = run(&client, "greedy", "exec tail /dev/zero", &memory).await;
        let Exit { code, reason, .. } = client.exit(&greedy).await;
        assert_eq!((code, reason.as_str()), (137, "oom"));
        assert_eq!(client.container(&greedy).await.text("ExitReason"), "oom");

        // Killed, and not for that.
        let killed = run(&client, "killed", "exec sleep 1000", &memory).await;
        let reply = client.call(&killed, "Container", "GetStats", &0_u64).await.unwrap();
        let stats = Properties(reply.body().deserialize().unwrap());
        assert_eq!(stats.get::<u64>("MemoryLimit"), 16 << 20);
        assert!(stats.get::<u64>("MemoryCurrent") > 0);
        client.call(&killed, "Container", "Kill", &("init", 9, 0_u64)).await.unwrap();
        assert_ne!(client.exit(&killed).await.reason, "oom");

        let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; exit 0";
        let many = run(&client, "many", script, &[("PidsMax", 5)]).await;
        assert_ne!(client.exit(&many).await.code, 0, "it cannot fork so often");
        let enough = run(&client, "enough", script, &[("PidsMax", 50)]).await;
        assert_eq!(client.exit(&enough).await.code, 0);
        for path in [greedy, killed, many, enough] {
            client.remove(&path).await.done();
        }
    });
}

#[test]
fn vm_limits_change_while_a_container_runs() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let path = run(&client, "c", "exec sleep 1000", &[]).await;
        let limit = async |key: &str| -> u64 {
            let reply = client.call(&path, "Container", "GetStats", &0_u64).await.unwrap();
            Properties(reply.body().deserialize().unwrap()).get(key)
        };
        let update = async |limits: &[(&'static str, u64)]| {
            let limits: Options<'_> = limits.iter().map(|(k, v)| (*k, (*v).into())).collect();
            client.call(&path, "Container", "Update", &limits).await.unwrap();
        };
        update(&[("Memory", 64 << 20), ("PidsMax", 7), ("CPUQuotaPerSecUSec", 500_000)]).await;
        assert_eq!((limit("MemoryLimit").await, limit("PidsLimit").await), (64 << 20, 7));
        let forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 9 >/dev/null 2>&1 & done";
        assert_ne!(client.exec(&path, forks).await.code, 0, "it cannot fork so often");
        update(&[("PidsMax", 100)]).await;
        assert_eq!(client.exec(&path, forks).await.code, 0);
        assert_eq!(limit("MemoryLimit").await, 64 << 20, "that stays");
        let eats = client.exec(&path, "exec tail /dev/zero").await;
        assert_eq!(eats.code, 137, "it is more than it may have: {}", eats.stderr);
        client.remove(&path).await.done();
    });
}

/// What the kernel counts and limits, all of it by control groups of version 2.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

#[test]
fn vm_all_controllers_are_there_and_have_the_limits_of_a_container() {
    in_lab(Machine, async |lab| {
        let root = Path::new("/sys/fs/cgroup");
        let there = fs::read_to_string(root.join("cgroup.controllers")).unwrap();
        for controller in CONTROLLERS {
            assert!(there.split_whitespace().any(|it| it == controller), "{controller}: {there}");
        }
        let disk = fs::read_to_string("/sys/block/vda/dev").unwrap().trim().to_owned();
        let client = lab.client().await;
        client.import_busybox().await;
        let options = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("CPUQuotaPerSecUSec", 500_000_u64.into()),
            ("CPUSet", "1".into()),
            ("IOReadBandwidth", vec![(disk.clone(), 1_u64 << 20)].into()),
            ("Memory", (64_u64 << 20).into()),
            ("PidsMax", 77_u64.into()),
        ]);
        let path = client.create_with("c", options).await.unwrap();
        client.start(&path).await.done();
        let group = client.container(&path).await.text("CGroupPath");
        let group = root.join(group.trim_start_matches('/')).join("payload");
        for (file, wanted) in [
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus", "1"),
            ("io.max", &format!("{disk} rbps=1048576 wbps=max riops=max wiops=max")),
            ("memory.max", "67108864"),
            ("pids.max", "77"),
        ] {
            assert_eq!(fs::read_to_string(group.join(file)).unwrap().trim(), wanted, "{file}");
        }
        client.remove(&path).await.done();
    });
}
