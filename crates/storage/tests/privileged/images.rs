//! Whole images, good and bad.

pub(crate) mod build;

use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;

use serde_json::json;
use tar::EntryType;
use tare_storage::{
    Archive, Blobs, ChainId, Compression, Error, ErrorKind, ExportedImage, Format, ImageFault,
    ImportOptions, Imported, ImportedImage, Imports, Limit, Needed, Rootfs, Watch,
};

use crate::fixture::{Lab, Tar, gzip, header, small_root};
use crate::pictures::{difference, tree};
use build::{Image, archive};

const NO_WATCH: fn(u64) -> ControlFlow<()> = |_| ControlFlow::Continue(());

pub(crate) fn example() -> Image {
    let second = Tar::new()
        .file("etc/.wh.passwd-", "")
        .file("etc/motd", "hello")
        .dir("srv")
        .file("srv/a", "a")
        .end();
    let third =
        Tar::new().file("srv/.wh..wh..opq", "").file("srv/b", "b").file(".wh.run", "").end();
    Image::new(&[
        (small_root(), Compression::Gzip),
        (second, Compression::None),
        (third, Compression::Zstd),
    ])
}

pub(crate) fn import(
    lab: &Lab,
    archive: Archive<'_>,
    options: &ImportOptions,
) -> Result<Imports, Error> {
    let hold = lab.store.hold();
    lab.store.import(archive, options, &hold, &NO_WATCH)
}

pub(crate) fn images(imports: Imports) -> Vec<ImportedImage> {
    let Imports::Images(images) = imports else { panic!("{imports:?}") };
    images
}

pub(crate) fn file_of(bytes: &[u8]) -> fs::File {
    let mut file = tempfile::tempfile_in("/var/tmp").unwrap();
    file.write_all(bytes).unwrap();
    file
}

pub(crate) fn stack(image: &ImportedImage) -> Vec<ChainId> {
    image.layers.iter().map(|layer| layer.chain_id).collect()
}

#[test]
fn privileged_an_image_is_the_same_from_every_kind_of_archive() {
    let image = example();
    let layout = tempfile::tempdir_in("/var/tmp").unwrap();
    image.layout(layout.path());
    let layout = fs::File::open(layout.path()).unwrap();
    let [oci, docker] = [image.oci_archive(), image.docker_archive(Compression::None)];
    let [oci_file, docker_file] = [&oci, &docker].map(|bytes| file_of(bytes));
    let [packed, zipped] = [gzip(&oci), zstd::encode_all(&*docker, 1).unwrap()];
    let (packed_file, unpacked) = (file_of(&packed), image.docker_archive(Compression::Gzip));
    let mut streams = [&*oci, &*docker, &*packed, &*zipped, &*unpacked];
    let [oci_stream, docker_stream, gzip_stream, zstd_stream, mixed] = &mut streams;
    for (about, archive) in [
        ("layout", Archive::Layout(layout.as_fd())),
        ("oci-archive in a file", Archive::File(oci_file.as_fd())),
        ("docker-archive in a file", Archive::File(docker_file.as_fd())),
        ("gzip in a file", Archive::File(packed_file.as_fd())),
        ("oci-archive", Archive::Stream(oci_stream)),
        ("docker-archive", Archive::Stream(docker_stream)),
        ("gzip", Archive::Stream(gzip_stream)),
        ("zstd", Archive::Stream(zstd_stream)),
        ("docker-archive of compressed layers", Archive::Stream(mixed)),
    ] {
        let lab = Lab::new();
        let found = images(import(&lab, archive, &ImportOptions::new()).expect(about));
        let [found] = &*found else { panic!("{about}: {found:?}") };
        assert_eq!(found.id, image.id(), "{about}");
        assert_eq!(found.names, ["example:1"], "{about}");
        assert_eq!(found.facts.diff_ids, image.diff_ids(), "{about}");
        assert_eq!(stack(found), ChainId::stack(&image.diff_ids()), "{about}");
        assert!(found.layers.iter().all(|layer| layer.outcome == Imported::New), "{about}");
        assert_eq!(found.blobs.len(), 5, "{about}: manifest, configuration, three layers");
        let mut blobs = lab.store.blobs().unwrap();
        blobs.sort_unstable();
        let mut named = found.blobs.clone();
        named.sort_unstable();
        assert_eq!(blobs, named, "{about}");
        assert_eq!(fs::read_dir(lab.path("tmp")).unwrap().count(), 0, "{about}");

        let root = Rootfs::from_fd(lab.store.mount_layers(&stack(found)).unwrap());
        let list = |path: &str| root.list(path).unwrap();
        assert_eq!(list("etc").unwrap(), ["motd", "passwd"], "{about}");
        assert_eq!(list("srv").unwrap(), ["b"], "{about}");
        assert_eq!(list("run"), None, "{about}");
        assert_eq!(root.read_file("bin/sh", 10).unwrap().unwrap(), b"#!", "{about}");
    }
}

#[test]
fn privileged_what_is_there_is_not_stored_again_and_blobs_need_not_be() {
    let lab = Lab::new();
    let archive = example().oci_archive();
    let dropping = ImportOptions::new().with_blobs(Blobs::Drop);
    let first = images(import(&lab, Archive::Stream(&mut &*archive), &dropping).unwrap());
    assert_eq!(first[0].blobs.len(), 2);
    assert_eq!(lab.store.blobs().unwrap().len(), 2);
    let before = lab.picture();
    let again = images(import(&lab, Archive::Stream(&mut &*archive), &dropping).unwrap());
    assert!(again[0].layers.iter().all(|layer| layer.outcome == Imported::AlreadyThere));
    assert_eq!(again[0].size(), first[0].size());
    assert_eq!(lab.picture(), before);
}

#[test]
fn privileged_a_root_filesystem_is_told_from_an_image() {
    let odd = Tar::new().file("blobs/note", "x").dir("etc").end();
    for (about, bytes) in [("plain", small_root()), ("gzip", gzip(&small_root())), ("odd", odd)] {
        let lab = Lab::new();
        let file = file_of(&bytes);
        for archive in [Archive::Stream(&mut &*bytes), Archive::File(file.as_fd())] {
            let found = import(&lab, archive, &ImportOptions::new()).unwrap();
            let Imports::Rootfs(layer) = found else { panic!("{about}") };
            assert!(layer.parent.is_none() && lab.store.has_layer(&layer.chain_id).unwrap());
        }
        assert_eq!(lab.store.layers().unwrap().len(), 1, "{about}");
    }
    // Said outright, it is what it is said to be.
    let lab = Lab::new();
    let options = ImportOptions::new().with_format(Format::OciArchive);
    let error = import(&lab, Archive::Stream(&mut &*small_root()), &options).unwrap_err();
    assert!(matches!(error, Error::Image { source: ImageFault::Missing(_) }), "{error:?}");
    let options = ImportOptions::new().with_format(Format::Rootfs);
    let archive = example().oci_archive();
    let found = import(&lab, Archive::Stream(&mut &*archive), &options).unwrap();
    assert!(matches!(found, Imports::Rootfs(_)));
}

#[test]
fn privileged_images_are_chosen_by_platform_and_name() {
    let lab = Lab::new();
    let small = |text: &str| Tar::new().file("name", text).end();
    let mut image = Image::new(&[(small("one"), Compression::None)]);
    let mut other = Image::new(&[(small("two"), Compression::None)]);
    other.config["architecture"] = json!("arm64");
    let other = other.seal();
    let platform = |arch: &str| json!({ "os": "linux", "architecture": arch });
    let mut entries = [&image, &other].map(|image| image.index["manifests"][0].clone());
    for (entry, arch) in entries.iter_mut().zip(["amd64", "arm64"]) {
        entry["platform"] = platform(arch);
        entry["annotations"] = json!(null);
    }
    let index = json!({ "schemaVersion": 2, "manifests": entries,
        "mediaType": "application/vnd.oci.image.index.v1+json" })
    .to_string();
    image.blobs.extend(other.blobs.clone());
    let digest = tare_storage::Digest::of(index.as_bytes());
    image.index["manifests"][0] = json!({ "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest.to_string(), "size": index.len() });
    image.blobs.insert(digest.hex(), index.into_bytes());
    let archive = image.oci_archive();
    for (arch, id) in [("amd64", image.id()), ("arm64", other.id())] {
        let options = ImportOptions::new().with_platform(format!("linux/{arch}").parse().unwrap());
        let found = images(import(&lab, Archive::Stream(&mut &*archive), &options).unwrap());
        assert_eq!(found[0].id, id, "{arch}");
    }
    let options = ImportOptions::new().with_platform("linux/s390x".parse().unwrap());
    let error = import(&lab, Archive::Stream(&mut &*archive), &options).unwrap_err();
    let Error::Image { source: ImageFault::Platform { available, .. } } = error else { panic!() };
    assert_eq!(available, ["linux/amd64", "linux/arm64"]);

    let archive = example().docker_archive(Compression::None);
    let named = |name: &str| {
        let options = ImportOptions::new().with_name(name);
        import(&lab, Archive::Stream(&mut &*archive), &options)
    };
    assert_eq!(images(named("example:1").unwrap()).len(), 1);
    let error = named("example:2").unwrap_err();
    let Error::Image { source: ImageFault::Name { available } } = error else { panic!() };
    assert_eq!(available, ["example:1"]);
}

/// What it is, the image, and whether an error is the one for it.
type Case = (&'static str, Image, fn(&Error) -> bool);

#[expect(clippy::too_many_lines, reason = "a table")]
fn hostile() -> Vec<Case> {
    let spoil = |change: &dyn Fn(&mut Image)| {
        let mut image = example();
        change(&mut image);
        image
    };
    let blob_of = |image: &Image, nth: usize| {
        let digest = image.manifest["layers"][nth]["digest"].as_str().unwrap().to_owned();
        digest["sha256:".len()..].to_owned()
    };
    vec![
        (
            "a layer of another digest",
            spoil(&|image| {
                let hex = blob_of(image, 1);
                // Behind the end of the archive, where nothing else is told by it.
                *image.blobs.get_mut(&hex).unwrap().last_mut().unwrap() ^= 1;
            }),
            |error| matches!(error, Error::BlobDigest { .. }),
        ),
        (
            "a longer layer",
            spoil(&|image| {
                let hex = blob_of(image, 1);
                image.blobs.get_mut(&hex).unwrap().push(0);
            }),
            |error| matches!(error, Error::BlobSize { .. }),
        ),
        (
            "a shorter layer",
            spoil(&|image| {
                let hex = blob_of(image, 1);
                image.blobs.get_mut(&hex).unwrap().pop();
            }),
            |error| matches!(error, Error::BlobSize { .. }),
        ),
        (
            "a missing layer",
            spoil(&|image| {
                let hex = blob_of(image, 2);
                image.blobs.remove(&hex);
            }),
            |error| matches!(error, Error::Image { source: ImageFault::Missing(_) }),
        ),
        (
            "another uncompressed layer",
            {
                let mut image = example();
                image.config["rootfs"]["diff_ids"][1] =
                    image.config["rootfs"]["diff_ids"][0].clone();
                image.seal()
            },
            |error| matches!(error, Error::LayerDigest { .. }),
        ),
        (
            "too few layers",
            {
                let mut image = example();
                image.config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
                image.seal()
            },
            |error| matches!(error, Error::Image { source: ImageFault::LayersDiffer { .. } }),
        ),
        (
            "a spoilt configuration",
            spoil(&|image| {
                let hex = image.id().hex();
                image.blobs.get_mut(&hex).unwrap()[1] ^= 1;
            }),
            |error| matches!(error, Error::Image { source: ImageFault::DocumentDigest { .. } }),
        ),
        (
            "a digest that is a path",
            spoil(&|image| {
                image.index["manifests"][0]["digest"] = json!("sha256:../../../../etc/passwd");
            }),
            |error| matches!(error, Error::Image { source: ImageFault::Document { .. } }),
        ),
        (
            "a layer of another kind",
            {
                let mut image = example();
                image.manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
                image.seal_manifest()
            },
            |error| matches!(error, Error::Image { source: ImageFault::MediaType { .. } }),
        ),
        ("no image", spoil(&|image| image.index["manifests"] = json!([])), |error| {
            matches!(error, Error::Image { source: ImageFault::Name { .. } })
        }),
        (
            "an endless index",
            spoil(&|image| {
                // An index cannot name itself, but a long way it can be.
                let mut entry = image.index["manifests"][0].clone();
                for _ in 0..5 {
                    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
                    let digest = tare_storage::Digest::of(index.as_bytes());
                    entry = json!({ "mediaType": "application/vnd.oci.image.index.v1+json",
                    "digest": digest.to_string(), "size": index.len() });
                    image.blobs.insert(digest.hex(), index.into_bytes());
                }
                image.index["manifests"] = json!([entry]);
            }),
            |error| matches!(error, Error::Image { source: ImageFault::Nested }),
        ),
        ("a huge index", spoil(&|image| image.index = json!("x".repeat(5 << 20))), |error| {
            matches!(error, Error::Image { source: ImageFault::DocumentTooLarge { .. } })
        }),
    ]
}

#[test]
fn privileged_hostile_images_are_refused_and_leave_nothing_that_is_needed() {
    let lab = Lab::new();
    let before = lab.picture();
    for (about, image, is_right) in hostile() {
        for blobs in [Blobs::Keep, Blobs::Drop] {
            let archive = image.oci_archive();
            let options = ImportOptions::new().with_blobs(blobs);
            let error = import(&lab, Archive::Stream(&mut &*archive), &options).unwrap_err();
            assert!(is_right(&error), "{about}: {error:?}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{about}");
            // Good layers before the bad one may have come: nobody needs them.
            lab.store.collect_garbage(|| Ok::<_, Error>(Needed::default())).unwrap();
            assert!(lab.picture() == before, "{about}: something is left");
        }
    }
}

#[test]
fn privileged_archives_that_lead_out_are_refused() {
    let lab = Lab::new();
    let image = example();
    let docker = |config: &str, layer: &str| {
        let manifest =
            json!([{ "Config": config, "RepoTags": null, "Layers": [layer, layer, layer] }]);
        archive(&[
            ("manifest.json".into(), manifest.to_string().into_bytes()),
            ("config.json".into(), image.config.to_string().into_bytes()),
        ])
    };
    for (config, layer) in [
        ("../../../etc/passwd", "x"),
        ("/etc/passwd", "x"),
        ("config.json", "../x"),
        ("config.json", "missing.tar"),
    ] {
        let bytes = docker(config, layer);
        let error = import(&lab, Archive::Stream(&mut &*bytes), &ImportOptions::new()).unwrap_err();
        assert!(matches!(error, Error::Image { .. }), "{config} {layer}: {error:?}");
    }
    // A link in an archive stays in it, and one that goes round ends.
    let mut builder = tar::Builder::new(Vec::new());
    for (name, target) in [("manifest.json", "b"), ("b", "manifest.json"), ("c", "../../x")] {
        let mut link = header(EntryType::Symlink, name, target);
        link.set_cksum();
        builder.append(&link, &b""[..]).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    let error = import(&lab, Archive::Stream(&mut &*bytes), &ImportOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Image { source: ImageFault::NotRegular(_) }), "{error:?}");
}

#[test]
fn privileged_a_layout_is_read_without_leaving_it() {
    let image = example();
    let layer =
        image.manifest["layers"][0]["digest"].as_str().unwrap()["sha256:".len()..].to_owned();
    let lab = Lab::new();
    for kind in ["link", "fifo", "directory", "link above"] {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let layout = dir.path().join("layout");
        image.layout(&layout);
        let blob = layout.join("blobs/sha256").join(&layer);
        fs::rename(&blob, dir.path().join("outside")).unwrap();
        match kind {
            "link" => std::os::unix::fs::symlink("../../../outside", &blob).unwrap(),
            "fifo" => {
                assert!(
                    std::process::Command::new("mkfifo").arg(&blob).status().unwrap().success()
                );
            }
            "directory" => fs::create_dir(&blob).unwrap(),
            _ => {
                fs::rename(layout.join("blobs"), dir.path().join("blobs")).unwrap();
                std::os::unix::fs::symlink("../blobs", layout.join("blobs")).unwrap();
            }
        }
        let layout = fs::File::open(&layout).unwrap();
        let error =
            import(&lab, Archive::Layout(layout.as_fd()), &ImportOptions::new()).unwrap_err();
        let fault = matches!(error, Error::Image { source: ImageFault::NotRegular(_) });
        assert!(fault, "{kind}: {error:?}");
    }
}

#[test]
fn privileged_an_exported_image_is_imported_as_the_same() {
    let lab = Lab::new();
    let bytes = example().oci_archive();
    let image = images(import(&lab, Archive::Stream(&mut &*bytes), &ImportOptions::new()).unwrap());
    let exported = ExportedImage { manifest: image[0].manifest, name: Some("again:2".into()) };
    let mut out = Vec::new();
    lab.store.export_images(&[exported.clone(), exported.clone()], &mut out, &NO_WATCH).unwrap();

    let other = Lab::new();
    let again = images(import(&other, Archive::Stream(&mut &*out), &ImportOptions::new()).unwrap());
    assert_eq!((again[0].id, again[0].manifest), (image[0].id, image[0].manifest));
    assert_eq!(again[0].names, ["again:2"]);
    let trees = [(&lab, &image[0]), (&other, &again[0])].map(|(lab, image)| {
        let mount = lab.store.mount_layers(&stack(image)).unwrap();
        tree(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount)).as_ref())
    });
    assert!(trees[0] == trees[1], "{}", difference(&trees[0], &trees[1]));

    // A blob that was spoilt on the disk does not go out as good.
    let layer = image[0].blobs[2].hex();
    let path = lab.path("blobs/sha256").join(layer);
    let mut spoilt = fs::read(&path).unwrap();
    spoilt[20] ^= 1;
    fs::write(&path, spoilt).unwrap();
    let error = lab.store.export_images(&[exported], &mut Vec::new(), &NO_WATCH).unwrap_err();
    assert!(matches!(error, Error::BlobDamaged { .. }), "{error:?}");
}

/// What came with a manifest of docker's: readers of the OCI's know none of its media types.
#[test]
fn privileged_an_image_of_dockers_goes_out_as_one_of_the_oci_and_keeps_its_id() {
    let lab = Lab::new();
    let mut image = example();
    let dockers = |rest: &str| json!(format!("application/vnd.docker.{rest}"));
    image.manifest["mediaType"] = dockers("distribution.manifest.v2+json");
    image.manifest["config"]["mediaType"] = dockers("container.image.v1+json");
    image.manifest["layers"][0]["mediaType"] = dockers("image.rootfs.diff.tar.gzip");
    image.manifest["layers"][1]["mediaType"] = dockers("image.rootfs.diff.tar");
    let bytes = image.seal_manifest().oci_archive();
    let image = images(import(&lab, Archive::Stream(&mut &*bytes), &ImportOptions::new()).unwrap());
    let exported = ExportedImage { manifest: image[0].manifest, name: Some("a:1".into()) };
    let mut out = Vec::new();
    lab.store.export_images(&[exported], &mut out, &NO_WATCH).unwrap();
    let text = String::from_utf8_lossy(&out);
    assert!(!text.contains("vnd.docker"), "nothing says that it was");
    let wanted =
        ["layer.v1.tar\"", "layer.v1.tar+gzip\"", "layer.v1.tar+zstd\"", "config.v1+json\""];
    for part in wanted {
        assert!(text.contains(&format!("application/vnd.oci.image.{part}")), "{part}");
    }
    let other = Lab::new();
    let again = images(import(&other, Archive::Stream(&mut &*out), &ImportOptions::new()).unwrap());
    assert_eq!(again[0].id, image[0].id);

    // An image on top of it has one kind of names, too.
    let layers: Vec<_> = tare_storage::Manifest::parse(
        &lab.store.get_blob(&image[0].manifest, tare_storage::MAX_MANIFEST).unwrap(),
    )
    .unwrap()
    .layers;
    let (_, manifest) = lab.store.put_image(&image[0].config, &layers).unwrap();
    let manifest = lab.store.get_blob(&manifest, tare_storage::MAX_MANIFEST).unwrap();
    assert!(!String::from_utf8(manifest).unwrap().contains("vnd.docker"));
}

/// All of them are in memory until the last is planned.
#[test]
fn privileged_what_says_what_images_there_are_is_bounded() {
    let lab = Lab::new();
    let before = lab.picture();
    let refused = |bytes: &[u8], format: Format| {
        let options = ImportOptions::new().with_format(format);
        let error = import(&lab, Archive::Stream(&mut &*bytes), &options).unwrap_err();
        assert!(lab.picture() == before, "something is left");
        error
    };
    let over = |error: Error| match error {
        Error::Limit { limit, .. } => limit,
        other => panic!("{other:?}"),
    };
    // One configuration, named again and again.
    let mut config = example().config;
    config["history"] = json!([{ "comment": "x".repeat(4_000_000) }]);
    let item = json!({ "Config": "c.json", "RepoTags": [], "Layers": ["a", "b", "c"] });
    let named = json!(vec![item; 17]).to_string().into_bytes();
    let files = [
        ("c.json".to_owned(), config.to_string().into_bytes()),
        ("manifest.json".to_owned(), named),
    ];
    let error = refused(&archive(&files), Format::DockerArchive);
    assert_eq!(over(error), Limit::DocumentBytes);
    let mut tar = Tar::new();
    for nth in 0..4200 {
        let long = format!("{nth}/{}", vec!["d".repeat(200); 20].join("/"));
        tar = tar.pax(&[("path", long.as_bytes())]).file("x", "");
    }
    assert_eq!(over(refused(&tar.end(), Format::DockerArchive)), Limit::NameBytes);
    // A member that is not there byte by byte, and would end beyond all numbers.
    let records = [("GNU.sparse.size", &b"18446744073709551615"[..]), ("GNU.sparse.map", b"0,2")];
    let bytes = Tar::new().pax(&records).file("index.json", "{}").file("oci-layout", "{}").end();
    let error = refused(&bytes, Format::OciArchive);
    let fault = matches!(&error, Error::Image { source: ImageFault::NotRegular(_) });
    assert!(fault, "{error:?}");
}

#[test]
fn privileged_an_image_goes_out_as_docker_wants_it_and_comes_back_as_the_same() {
    let lab = Lab::new();
    let bytes = example().oci_archive();
    let image = images(import(&lab, Archive::Stream(&mut &*bytes), &ImportOptions::new()).unwrap());
    let other = Image::new(&[
        (example().layers[0].clone(), Compression::Zstd),
        (example().layers[0].clone(), Compression::None),
    ]);
    let bytes = other.oci_archive();
    let other = images(import(&lab, Archive::Stream(&mut &*bytes), &ImportOptions::new()).unwrap());
    let one = |image: &ImportedImage, name: Option<&str>| ExportedImage {
        manifest: image.manifest,
        name: name.map(Into::into),
    };
    let wanted = [
        one(&image[0], Some("b.test/again:2")),
        one(&other[0], None),
        one(&image[0], Some("a.test/again:1")),
        one(&image[0], Some("b.test/again:2")),
    ];
    let told = std::cell::Cell::new(0);
    let watch = |bytes| {
        told.set(bytes);
        ControlFlow::Continue(())
    };
    let mut out = Vec::new();
    lab.store.export_for_docker(&wanted, &mut out, &watch).unwrap();
    let layers = example().layers;
    assert_eq!(told.get(), layers.iter().map(|layer| layer.len() as u64).sum::<u64>());

    let mut archive = tar::Archive::new(&*out);
    let members: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut bytes = Vec::new();
            let mut entry = entry.unwrap();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        })
        .collect();
    assert_eq!(members.len(), 1 + 2 + 3, "each is there once");
    for layer in &layers {
        assert!(members.iter().any(|(_, bytes)| bytes == layer), "as it is without compression");
    }
    let manifest: serde_json::Value = serde_json::from_slice(&members[0].1).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["a.test/again:1", "b.test/again:2"]));
    assert_eq!(manifest[1]["Layers"][0], manifest[1]["Layers"][1], "the same layer twice");

    let back = Lab::new();
    let again = images(import(&back, Archive::Stream(&mut &*out), &ImportOptions::new()).unwrap());
    assert_eq!([again[0].id, again[1].id], [image[0].id, other[0].id]);
    assert_eq!(again[0].names, ["a.test/again:1", "b.test/again:2"]);
    assert_eq!(again[1].names, [""; 0]);
    let trees = [(&lab, &image[0]), (&back, &again[0])].map(|(lab, image)| {
        let mount = lab.store.mount_layers(&stack(image)).unwrap();
        tree(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount)).as_ref())
    });
    assert!(trees[0] == trees[1], "{}", difference(&trees[0], &trees[1]));
}

#[test]
fn privileged_what_cannot_go_out_is_found_before_anything_is_written() {
    let lab = Lab::new();
    let bytes = example().oci_archive();
    let image = images(import(&lab, Archive::Stream(&mut &*bytes), &ImportOptions::new()).unwrap());
    let exported = [ExportedImage { manifest: image[0].manifest, name: None }];
    let export = |watch: &dyn Watch| {
        let mut out = Vec::new();
        let error = lab.store.export_for_docker(&exported, &mut out, watch).unwrap_err();
        (error, out.len())
    };
    let (error, written) = export(&|_| ControlFlow::Break(()));
    assert!(matches!(error, Error::Cancelled), "{error:?}");
    assert_eq!(written, 0);

    // In each of the compressions there are.
    for nth in 2..5 {
        let path = lab.path("blobs/sha256").join(image[0].blobs[nth].hex());
        let good = fs::read(&path).unwrap();
        let mut spoilt = good.clone();
        spoilt[good.len() / 2] ^= 1;
        for bad in [&spoilt[..], &good[..good.len() - 5]] {
            fs::write(&path, bad).unwrap();
            let (error, written) = export(&NO_WATCH);
            assert!(matches!(error, Error::BlobDamaged { .. }), "{nth}: {error:?}");
            assert_eq!(written, 0, "{nth}");
        }
        fs::remove_file(&path).unwrap();
        let (error, written) = export(&NO_WATCH);
        assert!(matches!(error, Error::NoBlob { .. }), "{nth}: {error:?}");
        assert_eq!(written, 0, "{nth}");
        fs::write(&path, good).unwrap();
    }
}
