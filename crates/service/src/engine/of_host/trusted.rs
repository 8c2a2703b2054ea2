//! Files by which root says what is done on the host for containers.
//!
//! What is in them runs as root, or is told to whoever asks for it: nobody else may be able to write to them,
//! or to put another one in the place of one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;

/// More files in one directory are none that somebody wrote by hand.
const MAX_FILES: usize = 1024;
/// Links on the way to one, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Why such files are not read.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It cannot be read.
    #[error("{0} cannot be read")]
    Read(String, #[source] io::Error),
    /// Others than root can change it.
    #[error("{0} can be written to by others than root")]
    Writable(String),
    /// Others than root can read what is secret.
    #[error("{0} can be read by others than root")]
    Readable(String),
    /// There are too many, or one is too large.
    #[error("{0} is too large")]
    TooLarge(String),
}

/// What is in a file.
///
/// # Errors
///
/// [`Untrusted`], also if there is no such file.
pub(super) fn file(path: &Path, max: usize) -> Result<Vec<u8>, Untrusted> {
    let path = real(path)?;
    let shown = path.display().to_string();
    let opened = open(rustix::fs::CWD, &path);
    read(opened.map_err(|source| Untrusted::Read(shown.clone(), source))?, &shown, max)
}

/// What is in a file that nobody but root can read.
///
/// # Errors
///
/// [`Untrusted`], also if there is no such file.
pub(super) fn secret(path: &Path, max: usize) -> Result<Vec<u8>, Untrusted> {
    let path = real(path)?;
    let shown = path.display().to_string();
    let failed = |source| Untrusted::Read(shown.clone(), source);
    let opened = open(rustix::fs::CWD, &path).map_err(failed)?;
    if opened.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(Untrusted::Readable(shown));
    }
    read(opened, &shown, max)
}

/// Where a program is that `path` leads to, which nobody but root can change.
///
/// # Errors
///
/// [`Untrusted`], also if there is no such file.
pub(super) fn program(path: &Path) -> Result<PathBuf, Untrusted> {
    let path = real(path)?;
    let shown = path.display().to_string();
    // Not opened to be read: it may be one that can only be executed.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(rustix::fs::CWD, &path, flags, Mode::empty());
    let place = place.map_err(|errno| Untrusted::Read(shown.clone(), errno.into()))?;
    let place = File::from(place);
    check(&place, &shown)?;
    match place.metadata() {
        Ok(about) if about.is_file() => Ok(path),
        Ok(_) => Err(Untrusted::Read(shown, io::ErrorKind::IsADirectory.into())),
        Err(source) => Err(Untrusted::Read(shown, source)),
    }
}

/// Names and contents of all files of a directory that end in `.json`; in no order.
///
/// # Errors
///
/// [`Untrusted`], also if there is no such directory.
pub(super) fn json_files(dir: &Path, max: usize) -> Result<Vec<(String, Vec<u8>)>, Untrusted> {
    let dir = &real(dir)?;
    let (opened, names) = listed(dir, "json")?;
    let content = |name: String| {
        let shown = dir.join(&name).display().to_string();
        let file = open(&opened, Path::new(&name));
        let file = file.map_err(|source| Untrusted::Read(shown.clone(), source))?;
        let content = read(file, &shown, max)?;
        Ok((name, content))
    };
    names.into_iter().map(content).collect()
}

/// Paths and contents of all files of a directory that end in `.conf`, be it by way of a link; in the order of
/// their names.
///
/// # Errors
///
/// [`Untrusted`], also if there is no such directory.
pub(super) fn conf_files(dir: &Path, max: usize) -> Result<Vec<(PathBuf, Vec<u8>)>, Untrusted> {
    let dir = &real(dir)?;
    let (_, mut names) = listed(dir, "conf")?;
    names.sort();
    let paths = names.into_iter().map(|name| dir.join(name)).filter(|path| !path.is_dir());
    paths.map(|path| file(&path, max).map(|content| (path, content))).collect()
}

/// A directory, and the names in it that have this extension.
fn listed(dir: &Path, extension: &str) -> Result<(File, Vec<String>), Untrusted> {
    let shown = dir.display().to_string();
    let failed = |source| Untrusted::Read(shown.clone(), source);
    let opened = File::open(dir).map_err(failed)?;
    check(&opened, &shown)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&opened).map_err(|errno| failed(errno.into()))? {
        let entry = entry.map_err(|errno| failed(errno.into()))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if Path::new(name).extension().is_none_or(|it| it != extension) {
            continue;
        }
        if names.len() >= MAX_FILES {
            return Err(Untrusted::TooLarge(shown));
        }
        names.push(name.to_owned());
    }
    Ok((opened, names))
}

/// Where that leads, if nobody but root can change that: neither what is on the way there, nor a link.
fn real(path: &Path) -> Result<PathBuf, Untrusted> {
    let failed = |source| Untrusted::Read(path.display().to_string(), source);
    let (mut at, mut ahead, mut links) = (PathBuf::from("/"), names(path), 0);
    while let Some(name) = ahead.pop() {
        check_above(&at)?;
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(name);
        let about = next.symlink_metadata().map_err(failed)?;
        if !about.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(failed(Errno::LOOP.into()));
        }
        // In a directory like /tmp it may be anybody's.
        if about.uid() != 0 {
            return Err(Untrusted::Writable(next.display().to_string()));
        }
        let to = next.read_link().map_err(failed)?;
        if to.is_absolute() {
            at = PathBuf::from("/");
        }
        ahead.extend(names(&to));
    }
    Ok(at)
}

/// The names in a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

/// Opens a regular file; anything else is not even opened, since that alone starts a watchdog, or winds a tape
/// back. A link leads to where nobody has looked.
fn open(dir: impl AsFd, name: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = File::from(openat(dir, name, flags, Mode::empty())?);
    if !place.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

/// All of a file, if that is no more than so many bytes.
fn read(file: File, shown: &str, max: usize) -> Result<Vec<u8>, Untrusted> {
    check(&file, shown)?;
    let mut content = Vec::new();
    let read = file.take(max as u64 + 1).read_to_end(&mut content);
    read.map_err(|source| Untrusted::Read(shown.to_owned(), source))?;
    if content.len() > max {
        return Err(Untrusted::TooLarge(shown.to_owned()));
    }
    Ok(content)
}

/// Whether nobody but root can put another thing in the place of what root has in there.
fn check_above(dir: &Path) -> Result<(), Untrusted> {
    let shown = dir.display().to_string();
    let about = match dir.metadata() {
        Ok(about) => about,
        Err(source) => return Err(Untrusted::Read(shown, source)),
    };
    let is_sticky = about.mode() & 0o1000 != 0;
    let is_closed = about.mode() & 0o022 == 0 || is_sticky;
    if about.uid() == 0 && is_closed { Ok(()) } else { Err(Untrusted::Writable(shown)) }
}

/// Whether it is a file or directory that root alone can change.
fn check(file: &File, shown: &str) -> Result<(), Untrusted> {
    let about = file.metadata().map_err(|source| Untrusted::Read(shown.to_owned(), source))?;
    if !about.is_file() && !about.is_dir() {
        let source = io::ErrorKind::InvalidInput.into();
        return Err(Untrusted::Read(shown.to_owned(), source));
    }
    if about.uid() == 0 && about.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(Untrusted::Writable(shown.to_owned()))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, inotify, mknodat};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    #[test]
    fn who_can_change_a_directory_above_can_change_all() {
        let place = tempfile::tempdir().unwrap();
        let (above, elsewhere) = (place.path().join("above"), place.path().join("elsewhere"));
        let dir = above.join("hooks");
        for dir in [&dir, &elsewhere] {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join("a.json"), "{}").unwrap();
        }
        let mode = |mode| fs::set_permissions(&above, Permissions::from_mode(mode)).unwrap();
        let read = |dir: &Path| json_files(dir, 100).map(|files| files.len());
        // Only root's are trusted, and others may run this.
        if !rustix::process::geteuid().is_root() {
            assert!(matches!(read(&dir), Err(Untrusted::Writable(_))));
            return;
        }
        assert_eq!(read(&dir).unwrap(), 1);
        for (bits, trusted) in [(0o777, false), (0o775, false), (0o1777, true), (0o755, true)] {
            mode(bits);
            assert_eq!(read(&dir).is_ok(), trusted, "{bits:o}");
        }
        symlink(&dir, elsewhere.join("link")).unwrap();
        assert_eq!(read(&elsewhere.join("link")).unwrap(), 1);
        mode(0o777);
        assert!(read(&elsewhere.join("link")).is_err(), "where it leads counts");
        mode(0o755);
        symlink(dir.join("a.json"), elsewhere.join("b.json")).unwrap();
        assert!(matches!(read(&elsewhere), Err(Untrusted::Read(..))));
        // By its name, it is where that leads.
        assert_eq!(file(&elsewhere.join("b.json"), 2).unwrap(), b"{}");
        assert!(matches!(file(&elsewhere.join("b.json"), 1), Err(Untrusted::TooLarge(_))));
        for wrong in [&dir, &dir.join("none"), Path::new("/dev/null")] {
            assert!(matches!(file(wrong, 2), Err(Untrusted::Read(..))), "{}", wrong.display());
        }
        nothing_but_a_file_is_opened(&dir.join("fifo.json"));
        for name in ["2.conf", "1.conf", "3.txt"] {
            fs::write(dir.join(name), name).unwrap();
        }
        symlink(dir.join("3.txt"), dir.join("10.conf")).unwrap();
        fs::create_dir(dir.join("dir.conf")).unwrap();
        let found = conf_files(&dir, 100).unwrap().into_iter().map(|(path, content)| {
            (path.file_name().unwrap().to_owned(), String::from_utf8(content).unwrap())
        });
        let wanted = [("1.conf", "1.conf"), ("10.conf", "3.txt"), ("2.conf", "2.conf")];
        assert!(found.eq(wanted.map(|(name, text)| (name.into(), text.into()))));
        for (bits, wanted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(dir.join("3.txt"), Permissions::from_mode(bits)).unwrap();
            let read = secret(&dir.join("10.conf"), 100);
            assert_eq!(read.is_ok(), wanted, "{bits:o}: {read:?}");
        }
        fs::set_permissions(dir.join("3.txt"), Permissions::from_mode(0o600)).unwrap();
        lchown(dir.join("3.txt"), Some(7), None).unwrap();
        let read = secret(&dir.join("3.txt"), 100);
        assert!(matches!(read, Err(Untrusted::Writable(_))), "somebody else's: {read:?}");
        let found = program(&elsewhere.join("b.json")).unwrap();
        assert_eq!(found, dir.join("a.json").canonicalize().unwrap(), "what a link leads to");
        assert!(matches!(program(&dir), Err(Untrusted::Read(..))), "no program");
        // Links lead there by way of where others can lay other links, or are theirs.
        let (open, link) = (place.path().join("open"), place.path().join("c.json"));
        fs::create_dir(&open).unwrap();
        symlink(dir.join("a.json"), open.join("on")).unwrap();
        symlink("open/../open/on", &link).unwrap();
        assert_eq!(program(&link).unwrap(), found);
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(program(&link), Err(Untrusted::Writable(_))), "on the way");
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        lchown(open.join("on"), Some(7), None).unwrap();
        assert!(matches!(program(&link), Err(Untrusted::Writable(_))), "somebody else's link");
        symlink(place.path().join("round"), place.path().join("round")).unwrap();
        assert!(matches!(program(&place.path().join("round")), Err(Untrusted::Read(..))));
        mode(0o777);
        assert!(matches!(file(&elsewhere.join("b.json"), 2), Err(Untrusted::Writable(_))));
        assert!(matches!(program(&elsewhere.join("b.json")), Err(Untrusted::Writable(_))));
        mode(0o755);
        fs::set_permissions(dir.join("a.json"), Permissions::from_mode(0o722)).unwrap();
        assert!(matches!(program(&dir.join("a.json")), Err(Untrusted::Writable(_))));
    }

    fn nothing_but_a_file_is_opened(place: &Path) {
        mknodat(CWD, place, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, place, inotify::WatchFlags::OPEN).unwrap();
        let opened = || rustix::io::read(&watch, &mut [0_u8; 1024]) != Err(Errno::AGAIN);
        assert!(matches!(file(place, 100), Err(Untrusted::Read(..))));
        assert!(matches!(json_files(place.parent().unwrap(), 100), Err(Untrusted::Read(..))));
        assert!(!opened());
        drop(File::options().read(true).write(true).open(place).unwrap());
        assert!(opened(), "it would have been seen");
        fs::remove_file(place).unwrap();
    }
}
