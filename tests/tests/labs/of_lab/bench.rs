//! The bench: that its table is whole, whatever the figures are.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::place::Place;

/// What is promised, and so has to be in the table.
const PROMISES: [(&str, &str, &str); 22] = [
    ("life-bridge", "5x podman", "10x podman"),
    ("start-bridge", "crun + 12 ms", "crun + 5 ms"),
    ("rate-16", "50 /s", "100 /s"),
    ("list-1000", "20 ms", "5 ms"),
    ("memory-idle", "12 MB", "8 MB"),
    ("memory-running", "1.5 MB", "1 MB"),
    ("network", "4 ms", "2 ms"),
    ("network-netavark", "8x netavark", ""),
    ("network-at-once", "400 ms", ""),
    ("port", "the first port + 10 us", "the first port + 5 us"),
    ("table-back", "1000 ms", ""),
    ("names", "an echo + 50 us", ""),
    ("resolvers-follow", "1000 ms", ""),
    ("checkpoint", "crun + 25 % + 100 ms", "crun + 10 % + 50 ms"),
    ("restore", "crun + 25 % + 100 ms", "crun + 10 % + 50 ms"),
    ("layers-100", "2 ms", "1 ms"),
    ("layers-100-mounts", "2 ms", "1 ms"),
    ("import-rootfs", "2x podman", ""),
    ("import-layers", "2x podman", ""),
    ("diff", "20 ms", ""),
    ("memory-unpack", "64 MB", ""),
    ("spec-100", "200 us", "50 us"),
];

fn bench(place: &Place) -> Command {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_tare-bench"));
    bench.env("TARE_LAB", place.path()).stdin(Stdio::null());
    bench
}

#[test]
fn privileged_the_bench_measures_every_row_on_every_host() {
    let (place, json) = (Place::with("root"), tempfile::NamedTempFile::new().unwrap());
    let output = bench(&place).arg("--quick").arg("--json").arg(json.path()).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));

    let report = read(json.path());
    for row in rows(&report) {
        assert_measured(row);
    }
    let listed = String::from_utf8(bench(&place).arg("--list").output().unwrap().stdout).unwrap();
    let listed: BTreeSet<&str> =
        listed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    for condition in ["plain", "3000 mounts"] {
        let measured = |row: &&Value| row["condition"] == condition;
        let measured: BTreeSet<&str> =
            rows(&report).iter().filter(measured).map(|row| text(&row["name"])).collect();
        let missing: Vec<_> = listed.difference(&measured).copied().collect();
        // Of layers one has such mounts itself; the others see nothing of the host.
        let left_out: &[&str] = match condition {
            "plain" => &[],
            _ => &[
                "diff",
                "import-layers",
                "import-rootfs",
                "layers-100",
                "layers-100-mounts",
                "memory-unpack",
                "names",
                "resolvers-follow",
                "spec-100",
                "table-back",
            ],
        };
        assert_eq!(missing, left_out, "{condition}");
    }
    let promised: BTreeSet<_> = rows(&report).iter().filter_map(promise).collect();
    assert_eq!(promised, BTreeSet::from(PROMISES));
    for (name, must, aim) in PROMISES {
        assert!(table.contains(must) && table.contains(aim), "{name}: {table}");
    }
}

fn read(json: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().unwrap()
}

/// Its name, what it must reach, and what it is to reach, if that is said.
fn promise(row: &Value) -> Option<(&str, &str, &str)> {
    let said = |which: &str| row[which]["promise"].as_str();
    Some((text(&row["name"]), said("must")?, said("aim").unwrap_or_default()))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Everybody who takes part has figures, and is compared with ours.
fn assert_measured(row: &Value) {
    let contestants = row["contestants"].as_array().unwrap();
    assert!(!contestants.is_empty(), "{row}");
    for (place, contestant) in contestants.iter().enumerate() {
        let turns = contestant["turns"].as_array().unwrap();
        let is_figure = |value: &Value| value.as_f64().is_some_and(|it| it.is_finite() && it > 0.0);
        assert!(!turns.is_empty() && turns.iter().all(|turn| is_figure(&turn["figure"])), "{row}");
        let against_ours = &contestant["against_ours"]["times_better"]["median"];
        assert_eq!(is_figure(against_ours), place > 0, "{row}");
    }
}
