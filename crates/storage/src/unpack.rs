//! Unpacking an archive nobody vouches for, below one directory.
//!
//! `stream` turns the caller's bytes into those of a tar archive, `archive` splits that into
//! entries, `entry` decides what to make of each, and `tree` makes it.

mod acl;
mod archive;
mod below;
mod entry;
mod header;
mod limits;
mod path;
mod pax;
mod sparse;
mod stream;
mod tree;
mod whiteout;

use std::io::{BufReader, Read};
use std::os::fd::{AsFd as _, BorrowedFd};

pub use limits::{Devices, Limits, Watch};

use crate::digest::Digest;
use crate::error::{Error, Limit};
use crate::sys::{Step, perform, write_all_at};
pub(crate) use archive::{Archive, Input};
pub(crate) use below::{Below, is_opaque};
pub(crate) use entry::is_kept;
use entry::{DeviceNode, Entry, Meta, Node};
use header::Extent;
pub(crate) use header::Head;
pub(crate) use path::EntryPath;
pub use stream::Compression;
pub(crate) use stream::{CHUNK, Gauge, Plain, sniff};
use tree::{Replace, Tree, Trouble};
use whiteout::Mark;
pub(crate) use whiteout::{OPAQUE, PREFIX, is_marked};

/// What an archive is unpacked as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// A whole root: there is nothing a whiteout could hide, so it is refused.
    Root,
    /// The lowest layer of an image: whiteouts hide nothing and are left out.
    Base,
    /// A layer over others, kept the way overlayfs keeps layers.
    Layer(Below<'a>),
    /// Changes to a tree that is in use: whiteouts delete.
    Changes,
    /// Files for a tree that is in use: names mean nothing but themselves, and the top keeps its
    /// attributes.
    Files,
    /// The same for all there is in a tree, the attributes of the top included.
    Whole,
}

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

/// Unpacks the archive `input` into the directory `root`.
///
/// If it fails, part of the archive is there; nothing outside of `root` ever is.
pub(crate) fn unpack(
    root: BorrowedFd<'_>,
    form: Form<'_>,
    input: &mut dyn Read,
    limits: &Limits,
    watch: &dyn Watch,
) -> Result<Unpacked, Error> {
    let gauge = Gauge::new(limits, watch);
    let plain = Plain::open(input, &gauge)?;
    unpack_plain(root, form, plain, &gauge)
}

/// [`unpack`] for what is open already.
pub(crate) fn unpack_plain<'a>(
    root: BorrowedFd<'a>,
    form: Form<'a>,
    plain: Plain<'a>,
    gauge: &'a Gauge<'a>,
) -> Result<Unpacked, Error> {
    let plain = BufReader::with_capacity(CHUNK, plain);
    let mut unpacker = Unpacker {
        archive: Archive::new(plain, gauge),
        tree: tree_for(root, form)?,
        form,
        limits: gauge.limits(),
        totals: Totals::default(),
        buffer: vec![0; CHUNK],
    };
    while let Some(head) = unpacker.archive.next()? {
        unpacker.entry(head)?;
    }
    unpacker.finish()
}

fn tree_for<'a>(root: BorrowedFd<'a>, form: Form<'a>) -> Result<Tree<'a>, Error> {
    match form {
        Form::Root | Form::Base => Ok(Tree::new(root, Replace::Anything)),
        Form::Layer(below) => Tree::new(root, Replace::Anything)
            .over(below)
            .map_err(|source| Error::Import { source }),
        Form::Changes => Ok(Tree::new(root, Replace::Anything).remembering()),
        Form::Files | Form::Whole => Ok(Tree::new(root, Replace::Files)),
    }
}

struct Unpacker<'a, R> {
    archive: Archive<'a, R>,
    tree: Tree<'a>,
    form: Form<'a>,
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

/// Whether a name was all there is to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heeded {
    Done,
    Nothing,
}

impl<R: Input> Unpacker<'_, R> {
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
        if self.heed(&path)? == Heeded::Done {
            return self.check_entries().map_err(Trouble::from);
        }
        self.totals.dropped_xattrs += dropped_xattrs;
        match node {
            Node::Directory => self.tree.directory(path, meta)?,
            Node::File { size, extents } => self.file(&path, &meta, size, &extents)?,
            Node::Symlink { target } => self.tree.symlink(&path, &target, &meta)?,
            Node::Fifo => self.tree.fifo(&path, &meta)?,
            Node::HardLink { target } if self.tree.was_skipped(&target) => self.skip(path)?,
            Node::HardLink { target } => self.tree.hard_link(&path, &target)?,
            Node::Device(device) => self.device(path, device, &meta)?,
        }
        self.check_entries().map_err(Trouble::from)
    }

    /// Does what the name of an entry says, if that says more than where it goes.
    fn heed(&mut self, path: &EntryPath) -> Result<Heeded, Trouble> {
        if matches!(self.form, Form::Files | Form::Whole) {
            let kept = path.split().is_none() && matches!(self.form, Form::Files);
            return Ok(if kept { Heeded::Done } else { Heeded::Nothing });
        }
        match (Mark::read(path)?, self.form) {
            (Mark::Plain, _) | (_, Form::Files | Form::Whole) => return Ok(Heeded::Nothing),
            (_, Form::Root) => return Err(crate::error::Refusal::Whiteout.into()),
            (Mark::Ignored, _) | (_, Form::Base) => {}
            (Mark::Whiteout(path), Form::Layer(below)) => self.tree.hide(&path, &below)?,
            (Mark::Opaque(path), Form::Layer(_)) => self.tree.hide_content(&path)?,
            (Mark::Whiteout(path), Form::Changes) => self.tree.delete(&path)?,
            (Mark::Opaque(path), Form::Changes) => self.tree.delete_content(&path)?,
        }
        Ok(Heeded::Done)
    }

    fn device(&mut self, path: EntryPath, device: DeviceNode, meta: &Meta) -> Result<(), Trouble> {
        match self.limits.devices() {
            Devices::LeaveOut => self.skip(path),
            Devices::Make => self.tree.device(&path, device, meta),
        }
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
        // A map may end in a piece without length, to say where the file ends.
        for extent in extents.iter().filter(|extent| extent.length > 0) {
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
