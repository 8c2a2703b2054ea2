//! Another file in the place of one that is bound into a container.
//!
//! The container is not trusted, and may have anything at that place by now. What is changed there
//! is only ever what is known by device and inode to be the file of the bundle, and it is known by
//! its descriptor from then on: no name is looked up twice.
//!
//! A file that is being put in its place has a name of its own in the bundle. So who finds that
//! after a kill can tell which of the two the container has; and if both are mounted there, the old
//! one is on the name of the new one. What is mounted on a name goes when the name does, in all
//! mount namespaces but that of who takes it away: so none may be taken away without a thought.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Stat, fstat, statat};

use crate::launch::Fd;
use crate::step::{Done, Step};
use crate::undo::{Failure, Undo, failed, run};
use crate::{Cause, Error, Layout, LiveFile, Settings, Swapped, Target, sys, view};

/// A container can make the file longer. One that is longer than this, in bytes, is not what anybody
/// was given, and is not written over.
const MAX_PADDED: u64 = 2 << 20;

/// Which file, and whose.
struct Swap<'a> {
    layout: Layout<'a>,
    file: LiveFile,
    init: BorrowedFd<'a>,
}

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// What came of mounting the new file beneath the old one.
enum Placed {
    /// It is there; and whether the old one is gone.
    Mounted(Result<(), Cause>),
    /// There was something else.
    NotOurs,
}

impl From<Stat> for Identity {
    fn from(stat: Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

pub(super) fn swap_file(
    settings: &Settings,
    target: &Target,
    file: LiveFile,
    init: BorrowedFd<'_>,
) -> Result<Swapped, Error> {
    let layout = Layout::new(&settings.run_dir, &target.id, target.incarnation);
    let swapped = Swap { layout, file, init }.carry_out();
    swapped.map_err(|Failure { cause, leftovers }| Error::SwapFile {
        id: target.id.clone(),
        file,
        cause,
        leftovers,
    })
}

impl Swap<'_> {
    fn carry_out(&self) -> Result<Swapped, Failure> {
        self.settle()?;
        if sys::can_mount_beneath() { self.exchange() } else { Ok(self.write_over()?) }
    }

    /// Finishes, or takes back, what somebody was killed over.
    fn settle(&self) -> Result<(), Cause> {
        self.name_what_is_seen(&self.layout.kept_live_file(self.file))?;
        let new = self.layout.new_live_file(self.file);
        if !self.name_what_is_seen(&new)? {
            return Ok(());
        }
        // It may be beneath the old one. The old one is then mounted on its name, and goes with that.
        let kept = self.layout.kept_live_file(self.file);
        run(&Step::Link { from: new.clone(), to: kept.clone() })?;
        run(&Step::RemoveFile(new))?;
        if self.name_what_is_seen(&kept)? {
            run(&Step::RemoveFile(kept))?;
        }
        Ok(())
    }

    /// If the container has the file of that name, it is the one that it has. Returns whether there
    /// is a file that it has not.
    fn name_what_is_seen(&self, path: &Path) -> Result<bool, Cause> {
        match identity(path)? {
            None => Ok(false),
            Some(begun) if self.seen()? == Some(begun) => {
                let to = self.layout.live_file(self.file);
                run(&Step::Rename { from: path.into(), to }).map(|_| false)
            }
            Some(_) => Ok(true),
        }
    }

    fn exchange(&self) -> Result<Swapped, Failure> {
        let (new, at) = (self.layout.new_live_file(self.file), self.layout.live_file(self.file));
        let Some(ours) = identity(&at)? else { return Ok(Swapped::NotOurs) };
        let mut undo = Undo::default();
        let from = self.layout.next_live_file(self.file);
        let begun = undo.run(&Step::Rename { from, to: new.clone() }).and_then(|_| {
            let mount = clone(&new)?;
            view::on_own_thread(|| self.mount(&mount, ours))
        });
        match begun {
            Ok(Placed::Mounted(removed)) => {
                undo.end(Ok(()))?;
                // From here on it keeps its name: whoever comes next finishes what fails.
                removed?;
                Ok(run(&Step::Rename { from: new, to: at }).map(|_| Swapped::Done)?)
            }
            Ok(Placed::NotOurs) => match undo.roll_back() {
                leftovers if leftovers.is_empty() => Ok(Swapped::NotOurs),
                leftovers => Err(Failure { cause: Cause::Uncleaned, leftovers }),
            },
            Err(cause) => undo.end(Err(cause)),
        }
    }

    /// Runs on a thread that ends, since it moves it into the container.
    fn mount(&self, mount: &Fd, ours: Identity) -> Result<Placed, Cause> {
        let fds = sys::thread_fds().map_err(|source| failed(&"find descriptors", source))?;
        view::enter(self.init)?;
        let Some(top) = self.look()?.filter(|top| known(top) == Some(ours)) else {
            return Ok(Placed::NotOurs);
        };
        let (top, fds, file) = (Arc::new(top), Arc::new(fds), self.file);
        run(&Step::LikeMount { mount: mount.clone(), other: top.clone() })?;
        run(&Step::PlaceBeneath { mount: mount.clone(), top: top.clone(), file })?;
        Ok(Placed::Mounted(run(&Step::RemoveTop { top, fds, file }).map(drop)))
    }

    fn write_over(&self) -> Result<Swapped, Cause> {
        let (next, at) = (self.layout.next_live_file(self.file), self.layout.live_file(self.file));
        let seen = self.seen()?;
        if seen.is_none() || seen != identity(&at)? {
            return Ok(Swapped::NotOurs);
        }
        let failed = |source| failed(&format_args!("read {}", next.display()), source);
        let length = at.symlink_metadata().map_err(failed)?.len();
        if length > MAX_PADDED {
            return Ok(Swapped::NotOurs);
        }
        let text = padded(fs::read(&next).map_err(failed)?, length);
        run(&Step::WriteOver(at, text))?;
        run(&Step::RemoveFile(next))?;
        Ok(Swapped::Done)
    }

    /// The file that the container has.
    fn seen(&self) -> Result<Option<Identity>, Cause> {
        view::on_own_thread(|| {
            view::enter(self.init)?;
            Ok(self.look()?.and_then(|seen| known(&seen)))
        })
    }

    /// In the container.
    fn look(&self) -> Result<Option<OwnedFd>, Cause> {
        let at = self.file.target();
        sys::seen_at(at).map_err(|source| failed(&format_args!("look at {at}"), source))
    }
}

/// With empty lines, so that nothing of what was there stays behind it.
fn padded(mut text: Vec<u8>, length: u64) -> Vec<u8> {
    let length = usize::try_from(length).unwrap_or(0);
    text.resize(text.len().max(length), b'\n');
    text
}

fn clone(path: &Path) -> Result<Fd, Cause> {
    match run(&Step::CloneFile(path.into()))? {
        Done::Fd(mount) => Ok(mount),
        other => unreachable!("cloning gave {other:?}"),
    }
}

/// What is called so, if anything is.
fn identity(path: &Path) -> Result<Option<Identity>, Cause> {
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from) {
        Ok(stat) => Ok(Some(stat.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(&format_args!("look at {}", path.display()), source)),
    }
}

fn known(fd: &OwnedFd) -> Option<Identity> {
    fstat(fd).ok().map(Identity::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_longer_file_stays_behind_a_shorter_one() {
        assert_eq!(padded(b"a\n".to_vec(), 4), b"a\n\n\n");
        assert_eq!(padded(b"abc\n".to_vec(), 2), b"abc\n");
    }
}
