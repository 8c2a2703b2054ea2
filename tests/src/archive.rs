//! Archives of images, as other programs write them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

/// An image to be put into an archive.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its name there.
    pub name: String,
    /// Its layers as tars, the base first.
    pub layers: Vec<Vec<u8>>,
    /// What it says about running it: `config` of its configuration.
    pub config: Value,
}

/// What is in an archive, by name.
type Members = BTreeMap<String, Vec<u8>>;

/// An archive of the OCI, with layers compressed by gzip.
pub fn oci_archive(pictures: &[Picture]) -> Vec<u8> {
    let mut members = Members::new();
    let manifests: Vec<Value> = pictures
        .iter()
        .map(|picture| {
            let config = put(&mut members, configuration(picture));
            let layer = |layer: &Vec<u8>| put(&mut members, gzip(layer));
            let layers: Vec<_> = picture.layers.iter().map(layer).collect();
            let typed = |(digest, size): (String, usize), kind: &str| {
                let media_type = format!("application/vnd.oci.image.{kind}");
                json!({ "mediaType": media_type, "digest": digest, "size": size })
            };
            let layers = layers.into_iter().map(|blob| typed(blob, "layer.v1.tar+gzip"));
            let manifest = json!({
                "schemaVersion": 2,
                "config": typed(config, "config.v1+json"),
                "layers": layers.collect::<Vec<_>>(),
            });
            let mut entry =
                typed(put(&mut members, manifest.to_string().into()), "manifest.v1+json");
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": picture.name });
            entry
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    members.insert("index.json".into(), index.to_string().into());
    members.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    archive(&members)
}

/// What `docker save` writes.
pub fn docker_archive(pictures: &[Picture]) -> Vec<u8> {
    let mut members = Members::new();
    let mut index = Vec::new();
    for picture in pictures {
        let mut names = Vec::new();
        for layer in &picture.layers {
            let name = format!("{}/layer.tar", hex(layer));
            members.insert(name.clone(), layer.clone());
            names.push(name);
        }
        let config = configuration(picture);
        let name = format!("{}.json", hex(&config));
        members.insert(name.clone(), config);
        index.push(json!({ "Config": name, "RepoTags": [picture.name], "Layers": names }));
    }
    members.insert("manifest.json".into(), Value::from(index).to_string().into());
    archive(&members)
}

/// The id an image has: the digest of its configuration.
pub fn id_of(picture: &Picture) -> String {
    format!("sha256:{}", hex(&configuration(picture)))
}

/// `bytes`, compressed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar of regular files; their names are written as they are.
pub fn files_tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = header(name, content.len());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn configuration(picture: &Picture) -> Vec<u8> {
    let diff_ids = picture.layers.iter().map(|layer| format!("sha256:{}", hex(layer)));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        same => same,
    };
    let document = json!({
        "created": "2024-02-29T23:59:59.5Z",
        "architecture": architecture,
        "os": "linux",
        "config": picture.config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids.collect::<Vec<_>>() },
        "history": [
            { "created": "2024-02-29T23:59:58Z", "created_by": "ADD base" },
            { "created_by": "ENV A=b", "empty_layer": true },
            { "created_by": "RUN change", "comment": "the last" },
        ],
    });
    document.to_string().into()
}

fn put(members: &mut Members, bytes: Vec<u8>) -> (String, usize) {
    let (digest, size) = (hex(&bytes), bytes.len());
    members.insert(format!("blobs/sha256/{digest}"), bytes);
    (format!("sha256:{digest}"), size)
}

fn archive(members: &Members) -> Vec<u8> {
    let files: Vec<_> = members.iter().map(|(name, it)| (name.as_str(), it.as_slice())).collect();
    files_tar(&files)
}

fn header(name: &str, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    // `set_path` would refuse what is hostile.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex
}
