//! The members of one archive together.

use std::collections::BTreeSet;

use crate::{Error, Member};

/// The members an archive turned out to have, each of them once.
///
/// Of a member that came twice, one reader would take the first and another the last, and what was
/// checked would not be what is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents(BTreeSet<Member>);

impl Contents {
    /// Most members an archive may have. CRIU writes about ten files for a process, so this is
    /// room for thousands of processes, and a few MiB at most to remember.
    pub const MAX: usize = 65_536;

    /// What no restore can do without.
    const REQUIRED: [&str; 4] =
        ["config.dump", "spec.dump", "checkpoint/inventory.img", "checkpoint/descriptors.json"];

    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateMember`], [`Error::TooManyMembers`].
    pub fn add(&mut self, member: Member) -> Result<(), Error> {
        if self.0.contains(&member) {
            return Err(Error::DuplicateMember { member });
        }
        if self.0.len() == Self::MAX {
            return Err(Error::TooManyMembers { max: Self::MAX });
        }
        self.0.insert(member);
        Ok(())
    }

    /// Whether `member` is among them.
    pub fn has(&self, member: &Member) -> bool {
        self.0.contains(member)
    }

    /// All of them, after the last was added.
    ///
    /// # Errors
    ///
    /// [`Error::MissingMember`] if something lacks that a restore needs.
    pub fn complete(self) -> Result<BTreeSet<Member>, Error> {
        let has = |path: &str| self.0.iter().any(|member| member.to_string() == path);
        match Self::REQUIRED.into_iter().find(|path| !has(path)) {
            Some(path) => Err(Error::MissingMember { path }),
            None => Ok(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntryKind;

    fn member(path: &str) -> Member {
        Member::parse(path.as_bytes(), EntryKind::File).unwrap()
    }

    #[test]
    fn a_member_comes_once() {
        let mut contents = Contents::new();
        contents.add(member("config.dump")).unwrap();
        contents.add(member("checkpoint/inventory.img")).unwrap();
        assert!(contents.has(&Member::Config));
        let error = contents.add(member("config.dump")).unwrap_err();
        assert!(matches!(error, Error::DuplicateMember { member: Member::Config }), "{error:?}");
    }

    #[test]
    fn an_archive_has_what_a_restore_needs() {
        for missing in Contents::REQUIRED {
            let mut contents = Contents::new();
            for path in Contents::REQUIRED.into_iter().filter(|path| *path != missing) {
                contents.add(member(path)).unwrap();
            }
            let error = contents.clone().complete().unwrap_err();
            assert!(matches!(error, Error::MissingMember { path } if path == missing), "{error:?}");
            contents.add(member(missing)).unwrap();
            assert_eq!(contents.complete().unwrap().len(), 4);
        }
    }

    #[test]
    fn there_is_an_end_to_them() {
        let mut contents = Contents::new();
        for n in 0..Contents::MAX {
            contents.add(member(&format!("checkpoint/core-{n}.img"))).unwrap();
        }
        let error = contents.add(member("config.dump")).unwrap_err();
        assert!(matches!(error, Error::TooManyMembers { .. }), "{error:?}");
    }
}
