//! A store of its own for each test, archives to put into it, and a picture of it all.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write as _};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use host_world::{Guard, Scope};
use tar::{Builder, EntryType, Header};
use tare_storage::{Digest, Error, Layer, Limits, Store};

/// A store in a directory that goes with it.
pub(crate) struct Lab {
    pub(crate) store: Store,
    /// Parent of the store: what must not change.
    pub(crate) dir: tempfile::TempDir,
    /// It looks when it is dropped, last.
    guard: Guard,
}

impl Lab {
    /// # Panics
    ///
    /// If not root: a privileged test that cannot run is a failure, never a silent pass.
    pub(crate) fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root");
        // Not /tmp: overlayfs takes no overlayfs as its upper, and some have that there.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        // What is mounted from there, who uses it, and what of it this process has open.
        let mark = dir.path().display().to_string();
        let guard = Guard::new(Scope::of_marked(Vec::new(), vec![mark]));
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { store, dir, guard }
    }

    pub(crate) fn opened_again(self) -> Self {
        let Self { store, dir, guard } = self;
        drop(store);
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { store, dir, guard }
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("store").join(below)
    }

    pub(crate) fn import(&self, archive: &[u8]) -> Result<Layer, Error> {
        self.import_within(archive, &Limits::default())
    }

    pub(crate) fn import_within(&self, archive: &[u8], limits: &Limits) -> Result<Layer, Error> {
        self.store.import_layer(archive, limits, &|_| ControlFlow::Continue(()))
    }

    /// The tree of a layer.
    pub(crate) fn diff(&self, layer: &Layer) -> PathBuf {
        self.path("layers").join(layer.chain_id.hex()).join("diff")
    }

    /// Everything there is in the store and beside it.
    pub(crate) fn picture(&self) -> BTreeMap<PathBuf, String> {
        picture(self.dir.path())
    }
}

/// Every path with type, mode, owner, and size, time and content of what is no directory.
pub(crate) fn picture(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut line = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            line += &format!(" {} {}.{:09}", meta.size(), meta.mtime(), meta.mtime_nsec());
        }
        if meta.is_file() {
            line += &format!(" {}", Digest::of(&fs::read(&path).unwrap()));
        } else if meta.is_symlink() {
            line += &format!(" {}", fs::read_link(&path).unwrap().display());
        }
        found.insert(path, line);
    }
    found
}

/// An archive being written, with names no decent one would have.
pub(crate) struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.entry(&header(EntryType::Regular, path, ""), content.as_bytes())
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(&header(EntryType::Directory, path, ""), b"")
    }

    pub(crate) fn node(self, kind: EntryType, path: &str) -> Self {
        self.entry(&header(kind, path, ""), b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(&header(EntryType::Symlink, path, target), b"")
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.entry(&header(EntryType::Link, path, target), b"")
    }

    pub(crate) fn pax<'a>(mut self, records: &[(&'a str, &'a [u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    /// Appends an entry as it is; sets its size and checksum.
    pub(crate) fn entry(mut self, header: &Header, content: &[u8]) -> Self {
        let mut header = header.clone();
        if !content.is_empty() {
            header.set_size(content.len() as u64);
        }
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    /// What was written until now, without an end marker.
    pub(crate) fn cut(self) -> Vec<u8> {
        let mut bytes = self.end();
        bytes.truncate(bytes.len() - 1024);
        bytes
    }
}

/// A header with a literal name, owned by root, from the year 2001.
pub(crate) fn header(kind: EntryType, path: &str, link: &str) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(0);
    if kind.is_character_special() || kind.is_block_special() {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// The archive of a small root with a bit of everything.
pub(crate) fn small_root() -> Vec<u8> {
    Tar::new()
        .dir("./")
        .dir("usr")
        .dir("usr/bin")
        .symlink("bin", "usr/bin")
        .file("bin/sh", "#!")
        .dir("etc")
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        .link("etc/passwd-", "etc/passwd")
        .node(EntryType::Fifo, "run/initctl")
        .node(EntryType::Char, "dev/null")
        .end()
}

pub(crate) fn read(path: &Path) -> String {
    let mut text = String::new();
    fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// An extended attribute, if it is there.
pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1000];
    let len = rustix::fs::lgetxattr(path.as_os_str().as_bytes(), name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}
