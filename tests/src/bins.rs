//! The programs under test.

use std::path::PathBuf;

/// The program `name` (`tared`, `tare-spawn`, `tare-names`, `tare-worker`, `tarectl`): in one of the directories of
/// `$TARE_BIN_DIR`, which are separated by colons; else beside the test's own directory, where
/// Cargo puts it.
///
/// # Panics
///
/// If it was not built.
pub fn bin(name: &str) -> PathBuf {
    let directories = directories();
    let found = directories.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {name} in {directories:?}: run `make build` first"))
}

fn directories() -> Vec<PathBuf> {
    if let Some(directories) = std::env::var_os("TARE_BIN_DIR") {
        return std::env::split_paths(&directories).collect();
    }
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().unwrap();
    vec![test.ancestors().nth(2).unwrap().to_path_buf()]
}
