//! That every crate that changes the host may do so in one place only: `clippy.toml` of a crate takes the
//! place of the one above it and cannot include another, so each repeats what all have. And what else
//! nobody would miss: that a crate is linted at all, that those below the service know nothing of each
//! other, and that what is pure is forbidden all else.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BEGINS: &str = "# Of all crates that change the host";
const ENDS: &str = "# Of this one.";

/// Those that forbid something else, and why.
const APART: [(&str, &str); 1] = [("names", "it makes sockets, and nothing that stays")];

fn crates_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

fn crates() -> Vec<PathBuf> {
    fs::read_dir(crates_dir()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Those that have no effects on the host which tests could make fail, and why.
const NO_EFFECTS: [(&str, &str); 4] = [
    ("checkpoint", "it computes"),
    ("ctl", "it asks others"),
    ("specgen", "it computes"),
    ("worker", "it may change nothing"),
];

/// Whether tests can make each effect of a crate fail.
fn has_effects(dir: &Path) -> bool {
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
    let can_fail = manifest.lines().any(|line| line.starts_with("fault ="));
    let has_none = NO_EFFECTS.iter().any(|(name, _)| dir.ends_with(name));
    assert_ne!(can_fail, has_none, "{} has the feature `fault`, or says why not", dir.display());
    can_fail
}

/// What the common part of a file forbids, or says why it does not.
fn common(text: &str) -> BTreeSet<&str> {
    let part = text.split_once(BEGINS).expect("it has the common part").1;
    let part = part.split_once(ENDS).expect("and an end of it").0;
    part.lines().skip(1).filter_map(|line| path(line.trim())).collect()
}

/// `{ path = "PATH", reason = "..." },` or `# Not PATH: why`.
fn path(line: &str) -> Option<&str> {
    if let Some(entry) = line.strip_prefix("{ path = \"") {
        return entry.split('"').next();
    }
    let (path, why) = line.strip_prefix("# Not ")?.split_once(": ")?;
    assert!(!why.is_empty(), "{line}");
    Some(path)
}

#[test]
fn no_crate_changes_the_host_but_where_that_can_be_made_to_fail() {
    let mut seen = Vec::new();
    for dir in crates().into_iter().filter(|dir| has_effects(dir)) {
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        if APART.iter().any(|(apart, _)| *apart == name) {
            continue;
        }
        let text = fs::read_to_string(dir.join("clippy.toml")).unwrap_or_default();
        let forbidden: Vec<String> = common(&text).into_iter().map(Into::into).collect();
        seen.push((name, forbidden));
    }
    let ((first, wanted), others) = seen.split_first().unwrap();
    assert!(wanted.len() > 50 && others.len() > 3, "{seen:?}");
    for (name, forbidden) in others {
        assert_eq!(forbidden, wanted, "{name} and {first}");
    }
}

/// Those that only compute, with some of what would be more than that.
const PURE: [&str; 2] = ["checkpoint", "specgen"];
const IMPURE: [&str; 4] =
    ["std::fs::read", "std::env::var", "std::time::SystemTime::now", "std::process::Command::new"];

#[test]
fn what_only_computes_is_forbidden_all_else() {
    for name in PURE {
        let file = crates_dir().join(name).join("clippy.toml");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let paths: BTreeSet<&str> = text.lines().filter_map(|line| path(line.trim())).collect();
        let missing: Vec<_> = IMPURE.iter().filter(|it| !paths.contains(*it)).collect();
        assert!(missing.is_empty(), "{name} may {missing:?}");
    }
}

/// Of all that is compiled.
fn packages() -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let more = [tests.into(), tests.join("faults"), tests.join("fuzz"), tests.join("world")];
    crates().into_iter().chain(more).collect()
}

#[test]
fn every_crate_says_what_it_is_and_what_has_changed() {
    for dir in crates() {
        for (file, begins) in [("README.md", "# "), ("CHANGELOG.md", "# Changelog\n")] {
            let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
            assert!(text.starts_with(begins), "{} of {}", file, dir.display());
        }
    }
}

/// All files of Rust below a directory.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => vec![path],
        _ => Vec::new(),
    });
    found.collect()
}

/// The lints of the workspace deny `unsafe`; who expects it all the same is one of these.
#[test]
fn unsafe_code_is_in_modules_of_that_name_only() {
    let mut allowed = 0;
    for file in packages().iter().flat_map(|dir| sources(&dir.join("src"))) {
        let text = fs::read_to_string(&file).unwrap();
        let of_system = file.iter().any(|part| part == "sys" || part == "sys.rs");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if !line.contains("(unsafe_code") {
                continue;
            }
            let what = lines.find(|line| !line.starts_with("#[")).unwrap_or_default();
            let is_one = what.ends_with("mod sys;");
            assert!(is_one || (of_system && what.ends_with(';')), "{}: {what}", file.display());
            allowed += 1;
        }
    }
    assert!(allowed > 5, "{allowed}");
}

#[test]
fn every_crate_is_linted() {
    for dir in packages() {
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{}", dir.display());
    }
}

/// Who composes the others, and who only calls.
const ABOVE: [&str; 2] = ["ctl", "service"];

#[test]
fn leaves_know_nothing_of_each_other_nor_of_buses_and_databases() {
    for dir in crates().into_iter().filter(|dir| !ABOVE.iter().any(|it| dir.ends_with(it))) {
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let used = manifest.split_once("\n[dependencies]").map_or("", |it| it.1);
        let used = used.split("\n[").next().unwrap().lines();
        let names = used.filter_map(|line| Some(line.split_once(['.', ' ', '='])?.0));
        let not_theirs =
            |name: &&str| name.starts_with("tare-") || ["zbus", "rusqlite"].contains(name);
        let found: Vec<_> = names.filter(not_theirs).collect();
        assert!(found.is_empty(), "{} uses {found:?}", dir.display());
    }
}

/// What a program is linked of, but for the tools of its build.
fn linked(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--locked", "--offline", "--edges=normal", "--prefix=none"]);
    tree.args(["--format={lib}", "--package", package]).current_dir(crates_dir());
    let told = tree.output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).unwrap().lines().map(Into::into).collect()
}

/// What reads that strangers send over the network, and what that takes.
const OF_REGISTRIES: [&str; 7] =
    ["oci_client", "reqwest", "hyper", "rustls", "ring", "webpki", "rustls_native_certs"];

#[test]
fn the_daemon_has_nothing_of_http_and_tls_and_its_worker_nothing_of_the_daemon() {
    let (daemon, worker) = (linked("tare-service"), linked("tare-worker"));
    let found = |all: &BTreeSet<String>, names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| all.contains(*name)).collect()
    };
    assert_eq!(found(&worker, &OF_REGISTRIES), OF_REGISTRIES, "{worker:?}");
    assert_eq!(found(&daemon, &OF_REGISTRIES), <[&str; 0]>::default());
    let of_daemon = ["zbus", "rusqlite", "tare_storage", "tare_netns", "tare_spawn"];
    assert_eq!(found(&daemon, &of_daemon), of_daemon, "{daemon:?}");
    assert_eq!(found(&worker, &of_daemon), <[&str; 0]>::default());
}

#[test]
fn what_is_forbidden_is_read_with_what_is_not() {
    let text = "x = [\n  # Of all crates that change the host: so\n  { path = \"a::b\", reason = \"sys\" },\n  \
        # Not c::d: it only reads\n  # Of this one.\n  { path = \"e\", reason = \"\" },\n]";
    assert_eq!(common(text), BTreeSet::from(["a::b", "c::d"]));
}
