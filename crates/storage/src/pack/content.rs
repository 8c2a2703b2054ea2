//! What is in the files of an archive that is being made.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};

use super::{BLOCK, Form, to_path};
use crate::error::{Error, Failure};
use crate::sys;
use crate::walk::Found;

/// Holes worth a map, in bytes: it costs two blocks.
const MIN_HOLES: u64 = 64 << 10;

/// Pieces a map may have: what it takes must stay below what readers take of a map.
const MAX_PIECES: usize = 10_000;

/// The content of one file, or the pieces of it that are no holes.
#[derive(Debug)]
pub(super) struct Content {
    file: OwnedFd,
    path: Vec<u8>,
    /// Where what is still to be read starts and ends.
    pieces: VecDeque<(u64, u64)>,
    /// Bytes in the pieces, from the start.
    stored: u64,
    sparse: bool,
    size: u64,
}

impl Content {
    pub(super) fn open(found: &Found, form: Form) -> Result<Self, Failure> {
        let file = sys::reopen(found.place.as_fd()).map_err(Failure::read("open it"))?;
        let size = found.stat.size;
        let holes = size.saturating_sub(found.stat.allocated);
        let map =
            if form == Form::Files && holes > MIN_HOLES { pieces(&file, size)? } else { None };
        let sparse = map.is_some();
        let pieces = map.unwrap_or_else(|| VecDeque::from([(0, size)]));
        let stored = pieces.iter().map(|(start, end)| end - start).sum();
        Ok(Self { file, path: found.path.clone(), pieces, stored, sparse, size })
    }

    /// Bytes that are in the archive.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// What is put in front of the pieces if there are holes: how many pieces, where each starts and
    /// how long it is, every number a line, filled up to a block.
    pub(super) fn map(&self) -> Option<Vec<u8>> {
        if !self.sparse {
            return None;
        }
        let end = (self.size, self.size);
        let all = self.pieces.iter().copied().chain([end]);
        let count = format!("{}\n", self.pieces.len() + 1);
        let lines = all.map(|(start, end)| format!("{start}\n{}\n", end - start));
        let mut bytes = [count].into_iter().chain(lines).collect::<String>().into_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        Some(bytes)
    }

    /// Bytes that fill up the last block.
    pub(super) fn padding(&self) -> usize {
        let over = usize::try_from(self.stored % BLOCK as u64).unwrap_or(0);
        (BLOCK - over) % BLOCK
    }

    pub(super) fn is_done(&self) -> bool {
        self.pieces.iter().all(|(start, end)| start == end)
    }

    /// Reads some of it; never nothing.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        while self.pieces.front().is_some_and(|(start, end)| start == end) {
            self.pieces.pop_front();
        }
        let Some((start, end)) = self.pieces.front_mut() else { return Ok(0) };
        let wanted = usize::try_from(*end - *start).unwrap_or(usize::MAX).min(buffer.len());
        let read = sys::read_at(&self.file, &mut buffer[..wanted], *start).map_err(|errno| {
            Error::Pack { path: to_path(&self.path), source: Failure::read("read it")(errno) }
        })?;
        if read == 0 {
            return Err(Error::Changed { path: to_path(&self.path) });
        }
        *start += read as u64;
        Ok(read)
    }
}

/// The pieces of a file that are no holes; `None` if there are too many.
fn pieces(file: &OwnedFd, size: u64) -> Result<Option<VecDeque<(u64, u64)>>, Failure> {
    let mut pieces = VecDeque::new();
    let mut at = 0;
    while let Some((start, end)) =
        sys::next_data(file, at).map_err(Failure::read("look for its holes"))?
    {
        // It may have grown since it was looked at.
        if start >= size {
            break;
        }
        pieces.push_back((start, end.min(size)));
        if pieces.len() > MAX_PIECES {
            return Ok(None);
        }
        at = end;
    }
    Ok(Some(pieces))
}
