//! Images as their makers write them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tar::{Builder, EntryType};
use tare_storage::{Compression, Digest};

use crate::fixture::{gzip, header};

/// An image: its documents and layers, open to being spoiled.
pub(crate) struct Image {
    /// The uncompressed archives.
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) config: Value,
    pub(crate) manifest: Value,
    pub(crate) index: Value,
    pub(crate) name: String,
}

fn hex(bytes: &[u8]) -> String {
    Digest::of(bytes).hex()
}

pub(crate) fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => gzip(bytes),
        Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

fn media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

impl Image {
    pub(crate) fn new(layers: &[(Vec<u8>, Compression)]) -> Self {
        let mut image = Self {
            layers: layers.iter().map(|(layer, _)| layer.clone()).collect(),
            blobs: BTreeMap::new(),
            config: json!({
                "architecture": "amd64", "os": "linux",
                "config": { "Cmd": ["/bin/sh"] },
                "rootfs": { "type": "layers", "diff_ids":
                    layers.iter().map(|(l, _)| Digest::of(l).to_string()).collect::<Vec<_>>() },
            }),
            manifest: Value::Null,
            index: Value::Null,
            name: "example:1".into(),
        };
        let described: Vec<_> = layers
            .iter()
            .map(|(layer, compression)| {
                let blob = compress(layer, *compression);
                let described = json!({ "mediaType": media_type(*compression),
                    "digest": Digest::of(&blob).to_string(), "size": blob.len() });
                image.blobs.insert(hex(&blob), blob);
                described
            })
            .collect();
        image.manifest = json!({ "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": described });
        image.seal()
    }

    /// Has manifest and index name what they are to name, after the configuration changed.
    pub(crate) fn seal(mut self) -> Self {
        let config = self.config.to_string().into_bytes();
        self.manifest["config"] = json!({ "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config).to_string(), "size": config.len() });
        self.blobs.insert(hex(&config), config);
        self.seal_manifest()
    }

    pub(crate) fn seal_manifest(mut self) -> Self {
        let manifest = self.manifest.to_string().into_bytes();
        self.index = json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(&manifest).to_string(), "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": self.name } }] });
        self.blobs.insert(hex(&manifest), manifest);
        self
    }

    pub(crate) fn id(&self) -> Digest {
        Digest::of(self.config.to_string().as_bytes())
    }

    pub(crate) fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| Digest::of(layer)).collect()
    }

    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let blobs =
            self.blobs.iter().map(|(hex, blob)| (format!("blobs/sha256/{hex}"), blob.clone()));
        let mut files: Vec<_> = blobs.collect();
        // Last, as skopeo writes them.
        files.push(("index.json".into(), self.index.to_string().into_bytes()));
        files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        files
    }

    pub(crate) fn oci_archive(&self) -> Vec<u8> {
        archive(&self.files())
    }

    pub(crate) fn docker_archive(&self, compression: Compression) -> Vec<u8> {
        let config = self.config.to_string().into_bytes();
        let name = |nth: usize| format!("{}/layer.tar", hex(&self.layers[nth]));
        let names: Vec<_> = (0..self.layers.len()).map(name).collect();
        let manifest = json!([{ "Config": format!("{}.json", hex(&config)),
            "RepoTags": [self.name], "Layers": names }]);
        let mut files = vec![(format!("{}.json", hex(&config)), config)];
        for (name, layer) in names.into_iter().zip(&self.layers) {
            files.push((name, compress(layer, compression)));
        }
        files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
        archive(&files)
    }

    pub(crate) fn layout(&self, dir: &Path) {
        for (name, bytes) in self.files() {
            fs::create_dir_all(dir.join(&name).parent().unwrap()).unwrap();
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

pub(crate) fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = header(EntryType::Regular, name, "");
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, &**bytes).unwrap();
    }
    builder.into_inner().unwrap()
}
