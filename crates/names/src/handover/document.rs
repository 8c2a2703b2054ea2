//! All that is known, in a memory file that nobody can change any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use serde::{Deserialize, Serialize};

use super::{Zone, invalid};

/// Longest whole, in bytes: some 100,000 containers.
const MAX_WHOLE: u64 = 64 << 20;
/// What must not be possible any more.
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whole {
    /// All names are below it, too.
    pub(crate) domain: String,
    pub(crate) networks: BTreeMap<String, Zone>,
    /// The networks that are asked: sockets of others are not needed any more.
    pub(crate) served: Vec<String>,
}

/// A file with that in it.
#[expect(clippy::disallowed_methods, reason = "called by `effects` alone")]
pub(crate) fn sealed(whole: &Whole) -> io::Result<OwnedFd> {
    let mut file =
        File::from(memfd_create("names", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(&serde_json::to_vec(whole)?)?;
    fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// What is in such a file.
pub(crate) fn read_sealed(file: OwnedFd) -> io::Result<Whole> {
    if !fcntl_get_seals(&file)?.contains(SEALS) {
        return Err(invalid("a file that can still be changed"));
    }
    let mut file = File::from(file);
    let length = file.metadata()?.len();
    if length > MAX_WHOLE {
        return Err(invalid("more than there can be"));
    }
    // The offset is the one of whoever wrote it.
    file.rewind()?;
    let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_cannot_be_changed_any_more() {
        let whole =
            Whole { domain: "x".into(), networks: BTreeMap::new(), served: vec!["web".into()] };
        let file = sealed(&whole).unwrap();
        let mut again = File::from(file.try_clone().unwrap());
        again.write_all(b"more").expect_err("it is sealed");
        assert_eq!(read_sealed(file).unwrap(), whole);
        let open = memfd_create("names", MemfdFlags::ALLOW_SEALING).unwrap();
        read_sealed(open).expect_err("it is not");
    }
}
