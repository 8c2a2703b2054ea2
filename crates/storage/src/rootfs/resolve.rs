//! Where a path leads, as a path.

use std::collections::VecDeque;

use rustix::io::Errno;

use super::{Rootfs, read_error};
use crate::error::{Error, Failure};

/// As many links are followed as by the kernel.
const MOST_LINKS: usize = 40;

impl Rootfs {
    /// Where `path` leads, links followed inside the root: an absolute path without links, `.` and
    /// `..`. What is not there leads nowhere else: it may be there later.
    ///
    /// It says what is so now. Whoever goes there later must not rely on it unless nobody else can
    /// change the root meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`], also for links that never end and for names that are not UTF-8.
    pub fn resolve(&self, path: &str) -> Result<String, Error> {
        let fail = |step, errno| read_error(path, Failure::read(step)(errno));
        let mut todo: VecDeque<String> = path.split('/').map(Into::into).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            let Some(target) = self.read_link(&done.join("/"))? else { continue };
            let target = target.to_str().ok_or_else(|| fail("follow its links", Errno::ILSEQ))?;
            links += 1;
            if links > MOST_LINKS {
                return Err(fail("follow its links", Errno::LOOP));
            }
            done.pop();
            if target.starts_with('/') {
                done.clear();
            }
            target.split('/').rev().for_each(|part| todo.push_front(part.into()));
        }
        Ok(format!("/{}", done.join("/")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for (name, target) in [
            ("up", "../../../../etc"),
            ("absolute", "/a/b"),
            ("a/relative", "b"),
            ("chain", "absolute/../relative"),
            ("nowhere", "/not/there"),
            ("loop", "loop"),
        ] {
            symlink(target, dir.path().join(name)).unwrap();
        }
        let root = Rootfs::from_fd(fs::File::open(dir.path()).unwrap().into());
        for (path, want) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/up/passwd", "/etc/passwd"),
            ("/absolute/c", "/a/b/c"),
            ("/chain", "/a/b"),
            ("/nowhere/x/../y", "/not/there/y"),
            ("/missing/../../x", "/x"),
        ] {
            assert_eq!(root.resolve(path).unwrap(), want, "{path}");
        }
        for bad in ["/loop", "/loop/x"] {
            assert!(matches!(root.resolve(bad), Err(Error::ReadFile { .. })), "{bad}");
        }
    }
}
