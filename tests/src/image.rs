//! Archives to be imported: a good one, and hostile ones.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, memfd_create};
use tar::{Builder, EntryType, Header};

use crate::host::run;

/// The root file system of Debian's `busybox-static`: the program, a link for each of its names,
/// and the few files and directories a container needs. Made once.
pub fn busybox_tar() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| make_busybox().into_inner().unwrap())
}

/// The same with one file more.
pub fn busybox_tar_with(path: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = make_busybox();
    append(&mut tar, path, EntryType::Regular, 0o644, content);
    tar.into_inner().unwrap()
}

/// The same without the links, for who calls `/bin/busybox` and wants it soon.
pub fn least_busybox_tar() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    append_busybox(&mut tar);
    tar.into_inner().unwrap()
}

/// A file that holds `content`, at its beginning.
pub fn file_of(content: &[u8]) -> File {
    let mut file = File::from(memfd_create("archive", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    file
}

fn append_busybox(tar: &mut Builder<Vec<u8>>) {
    for dir in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        let mode = if dir == "tmp" { 0o1777 } else { 0o755 };
        append(tar, dir, EntryType::Directory, mode, b"");
    }
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    append(tar, "bin/busybox", EntryType::Regular, 0o755, &busybox);
}

fn make_busybox() -> Builder<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    append_busybox(&mut tar);
    for name in run("/bin/busybox", &["--list"]).lines().filter(|name| *name != "busybox") {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/:/bin/sh\n";
    append(&mut tar, "etc/passwd", EntryType::Regular, 0o644, passwd);
    append(&mut tar, "etc/group", EntryType::Regular, 0o644, b"root:x:0:\nwww:x:33:\n");
    tar
}

/// An archive with one entry whose name is exactly `name`, whatever that is.
pub fn tar_with(name: &str, kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = header(kind, 0o644, content.len());
    // `set_path` would refuse what is hostile.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&header, content).unwrap();
    tar.into_inner().unwrap()
}

fn append(tar: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, mode: u32, content: &[u8]) {
    let mut header = header(kind, mode, content.len());
    tar.append_data(&mut header, path, content).unwrap();
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
