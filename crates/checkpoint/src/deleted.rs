//! `deleted.files`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, SeqAccess, Visitor};

use crate::{Document, Error, RelativePath, json};

/// The files to delete from a root file system before the changed ones are unpacked into it.
///
/// podman writes a JSON array of paths as the container sees them; a directory is one entry and
/// goes with all that is in it. JSON holds text alone: a name that is not UTF-8 was changed by
/// whoever wrote it, and names another file, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedFiles(Vec<RelativePath>);

impl DeletedFiles {
    /// Longest document, in bytes: room for a hundred bytes for each entry.
    pub const MAX_LEN: usize = 100 * Self::MAX_ENTRIES;
    /// Most entries. A deleted directory is one, so real lists have few.
    pub const MAX_ENTRIES: usize = 65_536;

    /// Reads the document.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::Parse`] also for too many entries, [`Error::DeletedFile`] for
    /// the first entry that is no path below a root.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let Entries(entries) = json::parse(Document::DeletedFiles, Self::MAX_LEN, bytes)?;
        let path = |(index, entry): (usize, &String)| {
            RelativePath::in_container(entry).map_err(|source| Error::DeletedFile { index, source })
        };
        entries.iter().enumerate().map(path).collect::<Result<_, _>>().map(Self)
    }

    /// The paths, in the order of the archive.
    pub fn paths(&self) -> &[RelativePath] {
        &self.0
    }
}

/// A bounded array of strings.
struct Entries(Vec<String>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of paths")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = from.next_element::<String>()? {
            if entries.len() == DeletedFiles::MAX_ENTRIES {
                return Err(A::Error::custom("too many entries"));
            }
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InvalidPath;
    use proptest::prelude::*;

    fn texts(bytes: &[u8]) -> Vec<String> {
        let files = DeletedFiles::parse(bytes).unwrap();
        files.paths().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn podmans_lists_are_read() {
        assert_eq!(texts(br#"["/etc/motd"]"#), ["etc/motd"]);
        assert_eq!(texts(br#"[ "/b", "/a b/c" ]"#), ["b", "a b/c"]);
        assert!(texts(b"[]").is_empty());
    }

    #[test]
    fn an_entry_that_leads_out_spoils_the_list() {
        for (entry, why) in [
            ("", InvalidPath::Root),
            ("/", InvalidPath::Root),
            ("..", InvalidPath::Dots),
            ("/etc/../../../host", InvalidPath::Dots),
            ("a\\u0000", InvalidPath::Nul),
        ] {
            let error = DeletedFiles::parse(format!(r#"["/fine", "{entry}"]"#).as_bytes());
            let Err(Error::DeletedFile { index: 1, source }) = error else {
                panic!("{entry}: {error:?}")
            };
            assert_eq!(source, why, "{entry}");
        }
    }

    #[test]
    fn another_shape_is_refused() {
        for text in ["", "null", "{}", "[1]", "[null]", "[[\"/a\"]]", "[\"/a\"] x", "[\"/a\""] {
            let error = DeletedFiles::parse(text.as_bytes()).unwrap_err();
            let Error::Parse { document: Document::DeletedFiles, .. } = error else {
                panic!("{text}: {error:?}")
            };
        }
    }

    #[test]
    fn it_is_bounded() {
        let list = |entries: usize| format!("[{}]", vec!["\"a\""; entries].join(","));
        let most = list(DeletedFiles::MAX_ENTRIES);
        assert_eq!(texts(most.as_bytes()).len(), DeletedFiles::MAX_ENTRIES);
        let error = DeletedFiles::parse(list(DeletedFiles::MAX_ENTRIES + 1).as_bytes());
        assert!(matches!(error, Err(Error::Parse { .. })), "{error:?}");
        let spaces = vec![b' '; DeletedFiles::MAX_LEN + 1];
        let error = DeletedFiles::parse(&spaces).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = DeletedFiles::parse(&bytes);
        }

        #[test]
        fn order_and_number_are_kept(names in proptest::collection::vec("[a-z]{1,9}", 0..20)) {
            let text = serde_json::to_string(&names).unwrap();
            prop_assert_eq!(texts(text.as_bytes()), names);
        }
    }
}
