//! What kind of host it is measured on.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde::{Deserialize, Serialize};

use crate::{Result, SCRATCH};

/// As many mounts as a busy host of containers has.
pub(crate) const MANY: usize = 3000;

/// What is special about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Condition {
    /// Nothing.
    #[serde(rename = "plain")]
    Plain,
    /// 3,000 more mounts than it has by itself.
    #[serde(rename = "3000 mounts")]
    ManyMounts,
}

impl Condition {
    /// All of them, in the order in which they are gone through.
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::ManyMounts];
    /// For what does not depend on the host.
    pub(crate) const PLAIN: &[Self] = &[Self::Plain];
    /// For what does.
    pub(crate) const BOTH: &[Self] = &Self::ALL;

    /// As the table has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::ManyMounts => "3000 mounts",
        }
    }

    /// Makes the host so, until the value goes.
    pub(crate) fn enter(self) -> Result<Option<Mounts>> {
        match self {
            Self::Plain => Ok(None),
            Self::ManyMounts => Mounts::below(&Path::new(SCRATCH).join("mounts"), MANY).map(Some),
        }
    }
}

/// Directories that are mounted on themselves.
#[derive(Debug)]
pub(crate) struct Mounts(Vec<PathBuf>);

impl Mounts {
    /// Beside each other in one directory, as the containers of others have theirs.
    pub(crate) fn below(dir: &Path, count: usize) -> Result<Self> {
        let mut mounts = Self(Vec::new());
        for number in 0..count {
            let place = dir.join(number.to_string());
            fs::create_dir_all(&place)?;
            mount_bind(&place, &place)?;
            mounts.0.push(place);
        }
        match number(dir)? {
            made if made == count => Ok(mounts),
            made => Err(format!("{made} mounts were made in place of {count}").into()),
        }
    }
}

/// How many mounts there are in a directory. Others come and go elsewhere meanwhile.
fn number(dir: &Path) -> Result<usize> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(places.filter(|place| Path::new(place).parent() == Some(dir)).count())
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for place in &self.0 {
            let _ = unmount(place, UnmountFlags::DETACH);
        }
    }
}
