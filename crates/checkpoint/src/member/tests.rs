use std::path::{Component, Path};

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

/// Members as podman writes them, with the kinds it writes them with.
const KNOWN: [(&str, EntryKind); 18] = [
    ("config.dump", EntryKind::File),
    ("spec.dump", EntryKind::File),
    ("network.status", EntryKind::File),
    ("stats-dump", EntryKind::File),
    ("rootfs-diff.tar", EntryKind::File),
    ("deleted.files", EntryKind::File),
    ("devshm-checkpoint.tar", EntryKind::File),
    ("ctr.log", EntryKind::File),
    ("pod.options", EntryKind::File),
    ("pod.dump", EntryKind::File),
    ("artifacts/", EntryKind::Directory),
    ("artifacts/create-config", EntryKind::File),
    ("checkpoint/", EntryKind::Directory),
    ("checkpoint/inventory.img", EntryKind::File),
    ("checkpoint/descriptors.json", EntryKind::File),
    ("checkpoint/tmpfs-dev-100.tar.gz.img", EntryKind::File),
    ("volumes/", EntryKind::Directory),
    ("volumes/my-data.1.tar", EntryKind::File),
];

#[test]
fn what_podman_writes_is_known() {
    for (path, kind) in KNOWN {
        let member = Member::parse(path.as_bytes(), kind).unwrap();
        assert_eq!(member.to_string(), path.trim_end_matches('/'));
        assert_eq!(member.kind(), kind);
    }
}

#[test]
fn a_directory_may_lack_its_slash_and_a_file_may_not_have_one() {
    assert_eq!(Member::parse(b"volumes", EntryKind::Directory).unwrap(), Member::Volumes);
    let error = Member::parse(b"config.dump/", EntryKind::File).unwrap_err();
    assert!(matches!(error, Error::UnknownMember { .. }), "{error:?}");
}

#[test]
fn a_known_name_of_another_kind_is_refused() {
    use EntryKind::{Directory, File, Link, Special};
    for (path, right) in KNOWN {
        for found in [File, Directory, Link, Special].into_iter().filter(|kind| *kind != right) {
            let error = Member::parse(path.as_bytes(), found).unwrap_err();
            assert!(
                matches!(error, Error::MemberKind { wanted, found: f, .. } if wanted == right && f == found),
                "{path} as {found}: {error:?}"
            );
        }
    }
}

#[test]
fn any_other_name_is_refused() {
    for path in [
        "",
        "/",
        ".",
        "..",
        "//",
        "./config.dump",
        "/config.dump",
        "config.dumpX",
        "config.dump/x",
        "Config.dump",
        "config.json",
        "config.dump\0",
        "config.dump ",
        "secrets/x",
        "checkpointX/inventory.img",
        "checkpoint/../config.dump",
        "checkpoint/..",
        "checkpoint//inventory.img",
        "checkpoint/./inventory.img",
        "checkpoint/a/b",
        "checkpoint/.hidden",
        "checkpoint/-rf",
        "checkpoint\\inventory.img",
        "pre-checkpoint/inventory.img",
        "dump.log",
        "pod.x",
        "volumes/.tar",
        "volumes/..tar",
        "volumes/../x.tar",
        "volumes/a/b.tar",
        "volumes/a",
        "volumes/a.tar.gz",
        "rootfs-diff.tar.gz",
        "userdata-evil",
    ] {
        let error = Member::parse(path.as_bytes(), EntryKind::File).unwrap_err();
        assert!(matches!(error, Error::UnknownMember { .. }), "{path:?}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(Member::parse(b"checkpoint/\xff", EntryKind::File).is_err(), "not UTF-8");
    assert!(Member::parse(b"volumes//", EntryKind::Directory).is_err(), "two slashes");
}

#[test]
fn a_refused_name_is_shown_short_and_harmless() {
    let hostile = format!("\u{1b}[31m{}", "x".repeat(100_000));
    let text = Member::parse(hostile.as_bytes(), EntryKind::File).unwrap_err().to_string();
    assert!(text.len() < 400, "{} bytes", text.len());
    assert!(text.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{text}");
}

fn kinds() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        Just(EntryKind::File),
        Just(EntryKind::Directory),
        Just(EntryKind::Link),
        Just(EntryKind::Special),
    ]
}

/// Paths made of the pieces that are dangerous or nearly right.
fn paths() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("/"),
        Just(".."),
        Just("."),
        Just("checkpoint"),
        Just("volumes"),
        Just("artifacts"),
        Just("config.dump"),
        Just("a"),
        Just(".tar"),
        Just(".img"),
        Just("\0"),
        Just("\\"),
        Just("-"),
    ];
    prop_oneof![
        proptest::collection::vec(piece, 0..6).prop_map(|p| p.concat().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_accepted_name_leaves_its_directory(path in paths(), kind in kinds()) {
        if let Ok(member) = Member::parse(&path, kind) {
            let name = member.to_string();
            prop_assert!(matches!(kind, EntryKind::File | EntryKind::Directory));
            prop_assert!(!name.contains('\0'));
            let parts: Vec<_> = Path::new(&name).components().collect();
            prop_assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))));
            prop_assert!((1..=2).contains(&parts.len()), "{name}");
        }
    }

    #[test]
    fn an_accepted_name_is_written_as_it_was_read(path in paths(), kind in kinds()) {
        if let Ok(member) = Member::parse(&path, kind) {
            let bare = path.strip_suffix(b"/").unwrap_or(&path);
            let written = member.to_string();
            prop_assert_eq!(written.as_bytes(), bare);
        }
    }

    #[test]
    fn every_image_and_volume_of_the_grammar_is_known(name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,250}") {
        let image = Member::parse(format!("checkpoint/{name}").as_bytes(), EntryKind::File);
        prop_assert_eq!(image.unwrap(), Member::Image(name.parse().unwrap()));
        let volume = Member::parse(format!("volumes/{name}.tar").as_bytes(), EntryKind::File);
        prop_assert_eq!(volume.unwrap(), Member::Volume(name.parse().unwrap()));
    }
}
