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
