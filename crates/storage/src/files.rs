//! Small files that appear whole or not at all.

use std::os::fd::{AsFd as _, BorrowedFd};

use crate::error::{Error, Failure};
use crate::labels;
use crate::names::{FileLabel, FileName};
use crate::rootfs::NewEntry;
use crate::sys::{NewFd, Step, Target, perform, write_all_at};
use crate::undo::UndoStack;

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Its name in the directory.
    pub name: FileName,
    /// Whose it is, and who may read it.
    pub access: Access,
    /// Its label; for hosts with `SELinux`. Where labels are not kept it has none.
    pub label: Option<FileLabel>,
    /// Its content.
    pub content: Vec<u8>,
}

/// Whose a file is, and who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The caller's, and nobody else may read it: mode 0600, as for a `config.json` that holds
    /// secrets.
    Private,
    /// The caller's, and everybody may read it: mode 0644.
    Public,
    /// As said, as for a secret of a user in a container.
    Exactly(NewEntry),
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
            Self::Exactly(NewEntry { mode, .. }) => mode,
        }
    }
}

/// Writes new files into `dir`, in this order, with their exact owner and mode whatever the umask.
///
/// Each gets its name when it is complete, and none replaces another or follows a link: what has
/// the name already is an error. They are not flushed to disk: they belong to a directory that
/// does not outlive the boot. The filesystem must know nameless files (`O_TMPFILE`), as `tmpfs`,
/// ext4, XFS and btrfs do.
///
/// # Errors
///
/// [`Error::WriteFile`]; the files before it are gone again, but for what [`Error::Leftovers`]
/// says.
pub fn write_files(dir: BorrowedFd<'_>, files: &[NewFile]) -> Result<(), Error> {
    let mut undo = UndoStack::new();
    for file in files {
        if let Err(source) = write(&mut undo, dir, file) {
            return Err(undo.roll_back(Error::WriteFile { name: file.name.clone(), source }));
        }
    }
    undo.commit();
    Ok(())
}

fn write<'a>(
    undo: &mut UndoStack<'a>,
    dir: BorrowedFd<'a>,
    NewFile { name, access, label, content }: &'a NewFile,
) -> Result<(), Failure> {
    let file = perform(&NewFd::NamelessFile { dir })?;
    write_all_at(file.as_fd(), content, 0)?;
    let target = Target::Open(file.as_fd());
    // The owner before the mode: a change of owner takes set-user-ID bits away.
    if let Access::Exactly(NewEntry { uid, gid, .. }) = *access {
        perform(&Step::Own { target, uid, gid })?;
    }
    perform(&Step::Mode { target, mode: access.mode() })?;
    if let Some(label) = label {
        labels::set(file.as_fd(), label)?;
    }
    undo.publish(file.as_fd(), dir, name.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn file(name: &str, access: Access) -> NewFile {
        let content = format!("content of {name}").into_bytes();
        NewFile { name: name.parse().unwrap(), access, label: None, content }
    }

    #[test]
    fn files_have_their_content_and_exact_mode() {
        let world = tempfile::tempdir().unwrap();
        let dir = fs::File::open(world.path()).unwrap();
        let owner = fs::metadata(world.path()).unwrap();
        let exactly = NewEntry { uid: owner.uid(), gid: owner.gid(), mode: 0o440 };
        let files = [
            file("config.json", Access::Private),
            file("resolv.conf", Access::Public),
            file("secret", Access::Exactly(exactly)),
        ];
        write_files(dir.as_fd(), &files).unwrap();
        for (name, mode) in [("config.json", 0o600), ("resolv.conf", 0o644), ("secret", 0o440)] {
            let path = world.path().join(name);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("content of {name}"));
        }
    }

    #[test]
    fn nothing_is_replaced_or_followed_and_earlier_files_go_again() {
        for taken in ["file", "link", "dangling", "directory"] {
            let world = tempfile::tempdir().unwrap();
            let at = |name: &str| world.path().join(name);
            fs::write(at("file"), "old").unwrap();
            symlink("file", at("link")).unwrap();
            symlink("nowhere", at("dangling")).unwrap();
            fs::create_dir(at("directory")).unwrap();
            let before = fs::read_dir(world.path()).unwrap().count();

            let dir = fs::File::open(world.path()).unwrap();
            let files = [file("new", Access::Public), file(taken, Access::Public)];
            let error = write_files(dir.as_fd(), &files).unwrap_err();

            assert_eq!(error.to_string(), format!("cannot write file {taken}"));
            assert_eq!(fs::read_dir(world.path()).unwrap().count(), before, "{taken}");
            assert_eq!(fs::read_to_string(at("file")).unwrap(), "old");
        }
    }
}
