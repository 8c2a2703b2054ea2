//! What a daemon keeps that has no container.

use std::collections::BTreeSet;
use std::path::Path;

use super::things::Things;
use super::{Change, Difference, Scope};

/// What of the differences to a host without a daemon stays by design: what comes with the daemon, and
/// what it was asked to make.
pub(super) struct Kept<'s> {
    scope: &'s Scope,
    /// Digests of layers, in hex digits, of which images that were asked for consist.
    layers: BTreeSet<String>,
    /// The same of blobs.
    blobs: BTreeSet<String>,
}

impl<'s> Kept<'s> {
    /// With the rows that are there, which say what images consist of.
    pub(super) fn of(scope: &'s Scope, rows: &Things) -> Self {
        let mut kept = Self { scope, layers: BTreeSet::new(), blobs: BTreeSet::new() };
        kept.blobs.extend(scope.made.images.iter().map(|id| hex(id)));
        for (name, how) in rows.iter() {
            let Some(Row { table, key }) = Row::parse(name) else { continue };
            let (image, rest) = key.split_once(' ').unwrap_or((key, ""));
            match table {
                _ if !scope.made.images.contains(image) => {}
                "image_layers" => kept.layers.extend(field(how, "chain_id").map(hex)),
                "image_blobs" => drop(kept.blobs.insert(hex(rest))),
                _ => {}
            }
        }
        kept
    }

    /// Whether a difference is one of these.
    pub(super) fn is(&self, difference: &Difference) -> bool {
        let Change::New(how) = &difference.change else { return false };
        match difference.kind {
            "file" => self.is_file(&difference.name, how),
            "row" => self.is_row(&difference.name, how),
            _ => false,
        }
    }

    /// There is no table of what has gone.
    fn is_row(&self, name: &str, how: &str) -> bool {
        let Some(Row { table, key }) = Row::parse(name) else { return false };
        let made = &self.scope.made;
        let is_made = |id: &str| made.images.contains(id);
        match table {
            "meta" => {
                ["tag", "boot", "firewall-table", "closed-ipv4", "closed-ipv6"].contains(&key)
            }
            "networks" => key == FIRST_NETWORK || made.networks.contains(key),
            "images" => is_made(key),
            "image_layers" | "image_blobs" => is_made(key.split(' ').next().unwrap_or_default()),
            "image_references" => field(how, "image_id").is_some_and(is_made),
            _ => false,
        }
    }

    fn is_file(&self, name: &str, how: &str) -> bool {
        OF_ALL.contains(&(name, how))
            || self.scope.directories.iter().any(|dir| {
                let paths = [dir.clone(), dir.join("tare")];
                paths.iter().any(|dir| self.is_below(dir, Path::new(name), how))
            })
    }

    fn is_below(&self, dir: &Path, path: &Path, how: &str) -> bool {
        let Ok(path) = path.strip_prefix(dir) else { return false };
        let is_of = |parent: &str, names: &BTreeSet<String>| {
            let below = path.strip_prefix(parent).ok().and_then(|rest| rest.iter().next());
            below.is_some_and(|name| names.contains(&*name.to_string_lossy()))
        };
        KEPT.iter().any(|(kept, wanted)| Path::new(kept) == path && *wanted == how)
            || is_of("layers", &self.layers)
            || is_of("blobs/sha256", &self.blobs)
    }
}

/// The name of a row: a file, which may be called anything, a table, and a key.
struct Row<'n> {
    table: &'n str,
    key: &'n str,
}

impl<'n> Row<'n> {
    fn parse(name: &'n str) -> Option<Self> {
        let (table, key) = name.rsplit_once(".db ")?.1.split_once(' ')?;
        Some(Self { table, key })
    }
}

fn field<'h>(how: &'h str, name: &str) -> Option<&'h str> {
    how.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

fn hex(digest: &str) -> String {
    digest.trim_start_matches("sha256:").into()
}

/// It comes with the daemon.
const FIRST_NETWORK: &str = "tare";

const DIRECTORY: &str = "directory 0700 0:0";
/// Who is root of a container goes through it.
const THROUGH: &str = "directory 0711 0:0";
const DATABASE: &str = "file 0644 0:0";

/// What is below a state or run directory, and how it has to be.
const KEPT: &[(&str, &str)] = &[
    ("", "directory 0755 0:0"),
    ("", DIRECTORY),
    ("blobs", DIRECTORY),
    ("blobs/sha256", DIRECTORY),
    ("checkpoints", DIRECTORY),
    ("containers", DIRECTORY),
    ("containers", THROUGH),
    ("db", DIRECTORY),
    ("db/run.db", DATABASE),
    ("db/run.db-shm", DATABASE),
    ("db/run.db-wal", DATABASE),
    ("layers", DIRECTORY),
    ("lock", "file 0600 0:0"),
    ("logs", DIRECTORY),
    ("nothing", DIRECTORY),
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
