//! What is installed fits together.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use system_tests::contract::Interfaces;

const OURS: &str = "org.tare.Containers1.";

fn dbus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/dbus")
}

/// What the policy of the bus says of everybody's calls.
fn let_through(policy: &str) -> BTreeSet<String> {
    let attributes = policy.split("send_interface=\"").skip(1);
    let names = attributes.map(|rest| rest.split('"').next().unwrap());
    names.filter(|name| name.starts_with(OURS)).map(Into::into).collect()
}

#[test]
fn the_bus_lets_through_whoever_calls_an_interface_of_the_contract() {
    let files = fs::read_dir(dbus()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|it| it == "xml"));
    let interfaces = files.flat_map(|it| Interfaces::parse(&fs::read_to_string(it).unwrap()).0);
    let contract: BTreeSet<String> =
        interfaces.map(|(name, _)| name).filter(|name| name.starts_with(OURS)).collect();
    assert!(contract.len() > 7, "{contract:?}");
    let policy = fs::read_to_string(dbus().join("org.tare.Containers1.conf")).unwrap();
    assert_eq!(let_through(&policy), contract);
}

fn packaged(file: &str) -> String {
    fs::read_to_string(dbus().join("..").join(file)).unwrap()
}

/// The names of the units of a kind, with what they say.
fn units(kind: &str) -> Vec<(String, String)> {
    let files = fs::read_dir(dbus().join("../systemd")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.ends_with(kind));
    names.map(|name| (name.clone(), packaged(&format!("systemd/{name}")))).collect()
}

/// The words that a unit has for a key, wherever it has it.
fn words<'u>(unit: &'u str, key: &str) -> BTreeSet<&'u str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).collect()
}

#[test]
fn what_units_start_is_built_and_installed() {
    let (make, install) = (packaged("../Makefile"), packaged("../tools/install.sh"));
    let line = |text: &'static str, of: &str| -> Vec<String> {
        let line = of.lines().find(|line| line.trim_start().starts_with(text));
        line.expect(text).replace(['"', ';'], " ").split_whitespace().map(Into::into).collect()
    };
    let checked = line("for program in", &install);
    let installed = line("install -D -t \"$root/libexec\"", &install);
    let built = line("cd \"$(TARGET)/debug\"", &make);
    let services = units(".service");
    assert!(services.len() > 3, "{services:?}");
    for (name, unit) in services {
        let start = words(&unit, "ExecStart");
        let program =
            start.iter().find_map(|word| word.strip_prefix("/usr/libexec/")).expect(&name);
        let has = |list: &[String], what: &str| list.iter().any(|word| word == what);
        assert!(has(&built, program), "{program} is not built");
        assert!(has(&checked, program), "nobody looks whether {program} was built");
        assert!(has(&installed, &format!("$bin/{program}")), "{program} is not installed");
    }
}

#[test]
fn sockets_are_there_before_the_service_and_are_roots_alone() {
    let tared = packaged("systemd/tared.service");
    let (wants, requires) = (words(&tared, "Wants"), words(&tared, "Requires"));
    let (after, also) = (words(&tared, "After"), words(&tared, "Also"));
    let sockets = units(".socket");
    assert!(sockets.len() > 2, "{sockets:?}");
    for (name, unit) in &sockets {
        let name = name.as_str();
        assert!(wants.contains(name) || requires.contains(name), "{name} is not started");
        assert!(after.contains(name) && also.contains(name), "{name}");
        assert_eq!(words(unit, "SocketMode"), BTreeSet::from(["0600"]), "{name}");
    }
}

/// Of those that strangers' bytes come to first.
#[test]
fn who_reads_what_strangers_send_may_do_nothing() {
    for name in ["tare-names.service", "tare-worker@.service"] {
        let unit = packaged(&format!("systemd/{name}"));
        assert!(unit.contains("\nCapabilityBoundingSet=\n"), "{name} has capabilities");
        for (key, wanted) in [
            ("DynamicUser", "yes"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("PrivateDevices", "yes"),
            ("RestrictNamespaces", "yes"),
            ("MemoryDenyWriteExecute", "yes"),
        ] {
            assert_eq!(words(&unit, key), BTreeSet::from([wanted]), "{name}: {key}");
        }
        assert!(!words(&unit, "MemoryMax").is_empty(), "{name} may take all memory");
    }
}
