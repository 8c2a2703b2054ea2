//! An image archive: a tar whose members are documents and layers, in any order.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use tar::EntryType;

use super::Source;
use crate::error::{Error, ImageFault, Limit};
use crate::sys;
use crate::unpack::{Archive, EntryPath, Gauge, Head, Input, Limits, Plain, Watch};

/// Members an image archive may have; one of an image with 500 layers has some 1,500.
const MAX_MEMBERS: u64 = 100_000;

/// Bytes of the names of all members and of what links name; they are remembered.
const MAX_NAME_BYTES: u64 = 16 << 20;

/// Links from member to member that are followed: `docker save` writes one for a layer that two
/// images share.
const MAX_LINKS: usize = 8;

/// An image archive whose members can be found.
#[derive(Debug)]
pub(super) struct Tarball<'f> {
    file: File<'f>,
    members: HashMap<Vec<u8>, Member>,
}

/// The file an archive is in: the caller's, or a copy.
#[derive(Debug)]
pub(super) enum File<'f> {
    Theirs(BorrowedFd<'f>),
    Ours(OwnedFd),
}

impl File<'_> {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Theirs(file) => *file,
            Self::Ours(file) => file.as_fd(),
        }
    }
}

#[derive(Clone, Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// Another name of the member of this path.
    Link(Vec<u8>),
    Other,
}

impl<'f> Tarball<'f> {
    /// Finds the members of a plain tar archive.
    pub(super) fn open(file: File<'f>, limits: &Limits, watch: &dyn Watch) -> Result<Self, Error> {
        let gauge = Gauge::new(limits, watch);
        let mut archive = Archive::new(Positioned { file: file.fd(), at: Cell::new(0) }, &gauge);
        let mut members = HashMap::new();
        let (mut count, mut name_bytes) = (0, 0);
        while let Some(head) = archive.next()? {
            count += 1;
            if count > MAX_MEMBERS {
                return Err(Error::Limit { limit: Limit::Entries, allowed: MAX_MEMBERS });
            }
            name_bytes += (head.path.len() + head.link.len()) as u64;
            if name_bytes > MAX_NAME_BYTES {
                return Err(Error::Limit { limit: Limit::NameBytes, allowed: MAX_NAME_BYTES });
            }
            if watch.progress(0).is_break() {
                return Err(Error::Cancelled);
            }
            let offset = archive.input().at.get();
            if let Some((path, member)) = member(&head, offset) {
                members.insert(path, member);
            }
        }
        Ok(Self { file, members })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name.as_bytes())
    }

    /// Opens a member that is a regular file; its size too.
    pub(super) fn open_member(&self, name: &str) -> Result<(Section<'_>, u64), ImageFault> {
        let mut path = name.as_bytes();
        for _ in 0..=MAX_LINKS {
            match self.members.get(path) {
                None => return Err(ImageFault::Missing(name.into())),
                Some(Member::Other) => return Err(ImageFault::NotRegular(name.into())),
                Some(Member::Link(target)) => path = target,
                Some(&Member::File { offset, size }) => {
                    let end = offset.saturating_add(size);
                    let section = Section { file: self.file.fd(), at: offset, end };
                    return Ok((section, size));
                }
            }
        }
        Err(ImageFault::NotRegular(name.into()))
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.fd()
    }
}

impl Source for Tarball<'_> {
    fn open(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64), Error> {
        let (section, size) = self.open_member(name).map_err(|source| Error::Image { source })?;
        Ok((Box::new(section), size))
    }
}

/// What a member is and what it is called; a name that no document can name is passed over.
fn member(head: &Head, offset: u64) -> Option<(Vec<u8>, Member)> {
    let path = EntryPath::parse(&head.path).ok()?;
    let member = match head.kind {
        // One with holes is not there byte by byte.
        EntryType::Regular | EntryType::Continuous if !head.has_holes() => {
            Member::File { offset, size: head.size }
        }
        EntryType::Link => Member::Link(EntryPath::parse(&head.link).ok()?.as_bytes().to_vec()),
        EntryType::Symlink => Member::Link(relative(&path, &head.link)?),
        _ => Member::Other,
    };
    Some((path.as_bytes().to_vec(), member))
}

/// Where a symbolic link leads, by the text alone; `None` if out of the archive.
fn relative(link: &EntryPath, target: &[u8]) -> Option<Vec<u8>> {
    let (parent, _) = link.split()?;
    let start = if target.starts_with(b"/") { &b""[..] } else { parent };
    let mut parts: Vec<&[u8]> = start.split(|&byte| byte == b'/').collect();
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    Some(parts.join(&b'/'))
}

/// A file read from the start without moving its offset, which the caller may share.
struct Positioned<'f> {
    file: BorrowedFd<'f>,
    at: Cell<u64>,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = sys::read_at(self.file, buffer, self.at.get())?;
        self.at.set(self.at.get() + read as u64);
        Ok(read)
    }
}

impl Input for Positioned<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<bool> {
        let size = sys::stat(self.file)?.size;
        let at = self.at.get().checked_add(bytes).filter(|&at| at <= size);
        self.at.set(at.unwrap_or(size));
        Ok(at.is_some())
    }
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct Section<'f> {
    file: BorrowedFd<'f>,
    at: u64,
    end: u64,
}

impl<'f> Section<'f> {
    /// All of a file.
    pub(super) fn whole(file: BorrowedFd<'f>) -> Self {
        Self { file, at: 0, end: u64::MAX }
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = match sys::read_at(self.file, &mut buffer[..wanted], self.at) {
            // A file that was opened for writing only, or is none.
            Err(Errno::BADF) => return Err(io::Error::other("not open for reading")),
            other => other?,
        };
        self.at += read as u64;
        Ok(read)
    }
}

/// Whether what begins like this may be an image archive: `start` is the first part of a tar.
///
/// A root filesystem whose first entry has such a name is only looked at twice.
pub(super) fn may_be_images(start: &[u8]) -> bool {
    let limits = Limits::default();
    let watch = |_| std::ops::ControlFlow::Continue(());
    let gauge = Gauge::new(&limits, &watch);
    let mut archive = Archive::new(start, &gauge);
    while let Ok(Some(head)) = archive.next() {
        let Ok(path) = EntryPath::parse(&head.path) else { return false };
        if path.split().is_some() {
            return is_of_images(path.as_bytes());
        }
    }
    false
}

fn is_of_images(path: &[u8]) -> bool {
    let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    let known = ["blobs", "index.json", "oci-layout", "manifest.json", "repositories"];
    // go-containerregistry writes `sha256:` in front.
    let hex = first.strip_prefix(b"sha256:").unwrap_or(first);
    let hex = hex.split(|&byte| byte == b'.').next().unwrap_or_default();
    let by_digest = hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit);
    by_digest || known.iter().any(|name| name.as_bytes() == first)
}

/// Copies an uncompressed archive into a file that can be read at any place.
pub(super) fn spool(
    plain: &mut Plain<'_>,
    gauge: &Gauge<'_>,
    file: OwnedFd,
) -> Result<OwnedFd, Error> {
    let mut buffer = vec![0; crate::unpack::CHUNK];
    let mut at = 0;
    loop {
        let read = match plain.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(gauge.explain(error)),
        };
        sys::write_all_at(file.as_fd(), &buffer[..read], at)
            .map_err(|source| Error::Import { source })?;
        at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::Header;

    #[test]
    fn links_are_resolved_by_their_text_and_never_lead_out() {
        let path = |text: &str| EntryPath::parse(text.as_bytes()).unwrap();
        for (link, target, want) in [
            ("b/layer.tar", "../a/layer.tar", Some("a/layer.tar")),
            ("b/layer.tar", "x", Some("b/x")),
            ("b/layer.tar", "/a/./layer.tar", Some("a/layer.tar")),
            ("layer.tar", "../../etc/passwd", None),
            ("b/layer.tar", "../../etc/passwd", None),
        ] {
            let got = relative(&path(link), target.as_bytes());
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{link} -> {target}");
        }
    }

    #[test]
    fn archives_of_images_begin_with_names_of_theirs() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (name, want) in [
            ("blobs/", true),
            ("./oci-layout", true),
            ("manifest.json", true),
            (&format!("{hex}.json"), true),
            (&format!("{hex}/layer.tar"), true),
            (&format!("sha256:{hex}"), true),
            ("sha256:1", false),
            ("etc/passwd", false),
            ("blobs2", false),
            ("bin", false),
        ] {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = Header::new_gnu();
            for set in [Header::set_size, Header::set_uid, Header::set_gid, Header::set_mtime] {
                set(&mut header, 0);
            }
            header.set_mode(0o644);
            header.set_path(name).unwrap();
            header.set_cksum();
            builder.append(&header, &b""[..]).unwrap();
            assert_eq!(may_be_images(&builder.into_inner().unwrap()), want, "{name}");
        }
        assert!(!may_be_images(b""));
    }
}
