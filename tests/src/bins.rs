//! The programs under test.

use std::path::PathBuf;

/// The program `name` (`tared`, `tarectl`): in `$TARE_BIN_DIR`, else beside the test's own
/// directory, where Cargo puts it.
///
/// # Panics
///
/// If it was not built.
pub fn bin(name: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p tare-service -p tarectl` first",
        path.display()
    );
    path
}

fn directory() -> PathBuf {
    if let Some(dir) = std::env::var_os("TARE_BIN_DIR") {
        return dir.into();
    }
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_path_buf()
}
