//! `manifest.json` of an archive of images, as `docker save` writes it: it names what else is in there.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use serde_json::json;
use tar::{Builder, EntryType, Header};
use tare_storage::{Archive, Digest, Error, Format, ImportOptions, Imports, Needed, Store};

use crate::Verdict;
use crate::room::{Room, limits};
use crate::text::assert_told_plainly;

pub(crate) fn check(data: &[u8]) -> Verdict {
    let archive = with_manifest(data);
    let room = Room::new(&["state"]);
    let store = Store::open(&room.path("state/store")).unwrap();
    let options = ImportOptions::new().with_format(Format::DockerArchive).with_limits(limits());
    let (hold, go_on) = (store.hold(), |_| ControlFlow::Continue(()));
    // Whoever asks for another image is told which there are.
    let of_nobody = options.clone().with_name("of nobody");
    if let Err(error) = store.import(Archive::Stream(&mut &*archive), &of_nobody, &hold, &go_on) {
        assert_told_plainly(&error);
    }
    let imported = store.import(Archive::Stream(&mut &*archive), &options, &hold, &go_on);
    let verdict = match &imported {
        Err(error) => {
            assert_told_plainly(error);
            Verdict::Refused
        }
        Ok(imports) => {
            assert_whole(&store, imports);
            Verdict::Taken
        }
    };
    room.assert_kept_to("state");
    drop(hold);
    store.collect_garbage(|| Ok::<_, Error>(Needed::default())).unwrap();
    assert_eq!((store.layers().unwrap(), store.blobs().unwrap()), (Vec::new(), Vec::new()));
    verdict
}

/// All that an image is made of is there, and is what its names say.
fn assert_whole(store: &Store, imports: &Imports) {
    let Imports::Images(images) = imports else { panic!("{imports:?}") };
    for image in images {
        assert_eq!(image.id, Digest::of(&image.config));
        assert_eq!(image.layers.len(), image.facts.diff_ids.len());
        for layer in &image.layers {
            assert!(store.has_layer(&layer.chain_id).unwrap());
        }
        for blob in &image.blobs {
            assert_eq!(Digest::of(&store.get_blob(blob, 1 << 20).unwrap()), *blob);
        }
    }
}

/// All else that there is: a configuration, two layers, and links in, out and to each other.
static OTHERS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let lower = layer(&[("etc/a", "1")]);
    let upper = layer(&[("etc/.wh.a", ""), ("b", "2")]);
    let diff_ids = [&lower, &upper].map(|layer| Digest::of(layer).to_string());
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": ["sh"] },
        "rootfs": {
            "type": "layers",
            "diff_ids": diff_ids,
        },
    });
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, "config.json", config.to_string().as_bytes());
    append(&mut tar, "0/layer.tar", &lower);
    append(&mut tar, "1/layer.tar", &upper);
    for (name, target) in [
        ("link/layer.tar", "../1/layer.tar"),
        ("out", "../../outside/secret"),
        ("round", "about"),
        ("about", "round"),
    ] {
        let mut header = header(0);
        header.set_entry_type(EntryType::Symlink);
        tar.append_link(&mut header, name, target).unwrap();
    }
    // Without an end.
    tar.get_ref().clone()
});

fn with_manifest(manifest: &[u8]) -> Vec<u8> {
    let mut tar = Builder::new(OTHERS.clone());
    append(&mut tar, "manifest.json", manifest);
    tar.into_inner().unwrap()
}

fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, content) in files {
        append(&mut tar, name, content.as_bytes());
    }
    tar.into_inner().unwrap()
}

fn append(tar: &mut Builder<Vec<u8>>, name: &str, content: &[u8]) {
    tar.append_data(&mut header(content.len()), name, content).unwrap();
}

/// Of a file of whoever this is: others cannot give files away.
fn header(size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    header.set_mtime(1_000_000_000);
    header.set_size(size as u64);
    header
}
