//! JSON of a bounded size.

use serde::Deserialize;

use crate::{Document, Error};

/// Parses a document of at most `max` bytes. Nesting is bounded by the parser, 128 deep.
pub(crate) fn parse<'d, T: Deserialize<'d>>(
    document: Document,
    max: usize,
    bytes: &'d [u8],
) -> Result<T, Error> {
    if bytes.len() > max {
        return Err(Error::TooLarge { document, max });
    }
    serde_json::from_slice(bytes).map_err(|error| Error::Parse { document, source: error.into() })
}
