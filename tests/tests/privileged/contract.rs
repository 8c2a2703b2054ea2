//! The files of the contract are what is served.

use std::fs;
use std::path::{Path, PathBuf};

use system_tests::contract::Interfaces;
use system_tests::{ROOT, Tared, on_scratch_host};

use super::{secrets, started};

/// One interface a file, named after it: in `$TARE_CONTRACT_DIR`, else in the source.
fn files() -> Interfaces {
    let source = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/dbus");
    let dir = std::env::var_os("TARE_CONTRACT_DIR").map_or_else(source, PathBuf::from);
    let mut contract = Interfaces::default();
    for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        // Where it is installed, those of others are too.
        let ours = path.file_name().unwrap().to_str().unwrap().starts_with("org.tare.");
        if ours && path.extension().is_some_and(|extension| extension == "xml") {
            contract.0.extend(file(&path).0);
        }
    }
    contract
}

fn file(path: &Path) -> Interfaces {
    let interfaces = Interfaces::parse(&fs::read_to_string(path).unwrap());
    let names: Vec<&String> = interfaces.0.keys().collect();
    assert_eq!(names, [path.file_stem().unwrap().to_str().unwrap()], "{}", path.display());
    interfaces
}

#[test]
fn privileged_the_contract_is_what_is_served() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let image = client.import_busybox().await;
        let container = started(&client, "c", "sleep 1000").await;
        let process = client.exec(&container, "true").await.process;
        let job = client.remove(&client.create("other", "true").await).await.job;
        let volume: zbus::OwnedObjectPath =
            client.manager("CreateVolume", &("v", system_tests::Options::new())).await.unwrap();
        let secret = secrets::create(&client, "key", "value").await.unwrap();
        let network = format!("{ROOT}/network/tare");
        let mut live = Interfaces::default();
        for path in [ROOT, &image, &container, &process, &job, &network, &volume, &secret] {
            live.0.extend(Interfaces::parse(&client.introspect(path).await).ours().0);
        }
        client.remove(&container).await.done();
        client.job(&volume, "Volume", "Remove", &0_u64).await.unwrap().done();
        client.call(&secret, "Secret", "Remove", &0_u64).await.unwrap();
        tared.stop();
        let mut files = files();
        // Not every host has CRIU: a lab system has, and looks there.
        assert!(files.0.remove("org.tare.Containers1.Checkpoint").is_some());
        let differences = files.differences(&live);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    });
}
