//! What a container would be, and changes to it by hand.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;

use serde_json::{Value, json};
use system_tests::{Client, ERROR, Options, Refused, Tared, on_scratch_host};
use zbus::{OwnedObjectPath, Variant};

/// `Inspect`: the configuration.
const CONFIG: u64 = 1;
/// `GenerateSpec`: only what options change.
const CHANGES: u64 = 1;
const ACTION: &str = "org.tare.containers1.create";

/// `GenerateSpec`.
async fn spec(
    client: &Client,
    options: Options<'_>,
    flags: u64,
) -> Result<(Value, Vec<String>, String), Refused> {
    let body = ("busybox", options, flags);
    let reply: (String, Vec<String>, String) = client.manager("GenerateSpec", &body).await?;
    Ok((serde_json::from_str(&reply.0).unwrap(), reply.1, reply.2))
}

fn many() -> Options<'static> {
    let volume = |target: &'static str| {
        HashMap::from([("Name", Variant::from("data")), ("Target", target.into())])
    };
    Options::from([
        ("Command", vec!["sleep", "1000"].into()),
        ("Env", vec!["A=b"].into()),
        ("User", "1000".into()),
        ("Volumes", vec![volume("/data"), volume("/more")].into()),
        // It comes before them, and has no source of its own.
        ("Tmpfs", vec![HashMap::from([("Target", Variant::from("/mem"))])].into()),
        ("ReadOnlyRootfs", true.into()),
        ("CapAdd", vec!["NET_RAW"].into()),
    ])
}

#[test]
fn privileged_a_spec_is_what_the_container_is_made_with() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let (shown, warnings, action) = spec(&client, many(), 0).await.unwrap();
        assert_eq!(action, format!("{ACTION}-privileged-container"), "a capability");
        for list in ["ListVolumes", "ListContainers"] {
            assert!(client.list(list).await.is_empty(), "{list}: nothing was made");
        }

        let path = client.create_with("c", many()).await.unwrap();
        client.start(&path).await.done();
        let id = path.as_str().rsplit('/').next().unwrap();
        let reply = client.call(&path, "Container", "Inspect", &CONFIG).await.unwrap();
        let config: String = reply.body().deserialize().unwrap();
        // Its address is not in it, but in files that are bound.
        let config = config.replace(id, &"0".repeat(64)).replace(&id[..12], &"0".repeat(12));
        assert_eq!(serde_json::from_str::<Value>(&config).unwrap(), shown);
        // On a host that allows less than the defaults.
        assert!(warnings.iter().all(|it| it.starts_with("RLIMIT_")), "{warnings:?}");
        client.remove(&path).await.done();
        let volume: OwnedObjectPath = client.manager("GetVolume", &"data").await.unwrap();
        client.job(&volume, "Volume", "Remove", &0_u64).await.unwrap().done();
        tared.stop();
    });
}

#[test]
fn privileged_a_spec_tells_what_options_change() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let (changes, _, action) = spec(&client, Options::new(), CHANGES).await.unwrap();
        assert_eq!((changes, action), (json!({}), format!("{ACTION}-container")));
        let options = || Options::from([("WorkingDir", "/etc".into()), ("UTSMode", "host".into())]);
        let (changes, _, action) = spec(&client, options(), CHANGES).await.unwrap();
        assert_eq!(changes["process"]["cwd"], "/etc");
        assert_eq!(changes["process"].get("args"), None, "that stays as it is");
        assert_eq!(changes["hostname"], Value::Null, "that of the host stays as it is");
        assert_eq!(action, format!("{ACTION}-privileged-container"));

        let (whole, _, _) = spec(&client, options(), 0).await.unwrap();
        let mut patched = Options::from([("SpecPatch", changes.to_string().into())]);
        let (same, _, action) = spec(&client, patched.clone(), 0).await.unwrap();
        assert_eq!(same, whole, "it is what makes one of the other");
        assert_eq!(action, format!("{ACTION}-privileged-container"));

        patched.insert("SpecPatch", r#"{"hostname": "patched"}"#.into());
        patched.insert("Command", vec!["sleep", "1000"].into());
        let path = client.create_with("c", patched).await.unwrap();
        client.start(&path).await.done();
        assert_eq!(client.exec(&path, "hostname").await.stdout, "patched\n");
        client.remove(&path).await.done();
        tared.stop();
    });
}

/// It is not on its networks yet; where the host is there is known.
#[test]
fn privileged_a_spec_is_shown_of_who_finds_the_host_on_its_network() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let asks = |mode: &'static str| {
            let line = HashMap::from([("up", "host-gateway")]);
            Options::from([("NetworkMode", mode.into()), ("Hosts", line.into())])
        };
        let (asked, _, _) = spec(&client, asks("private"), 0).await.unwrap();
        let (plain, _, _) = spec(&client, Options::new(), 0).await.unwrap();
        assert_eq!(asked, plain, "it is in a file that is bound");
        let refused = spec(&client, asks("none"), 0).await.unwrap_err();
        assert_eq!(refused.name, format!("{ERROR}.InvalidSpec"), "as the start would be");
        tared.stop();
    });
}

#[test]
fn privileged_a_spec_that_cannot_be_is_refused() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let name = async |image: &str, options: Options<'static>, flags: u64| {
            let body = (image, options, flags);
            let reply = client.manager::<_, (String, Vec<String>, String)>("GenerateSpec", &body);
            reply.await.unwrap_err().name
        };
        let option = |key, value: Variant<'static>| Options::from([(key, value)]);
        let patch = |patch: &'static str| option("SpecPatch", patch.into());
        let wrong = "org.freedesktop.DBus.Error.InvalidArgs";
        assert_eq!(name("absent", Options::new(), 0).await, format!("{ERROR}.NoSuchImage"));
        assert_eq!(name("busybox", Options::new(), 2).await, wrong);
        let unknown = option("Nonsense", 1_u32.into());
        assert_eq!(name("busybox", unknown, 0).await, format!("{ERROR}.UnknownOption"));
        assert_eq!(name("busybox", patch("[]"), 0).await, wrong);
        assert_eq!(name("busybox", patch(r#"{"linux":{"cgroupsPath":"/"}}"#), 0).await, wrong);
        let user = option("User", "nobody-here".into());
        assert_eq!(name("busybox", user, 0).await, format!("{ERROR}.InvalidSpec"));
        tared.stop();
    });
}

#[test]
fn privileged_a_container_is_told_what_it_is() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let options =
            Options::from([("Command", vec!["sleep", "1000"].into()), ("Privileged", true.into())]);
        let path = client.create_with("c", options).await.unwrap();
        client.start(&path).await.done();
        let id = path.as_str().rsplit('/').next().unwrap();
        let said = client.exec(&path, "cat /run/.containerenv").await.stdout;
        for line in ["engine=\"tare\"", "name=\"c\"", &format!("id=\"{id}\"")] {
            assert!(said.lines().any(|it| it == line), "{line}: {said}");
        }
        let listed = client.exec(&path, "cd /dev; for i in *; do [ -c $i ] && echo $i; done").await;
        let of_host = fs::read_dir("/dev").unwrap().map(Result::unwrap);
        let of_host = of_host.filter(|it| it.file_type().unwrap().is_char_device());
        let names: Vec<_> = of_host.map(|it| it.file_name().into_string().unwrap()).collect();
        assert!(names.iter().any(|name| name == "full"), "{names:?}");
        for name in names.iter().filter(|name| !name.starts_with("tty") && *name != "console") {
            assert!(listed.stdout.lines().any(|it| it == name), "{name}: {listed:?}");
        }
        assert!(said.contains("busybox:latest\"\nimageid=\"sha256:"), "{said}");
        client.remove(&path).await.done();
        let systemd = Options::from([("Systemd", "always".into())]);
        let (shown, _, _) = spec(&client, systemd, 0).await.unwrap();
        let env = shown["process"]["env"].as_array().unwrap();
        assert!(env.contains(&format!("container_uuid={}", "0".repeat(32)).into()), "{env:?}");
        tared.stop();
    });
}
