//! The documents of an image.

use serde_json::{Value, json};
use tare_specgen::{Argument, EnvVar, ExposedPort, ImageDefaults, Protocol, reasons};
use tare_storage::{
    Descriptor, ImageFacts, IndexEntry, Manifest, Platform, choose_for, is_index, parse_index,
};

use crate::Verdict;
use crate::config::{Container, document, lay_over, texts};
use crate::text::{assert_plain, assert_told_plainly};

pub(crate) fn manifest(data: &[u8]) -> Verdict {
    let manifest = match Manifest::parse(data) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert_told_plainly(&error);
            return Verdict::Refused;
        }
    };
    assert!(!manifest.layers.is_empty());
    let written = json!({
        "schemaVersion": 2,
        "config": descriptor(&manifest.config),
        "layers": manifest.layers.iter().map(descriptor).collect::<Vec<_>>(),
    });
    let again = Manifest::parse(written.to_string().as_bytes()).unwrap();
    assert_eq!(again, manifest, "written again it is the same");
    Verdict::Taken
}

fn descriptor(of: &Descriptor) -> Value {
    json!({ "mediaType": of.media_type, "digest": of.digest.to_string(), "size": of.size })
}

pub(crate) fn index(data: &[u8]) -> Verdict {
    let _ = is_index(data);
    let entries = match parse_index(data) {
        Ok(entries) => entries,
        Err(error) => {
            assert_told_plainly(&error);
            return Verdict::Refused;
        }
    };
    match choose_for(&entries, &"linux/amd64".parse().unwrap()) {
        Ok(chosen) => assert!(entries.contains(chosen)),
        Err(error) => assert_told_plainly(&error),
    }
    let written = json!({
        "schemaVersion": 2,
        "manifests": entries.iter().map(entry).collect::<Vec<_>>(),
    });
    let written = written.to_string();
    assert!(is_index(written.as_bytes()));
    let again = parse_index(written.as_bytes()).unwrap();
    assert_eq!(again, entries, "written again it is the same");
    Verdict::Taken
}

fn entry(of: &IndexEntry) -> Value {
    let mut entry = descriptor(&of.manifest);
    if let Some(platform) = &of.platform {
        assert_plain(&platform.to_string());
        entry["platform"] = json!({ "os": platform.os(), "architecture": platform.architecture() });
        if let Some(variant) = platform.variant() {
            entry["platform"]["variant"] = variant.into();
        }
    }
    if let Some(name) = &of.name {
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    }
    entry
}

/// What both crates read of a configuration.
pub(crate) fn config(data: &[u8]) -> Verdict {
    let verdicts = [facts(data), defaults(data)];
    if verdicts.contains(&Verdict::Taken) { Verdict::Taken } else { Verdict::Refused }
}

fn facts(data: &[u8]) -> Verdict {
    let facts = match ImageFacts::parse(data) {
        Ok(facts) => facts,
        Err(error) => {
            assert_told_plainly(&error);
            return Verdict::Refused;
        }
    };
    assert!(!facts.diff_ids.is_empty());
    let platform = facts.platform.clone().unwrap_or_else(Platform::host);
    assert_plain(&platform.to_string());
    let diff_ids: Vec<_> = facts.diff_ids.iter().map(ToString::to_string).collect();
    let mut written = json!({
        "os": platform.os(),
        "architecture": platform.architecture(),
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    for (key, value) in [("variant", platform.variant()), ("created", facts.created.as_deref())] {
        if let Some(value) = value {
            written[key] = value.into();
        }
    }
    let mut again = ImageFacts::parse(written.to_string().as_bytes()).unwrap();
    if facts.platform.is_none() {
        again.platform = None;
    }
    assert_eq!(again, facts, "written again it is the same");
    Verdict::Taken
}

fn defaults(data: &[u8]) -> Verdict {
    let mut image = match ImageDefaults::parse(data) {
        Ok(image) => image,
        Err(error) => {
            assert_told_plainly(&error);
            return Verdict::Refused;
        }
    };
    let effective = match lay_over(json!({}), &image) {
        Ok(effective) => effective,
        Err(error) => {
            assert_told_plainly(&error);
            return Verdict::Refused;
        }
    };
    assert_eq!(reasons(&effective), [], "an image asks for nothing that could reach the host");
    match Container::new().generate_of(&effective) {
        Ok(made) => assert_process(&document(&made)["process"]),
        Err(error) => assert_told_plainly(&error),
    }
    // What it says of its health has a form of its own when it is stored.
    image.health = None;
    let again = ImageDefaults::parse(written(&image).to_string().as_bytes()).unwrap();
    assert_eq!(again, image, "written again it is the same");
    Verdict::Taken
}

fn assert_process(process: &Value) {
    for text in texts(&process["args"]).chain(texts(&process["env"])) {
        assert!(!text.contains('\0'), "{text:?}");
    }
    assert!(texts(&process["env"]).all(|entry| entry.contains('=')), "{process}");
    let cwd = process["cwd"].as_str().unwrap();
    assert_plain(cwd);
    assert!(cwd.starts_with('/') && !cwd.split('/').any(|part| part == ".."), "{cwd}");
    assert!(!cwd.trim_start_matches('/').starts_with("proc/"), "{cwd}");
}

fn written(image: &ImageDefaults) -> Value {
    let list = |texts: Vec<&str>| json!(texts);
    let labels = image.labels.iter().map(|(key, value)| (key.to_string(), json!(value)));
    let volumes = image.volumes.iter().map(|path| (path.to_string(), json!({})));
    let ports = image.exposed_ports.iter().map(|port| (port_text(*port), json!({})));
    json!({ "config": {
        "Entrypoint": list(image.entrypoint.iter().map(Argument::as_str).collect()),
        "Cmd": list(image.command.iter().map(Argument::as_str).collect()),
        "Env": list(image.env.iter().map(EnvVar::as_str).collect()),
        "WorkingDir": image.working_dir.as_ref().map(ToString::to_string),
        "User": image.user.as_ref().map(ToString::to_string),
        "StopSignal": image.stop_signal.map(|signal| signal.to_string()),
        "Labels": Value::Object(labels.collect()),
        "Volumes": Value::Object(volumes.collect()),
        "ExposedPorts": Value::Object(ports.collect()),
    } })
}

fn port_text(port: ExposedPort) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("{}/{protocol}", port.number)
}
