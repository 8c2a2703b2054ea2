//! The extractor's own parsers. They are no part of what the crate offers, so they are compiled
//! into this program, where they find the errors they need in `crate::error`.
#![expect(dead_code, unused_imports, reason = "not all of what is in them is measured")]

#[path = "../../src/unpack/header.rs"]
mod header;
#[path = "../../src/unpack/path.rs"]
mod path;
#[path = "../../src/unpack/pax.rs"]
mod pax;

use tar::Header;

/// The length of a name, once it is read.
pub(crate) fn path_length(name: &[u8]) -> usize {
    path::EntryPath::parse(name).unwrap().as_bytes().len()
}

/// The size of an entry, once all that is said of it is read.
pub(crate) fn size(header: &Header, pax: Option<Vec<u8>>) -> u64 {
    header::check_sum(header).unwrap();
    let extensions = header::Extensions { pax, ..header::Extensions::default() };
    extensions.head(header).unwrap().size
}
