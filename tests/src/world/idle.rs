//! What a daemon keeps that has no container.

use std::path::Path;

use super::{Change, Difference, Scope};

/// Whether a difference to a host without a daemon is one that stays by design.
pub(super) fn keeps(scope: &Scope, difference: &Difference) -> bool {
    let Change::New(how) = &difference.change else { return false };
    match difference.kind {
        "file" => scope.directories.iter().any(|dir| keeps_file(dir, &difference.name, how)),
        "row" => keeps_row(&difference.name),
        _ => false,
    }
}

/// There is no table of what has gone: images, the default network and the daemon's notes stay.
fn keeps_row(name: &str) -> bool {
    // After the file, which may be called anything.
    let table = name.split_once(".db ").and_then(|(_, row)| row.split(' ').next());
    table.is_some_and(|table| {
        ["meta", "images", "image_layers", "image_references", "image_blobs", "networks"]
            .contains(&table)
    })
}

const DIRECTORY: &str = "directory 0700 0:0";
const DATABASE: &str = "file 0644 0:0";

/// What is below a state or run directory, and how it has to be.
const KEPT: &[(&str, &str)] = &[
    ("", "directory 0755 0:0"),
    ("", DIRECTORY),
    ("blobs", DIRECTORY),
    ("blobs/sha256", DIRECTORY),
    ("containers", DIRECTORY),
    ("db", DIRECTORY),
    ("db/run.db", DATABASE),
    ("db/run.db-shm", DATABASE),
    ("db/run.db-wal", DATABASE),
    ("layers", DIRECTORY),
    ("lock", "file 0600 0:0"),
    ("logs", DIRECTORY),
    ("oci", DIRECTORY),
    ("oci/crun", DIRECTORY),
    ("oci/runc", DIRECTORY),
    ("state.db", DATABASE),
    ("state.db-shm", DATABASE),
    ("state.db-wal", DATABASE),
    ("tmp", DIRECTORY),
    ("volumes", DIRECTORY),
];

/// What stays beside them: crun makes its own directory wherever it is told to work, the directory of
/// namespaces stays after its last one, as with `ip netns`, and the lock that all daemons of a host
/// take in turn to choose a subnet cannot be removed while another may wait for it.
const OF_ALL: &[(&str, &str)] = &[
    ("/run/crun", DIRECTORY),
    ("/run/netns", "directory 0755 0:0"),
    ("/run/tare-subnets.lock", "file of 0 bytes 0600 0:0"),
];

fn keeps_file(dir: &Path, name: &str, how: &str) -> bool {
    let Ok(path) = Path::new(name).strip_prefix(dir) else { return false };
    KEPT.iter().any(|(kept, wanted)| Path::new(kept) == path && *wanted == how)
        || ["layers", "blobs/sha256"].iter().any(|content| path.starts_with(content))
        || OF_ALL.contains(&(name, how))
}
