//! What a test is called says what it needs, and `make` goes by that.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

use std::fs;
use std::path::{Path, PathBuf};

const TIERS: [&str; 3] = ["privileged_", "lab_", "vm_"];

/// What all tests in there are called like. Beside the code is what runs anywhere.
const PLACES: [(&str, &str); 8] = [
    ("tests/tests/privileged/", "privileged_"),
    ("tests/tests/labs/", "privileged_"),
    ("tests/tests/lab/", "lab_"),
    ("tests/tests/vm/", "vm_"),
    ("tests/faults/tests/privileged/", "privileged_"),
    ("tests/faults/tests/lab/", "lab_"),
    ("/src/", ""),
    ("/benches/", ""),
];

/// They are about what is private to their crate, and need root to see it done.
const BESIDE_THE_CODE: [&str; 2] = [
    "privileged_a_tree_is_labelled_once_and_nothing_that_a_link_leads_to",
    "privileged_a_tree_that_fails_half_way_does_not_have_the_label",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// The files of Rust below a directory, without what was built.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// The names of the tests in a file.
fn tests(text: &str) -> Vec<&str> {
    let mut lines = text.lines().map(str::trim);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line == "#[test]" {
            let function = lines.find_map(|line| line.strip_prefix("fn "));
            found.extend(function.and_then(|it| it.split('(').next()));
        }
    }
    found
}

fn tier(name: &str) -> &str {
    TIERS.into_iter().find(|tier| name.starts_with(tier)).unwrap_or_default()
}

#[test]
fn every_test_is_called_by_what_it_needs() {
    let mut files = Vec::new();
    for dir in ["crates", "tests"] {
        sources(&root().join(dir), &mut files);
    }
    let mut seen = 0;
    for file in files {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap();
        let Some((_, wanted)) = PLACES.iter().find(|(place, _)| path.contains(place)) else {
            continue;
        };
        for name in tests(&fs::read_to_string(&file).unwrap()) {
            seen += 1;
            assert!(
                tier(name) == *wanted || BESIDE_THE_CODE.contains(&name),
                "{path}: {name} begins with {:?}, tests there with {wanted:?}",
                tier(name)
            );
        }
    }
    assert!(seen > 500, "{seen} were found: this looks in the wrong place");
}

#[test]
fn names_of_tests_are_found_and_their_tiers_told() {
    let text =
        "#[test]\nfn plain() {}\n    #[test]\n    #[ignore = \"x\"]\n    fn vm_it() {\nfn no() {}";
    assert_eq!(tests(text), ["plain", "vm_it"]);
    assert_eq!(["vm_it", "vmx", "privileged_x", "x"].map(tier), ["vm_", "", "privileged_", ""]);
}
