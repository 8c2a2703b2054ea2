//! What is measured.
//!
//! Each file has the rows of one subject in its `ROWS`. Here it is named once, which makes it part of the
//! program and of the table; a row that is in no `ROWS` is dead code, and a file that is not named
//! fails a test.

use crate::row::Row;

/// The files, in the order of the table.
macro_rules! files {
    ($($file:ident)+) => {
        $(mod $file;)+

        /// The rows of each file.
        const FILES: &[&[Row]] = &[$($file::ROWS),+];

        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($file)),+];
    };
}

files! {
    life start rate list memory first_answer network names follow layers import diff spec checkpoint
}

/// All rows, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    FILES.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::row::Who;

    #[test]
    fn every_file_is_part_of_the_table() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/rows");
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.is_file());
        let found: BTreeSet<String> =
            files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(found, NAMES.iter().map(ToString::to_string).collect());
    }

    #[test]
    fn every_row_has_a_name_of_its_own_and_says_what_it_measures() {
        let mut names = BTreeSet::new();
        for row in all() {
            assert!(names.insert(row.name), "{} is there twice", row.name);
            assert!(!row.name.is_empty() && !row.measures.is_empty(), "{}", row.name);
            assert!(!row.contestants.is_empty() && !row.under.is_empty(), "{}", row.name);
        }
    }

    #[test]
    fn we_take_part_in_every_row_and_are_the_first() {
        for row in all() {
            let ours = |who: &Who| matches!(who, Who::Tare | Who::TareForUser | Who::Library(_));
            assert!(row.contestants.first().is_some_and(ours), "{}", row.name);
        }
    }
}
