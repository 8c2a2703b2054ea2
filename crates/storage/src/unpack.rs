//! Unpacking an archive nobody vouches for into an empty directory.
//!
//! `stream` turns the caller's bytes into those of a tar archive, `archive` splits that into
//! entries, `entry` decides what to make of each, and `tree` makes it.

mod archive;
mod entry;
mod header;
mod limits;
mod path;
mod pax;
mod stream;
mod tree;

use std::io::{BufReader, Read};
use std::os::fd::{AsFd as _, BorrowedFd};

pub use limits::{Limits, Watch};

use crate::digest::Digest;
use crate::error::{Error, Limit};
use crate::sys::{Step, perform, write_all_at};
use archive::Archive;
use entry::{Entry, Meta, Node};
use header::{Extent, Head};
use path::EntryPath;
use stream::{CHUNK, Gauge, Plain};
use tree::{Tree, Trouble};

/// What was unpacked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unpacked {
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    pub(crate) totals: Totals,
}

/// Counts of what was unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Bytes of file content, holes counted.
    pub(crate) size: u64,
    /// Files, links and directories, implied ones included.
    pub(crate) entries: u64,
    pub(crate) skipped_devices: u64,
    pub(crate) dropped_xattrs: u64,
}

/// Unpacks the archive `input` into the empty directory `root`.
///
/// If it fails, part of the archive is there; nothing outside of `root` ever is.
pub(crate) fn unpack(
    root: BorrowedFd<'_>,
    input: &mut dyn Read,
    limits: &Limits,
    watch: &dyn Watch,
) -> Result<Unpacked, Error> {
    let gauge = Gauge::new(limits, watch);
    let plain = BufReader::with_capacity(CHUNK, Plain::open(input, &gauge)?);
    let mut unpacker = Unpacker {
        archive: Archive::new(plain, &gauge),
        tree: Tree::new(root),
        limits: gauge.limits(),
        totals: Totals::default(),
        buffer: vec![0; CHUNK],
    };
    while let Some(head) = unpacker.archive.next()? {
        unpacker.entry(head)?;
    }
    unpacker.finish()
}

struct Unpacker<'a, R> {
    archive: Archive<'a, R>,
    tree: Tree<'a>,
    limits: &'a Limits,
    totals: Totals,
    buffer: Vec<u8>,
}

impl<'a> Unpacker<'a, BufReader<Plain<'a>>> {
    fn finish(self) -> Result<Unpacked, Error> {
        let mut totals = self.totals;
        totals.entries += self.tree.implied();
        totals.dropped_xattrs += self
            .tree
            .finish()
            .map_err(|(path, source)| Error::Unpack { entry: path.to_path_buf(), source })?;
        let diff_id = self.archive.drain()?.into_inner().digest();
        Ok(Unpacked { diff_id, totals })
    }
}

impl<R: Read> Unpacker<'_, R> {
    fn entry(&mut self, head: Head) -> Result<(), Error> {
        let name = path::to_path_buf(&head.path);
        self.unpack(head).map_err(|trouble| match trouble {
            Trouble::Refused(source) => Error::Refused { entry: name, source },
            Trouble::Failed(source) => Error::Unpack { entry: name, source },
            Trouble::Archive(error) => error,
        })
    }

    fn unpack(&mut self, head: Head) -> Result<(), Trouble> {
        let Entry { path, node, meta, dropped_xattrs } = Entry::plan(head)?;
        self.admit(&path, &node)?;
        self.totals.dropped_xattrs += dropped_xattrs;
        match node {
            Node::Directory => self.tree.directory(path, meta)?,
            Node::File { size, extents } => self.file(&path, &meta, size, &extents)?,
            Node::Symlink { target } => self.tree.symlink(&path, &target, &meta)?,
            Node::Fifo => self.tree.fifo(&path, &meta)?,
            Node::HardLink { target } if self.tree.was_skipped(&target) => self.skip(path)?,
            Node::HardLink { target } => self.tree.hard_link(&path, &target)?,
            Node::Device => self.skip(path)?,
        }
        self.check_entries().map_err(Trouble::from)
    }

    /// Counts an entry before anything is made of it.
    fn admit(&mut self, path: &EntryPath, node: &Node) -> Result<(), Error> {
        let exceeded = |limit, allowed| Err(Error::Limit { limit, allowed });
        if path.depth() > self.limits.depth() {
            return exceeded(Limit::Depth, self.limits.depth());
        }
        if let Node::File { size, .. } = node {
            self.totals.size = self.totals.size.saturating_add(*size);
        }
        if self.totals.size > self.limits.bytes() {
            return exceeded(Limit::Bytes, self.limits.bytes());
        }
        self.totals.entries += 1;
        self.check_entries()
    }

    fn check_entries(&self) -> Result<(), Error> {
        let (entries, allowed) = (self.totals.entries, self.limits.entries());
        if entries + self.tree.implied() > allowed {
            return Err(Error::Limit { limit: Limit::Entries, allowed });
        }
        Ok(())
    }

    fn skip(&mut self, path: EntryPath) -> Result<(), Trouble> {
        self.totals.skipped_devices += 1;
        self.tree.skip(path)
    }

    fn file(
        &mut self,
        path: &EntryPath,
        meta: &Meta,
        size: u64,
        extents: &[Extent],
    ) -> Result<(), Trouble> {
        let file = self.tree.file(path)?;
        let mut end = 0;
        for extent in extents {
            self.copy(file.as_fd(), *extent)?;
            end = extent.offset + extent.length;
        }
        if end < size {
            perform(&Step::Resize { file: file.as_fd(), len: size })?;
        }
        self.totals.dropped_xattrs += tree::set_attributes(file.as_fd(), meta)?;
        Ok(())
    }

    fn copy(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Trouble> {
        let Extent { offset: mut at, length: mut left } = extent;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let read = self.archive.read(&mut self.buffer[..wanted])?;
            if read == 0 {
                // The map of holes speaks of more content than there is.
                return Err(crate::error::Refusal::SparseMap.into());
            }
            write_all_at(file, &self.buffer[..read], at)?;
            at += read as u64;
            left -= read as u64;
        }
        Ok(())
    }
}
