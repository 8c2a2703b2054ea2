//! Trees as tar archives, made as they are read.
//!
//! `header` writes the headers, `content` reads the files, this puts them together from a walk.

mod content;
mod header;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use content::Content;
use header::{Kind, Member, Xattr};

use crate::error::{Error, Failure};
use crate::sys;
use crate::unpack::{OPAQUE, PREFIX, is_kept, is_marked, is_opaque};
use crate::walk::{Found, Walk};

/// Bytes of a block of a tar archive.
const BLOCK: usize = 512;

/// What an archive is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// To be unpacked as it is: names mean nothing but themselves, holes stay holes.
    Files,
    /// A layer of an image, out of one of overlayfs: whiteouts are entries, and holes are filled,
    /// for there are readers of layers that get maps of holes wrong.
    Layer,
}

/// A tree as a tar archive, which is read once from front to end.
///
/// The archive is made while it is read and never held whole. Entries are sorted by name, each
/// directory before what is in it. Owner, mode, time of last change, `user.*` attributes, file
/// capabilities, access control lists and hard links are kept; sockets are left out.
///
/// An error of [`Read::read`] has an [`Error`] inside: [`Error::Pack`], [`Error::PackName`] or
/// [`Error::Changed`]. What was read until then is no archive.
#[derive(Debug)]
pub struct TarStream {
    walk: Walk,
    form: Form,
    /// What the name of the top is in the archive, and comes in front of all others.
    name: Vec<u8>,
    /// Paths that are left out, but for what is in them.
    ignored: Vec<Vec<u8>>,
    /// Bytes to be given before anything else, and how many of them were.
    ready: (Vec<u8>, usize),
    content: Option<Content>,
    /// The first name of what has several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Walking,
    Ended,
    Failed,
}

impl TarStream {
    /// The archive of everything below the directory `top`, whose own entry is `./`.
    pub(crate) fn new(top: BorrowedFd<'_>, form: Form) -> Result<Self, Failure> {
        Ok(Self {
            walk: Walk::new(top)?,
            form,
            name: Vec::new(),
            ignored: Vec::new(),
            ready: (Vec::new(), 0),
            content: None,
            linked: HashMap::new(),
            state: State::Walking,
        })
    }

    /// Calls the top by this name.
    pub(crate) fn named(mut self, name: &OsStr) -> Self {
        self.name = name.as_bytes().to_vec();
        self
    }

    /// Leaves these paths out, but for what is in them.
    pub(crate) fn without(mut self, ignored: &[&str]) -> Self {
        let trimmed = ignored.iter().map(|path| path.trim_matches('/').as_bytes().to_vec());
        self.ignored = trimmed.collect();
        self
    }

    /// The archive of one file that is no directory.
    pub(crate) fn of_file(dir: BorrowedFd<'_>, place: Found, name: &OsStr) -> Result<Self, Error> {
        let mut stream =
            Self::new(dir, Form::Files).map_err(|source| pack_error(&place.path, source))?;
        let place = Found { path: name.as_bytes().to_vec(), ..place };
        stream.entry(&place)?;
        stream.state = State::Ended;
        stream.ready.0.extend(if stream.content.is_none() { &[0; 2 * BLOCK][..] } else { &[] });
        Ok(stream)
    }

    /// Makes the next bytes ready; whether there are any.
    fn advance(&mut self) -> Result<bool, Error> {
        if let Some(content) = self.content.take() {
            let padding = content.padding();
            self.ready = (vec![0; padding], 0);
            if self.state == State::Ended {
                self.ready.0.extend([0; 2 * BLOCK]);
            }
            return Ok(true);
        }
        if self.state == State::Ended {
            return Ok(false);
        }
        if let Some(found) = self.walk.next().map_err(|source| pack_error(b"", source))? {
            self.entry(&found)?;
        } else {
            self.state = State::Ended;
            self.ready = (vec![0; 2 * BLOCK], 0);
        }
        Ok(true)
    }

    fn entry(&mut self, found: &Found) -> Result<(), Error> {
        self.ready = (Vec::new(), 0);
        if self.ignored.contains(&found.path) && !found.path.is_empty() {
            return Ok(());
        }
        let path = self.name_of(found);
        if self.form == Form::Layer {
            if last_part(&found.path).is_some_and(is_marked) {
                return Err(Error::PackName { path: to_path(&found.path) });
            }
            if found.stat.is_whiteout() {
                self.ready.0 = header::marker(&whiteout(&path), found.stat.mtime);
                return Ok(());
            }
        }
        let fail = |source| pack_error(&found.path, source);
        let Some(kind) = self.kind(found, &path).map_err(fail)? else { return Ok(()) };
        let xattrs = xattrs(found).map_err(fail)?;
        let member = Member { path: &path, kind: &kind, stat: &found.stat, xattrs };
        match kind {
            Kind::File => {
                let content = Content::open(found, self.form).map_err(fail)?;
                self.ready.0 = match content.map() {
                    None => member.header(content.stored()),
                    Some(map) => {
                        let stored = content.stored() + map.len() as u64;
                        [member.sparse_header(found.stat.size, stored), map].concat()
                    }
                };
                self.content = Some(content);
            }
            Kind::Directory if self.form == Form::Layer => {
                self.ready.0 = member.header(0);
                self.opaque(found, &path).map_err(fail)?;
            }
            _ => self.ready.0 = member.header(0),
        }
        Ok(())
    }

    /// Name of an entry in the archive; that of a directory ends in a slash.
    fn name_of(&self, found: &Found) -> Vec<u8> {
        let mut name = self.name.clone();
        if !name.is_empty() && !found.path.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(&found.path);
        if found.stat.kind == sys::Kind::Directory {
            name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
        }
        name
    }

    /// What an entry is; `None` if it is left out.
    fn kind(&mut self, found: &Found, path: &[u8]) -> Result<Option<Kind>, Failure> {
        if found.stat.links > 1 && found.stat.kind != sys::Kind::Directory {
            let key = (found.stat.device, found.stat.inode);
            if let Some(target) = self.linked.get(&key) {
                return Ok(Some(Kind::HardLink { target: target.clone() }));
            }
            self.linked.insert(key, path.to_vec());
        }
        Ok(Some(match found.stat.kind {
            sys::Kind::Directory => Kind::Directory,
            sys::Kind::Regular => Kind::File,
            sys::Kind::Symlink => {
                let target =
                    sys::read_link(&found.place).map_err(Failure::read("read the link"))?;
                Kind::Symlink { target: target.as_bytes().to_vec() }
            }
            sys::Kind::Fifo => Kind::Fifo,
            sys::Kind::Character => Kind::Character,
            sys::Kind::Block => Kind::Block,
            sys::Kind::Socket | sys::Kind::Other => return Ok(None),
        }))
    }

    fn opaque(&mut self, found: &Found, path: &[u8]) -> Result<(), Failure> {
        let dir = sys::open_dir_at(&found.place, c".", sys::beneath());
        let opaque = dir.and_then(|dir| is_opaque(dir.as_fd()));
        if opaque.map_err(Failure::read("read its attributes"))? {
            let marker = [path, OPAQUE].concat();
            self.ready.0.extend(header::marker(&marker, found.stat.mtime));
        }
        Ok(())
    }
}

impl Read for TarStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.state == State::Failed {
            return Err(io::Error::other("the archive has failed before"));
        }
        loop {
            let (bytes, given) = &mut self.ready;
            let len = (bytes.len() - *given).min(buffer.len());
            if len > 0 || buffer.is_empty() {
                buffer[..len].copy_from_slice(&bytes[*given..*given + len]);
                *given += len;
                return Ok(len);
            }
            let step = match &mut self.content {
                Some(content) if !content.is_done() => match content.read(buffer) {
                    Ok(read) => return Ok(read),
                    Err(error) => Err(error),
                },
                _ => self.advance(),
            };
            match step {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => {
                    self.state = State::Failed;
                    return Err(io::Error::other(error));
                }
            }
        }
    }
}

/// The extended attributes of a file or directory that go into archives.
fn xattrs(found: &Found) -> Result<Vec<Xattr>, Failure> {
    if found.stat.kind == sys::Kind::Symlink {
        return Ok(Vec::new());
    }
    let place = found.place.as_fd();
    let read = || -> rustix::io::Result<Vec<Xattr>> {
        let mut xattrs = Vec::new();
        for name in sys::xattr_names(place)?.into_iter().filter(|name| is_kept(name.as_bytes())) {
            let value = sys::xattr_of_place(place, &name)?;
            xattrs.extend(value.map(|value| (name.as_bytes().to_vec(), value)));
        }
        xattrs.sort_unstable();
        Ok(xattrs)
    };
    read().map_err(Failure::read("read its attributes"))
}

fn last_part(path: &[u8]) -> Option<&OsStr> {
    path.rsplit(|&byte| byte == b'/').next().map(OsStr::from_bytes)
}

/// The name that hides `path`.
fn whiteout(path: &[u8]) -> Vec<u8> {
    let name = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    [&path[..name], PREFIX, &path[name..]].concat()
}

fn pack_error(path: &[u8], source: Failure) -> Error {
    Error::Pack { path: to_path(path), source }
}

fn to_path(path: &[u8]) -> PathBuf {
    OsStr::from_bytes(path).into()
}
