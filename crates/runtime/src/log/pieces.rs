use super::record::{Line, Record};

/// Longest message that pieces are joined to, in bytes; a longer one is given in several records.
pub(super) const MAX_MESSAGE: usize = 256 << 10;
/// Longest piece, in bytes.
pub(super) const MAX_PIECE: usize = 64 << 10;

/// Pieces of lines that have not ended, for each stream.
#[derive(Debug, Default)]
pub(super) struct Pieces([Option<Record>; 2]);

impl Pieces {
    /// Adds a line to what came before it; gives the record if it is whole, or long enough.
    pub(super) fn join(&mut self, line: &Line<'_>) -> Option<Record> {
        let unfinished = &mut self.0[line.stream as usize];
        let record = unfinished.get_or_insert_with(|| Record {
            timestamp_usec: line.timestamp_usec,
            stream: line.stream,
            message: Vec::new(),
        });
        record.message.extend_from_slice(line.text);
        if line.ends || record.message.len() + MAX_PIECE > MAX_MESSAGE {
            return unfinished.take();
        }
        None
    }

    /// What will not be ended any more.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Record> + use<'_> {
        self.0.iter_mut().filter_map(Option::take)
    }
}

/// Counts records from the newest back, by their last pieces: those that say so, and the last there is
/// of a stream.
#[derive(Debug, Default)]
pub(super) struct Backwards([bool; 2]);

impl Backwards {
    /// Whether a record ends here.
    pub(super) fn is_end(&mut self, line: &Line<'_>) -> bool {
        let seen = std::mem::replace(&mut self.0[line.stream as usize], true);
        line.ends || !seen
    }
}
