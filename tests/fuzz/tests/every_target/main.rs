//! Every target, with its seeds and some thousand changes of them: the same ones every time, so that a promise
//! that is broken fails here and not only where somebody searches.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

mod change;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz_targets::{TARGETS, Target, Verdict, target};

use crate::change::{Chance, change};

/// Changes that are tried of each target, unless `$FUZZ_CHANGES` says how many.
const CHANGES: usize = 4000;
/// The same where files are made each time.
const WITH_FILES: usize = 400;
/// Of so many one must be taken at least: who refuses all at once is not tried.
const TAKEN: usize = 50;

/// A test for each of them.
macro_rules! every {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                try_out(target(stringify!($name)));
            }
        )+

        const NAMES: &[&str] = &[$(stringify!($name)),+];
    };
}

every! {
    layer docker_manifest manifest index image_config
    passwd group resolv_conf hosts hooks seccomp
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The seeds of a target with their names, sorted.
fn seeds(target: Target) -> Vec<(String, Vec<u8>)> {
    let dir = here().join("seeds").join(target.name);
    let mut seeds: Vec<_> = names(&dir)
        .into_iter()
        .map(|name| {
            let bytes = fs::read(dir.join(&name)).unwrap();
            (name, bytes)
        })
        .collect();
    seeds.sort();
    seeds
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn try_out(target: Target) {
    let seeds = seeds(target);
    for (name, bytes) in &seeds {
        let verdict = watched(target, name, bytes);
        // What each is there for; what a search has found is called otherwise.
        let wanted = match name.split('-').next() {
            Some("good") => Verdict::Taken,
            // Files of root's, as only root makes them: where that is not seen in plain headers.
            Some("root") if rustix::process::geteuid().is_root() => Verdict::Taken,
            Some("bad" | "root") => Verdict::Refused,
            _ => verdict,
        };
        assert_eq!(verdict, wanted, "{} of {name}", target.name);
    }
    // What is refused is no more than material: a change of it is refused as well, mostly.
    let good = seeds.iter().filter(|(name, _)| !name.starts_with("bad-"));
    let good: Vec<Vec<u8>> = good.map(|(_, bytes)| bytes.clone()).collect();
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, bytes)| bytes).collect();
    let mut chance = Chance::of(target.name);
    let (changes, mut taken) = (changes(target), 0);
    for number in 0..changes {
        let seed = chance.one_of(&good);
        let bytes = change(seed, &seeds, target.words, &mut chance);
        let verdict = watched(target, &format!("change-{number}"), &bytes);
        taken += usize::from(verdict == Verdict::Taken);
    }
    assert!(taken * TAKEN >= changes, "of {changes} {taken} were taken: too few were tried");
    assert!(taken < changes, "all were taken: nothing is refused");
}

fn changes(target: Target) -> usize {
    let usual = if target.makes_files { WITH_FILES } else { CHANGES };
    std::env::var("FUZZ_CHANGES").map_or(usual, |said| said.parse().unwrap())
}

/// Keeps what breaks a promise, so that it can be looked at and become a seed.
fn watched(target: Target, name: &str, bytes: &[u8]) -> Verdict {
    catch_unwind(|| (target.check)(bytes)).unwrap_or_else(|_| {
        let kept =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", target.name));
        fs::write(&kept, bytes).unwrap();
        panic!("{name} breaks a promise of {}; it is kept as {}", target.name, kept.display());
    })
}

#[test]
fn every_target_has_a_test_and_seeds() {
    let all: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(NAMES.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), all);
    assert_eq!(names(&here().join("seeds")), all);
}
