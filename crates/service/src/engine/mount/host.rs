//! Files and directories of the host.
//!
//! Whoever asks for one gives it open, or is root. What is open is the thing that is asked about, by
//! the path it has then. Once that is allowed, it is pinned: by path, device, inode and file handle,
//! and at each start it is opened again and has to be the same.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use tare_specgen::{AbsolutePath, MountRequest, MountSource, MountTarget, SubPath};
use tare_storage::Pin;

use super::{AskedMount, AskedSource, Source};
use crate::authority::Caller;
use crate::engine::blocking::unbounded;
use crate::engine::records::durable::Pins;
use crate::engine::{Error, Inner};

/// A mount whose source, if it is a thing of the host, is open.
#[derive(Debug)]
pub(in crate::engine) enum Opened {
    Host(HostSource, MountRequest),
    Image { name: String, sub_path: Option<SubPath>, asked: AskedMount },
}

/// Something of the host that is open, as it was asked for.
#[derive(Debug)]
pub(in crate::engine) struct HostSource {
    /// Which of the mounts.
    at: usize,
    target: MountTarget,
    /// Where it was when it was asked about.
    path: AbsolutePath,
    place: OwnedFd,
}

impl HostSource {
    /// It itself: nothing is mounted.
    pub(in crate::engine) fn into_source(self) -> Source {
        Source { target: self.target, mount: self.place }
    }
}

/// Opens what `by` asks for by path, and finds out where that and the rest is. A filesystem may never
/// answer; what is open already is not asked anything.
pub(in crate::engine) async fn open(
    by: &Caller,
    asked: Vec<AskedMount>,
) -> Result<Vec<Opened>, Error> {
    let is_path = |mount: &AskedMount| matches!(mount.source, AskedSource::Path(_));
    match asked.iter().position(is_path) {
        Some(at) if by.uid != 0 => Err(Error::SourcePath(at)),
        Some(_) => unbounded("open", move || open_all(asked)).await,
        None => open_all(asked),
    }
}

fn open_all(asked: Vec<AskedMount>) -> Result<Vec<Opened>, Error> {
    asked.into_iter().enumerate().map(|(at, mount)| open_one(at, mount)).collect()
}

fn open_one(at: usize, asked: AskedMount) -> Result<Opened, Error> {
    let place = match asked.source {
        AskedSource::Image { ref name, ref sub_path } => {
            let (name, sub_path) = (name.clone(), sub_path.clone());
            return Ok(Opened::Image { name, sub_path, asked });
        }
        AskedSource::Open(place) => place,
        AskedSource::Path(path) => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(CWD, path.as_str(), flags, Mode::empty());
            opened.map_err(|errno| Error::OpenSource { at, source: errno.into() })?
        }
    };
    let path = path_of(&place).ok_or(Error::NoSourcePath(at))?;
    let mut request = MountRequest::new(asked.target.clone(), MountSource::Host(path.clone()));
    (request.access, request.options) = (asked.access, asked.options);
    Ok(Opened::Host(HostSource { at, target: asked.target, path, place }, request))
}

/// Where something is that is open: the kernel knows, without asking the filesystem.
fn path_of(place: &OwnedFd) -> Option<AbsolutePath> {
    let link = format!("/proc/thread-self/fd/{}", place.as_raw_fd());
    fs::read_link(link).ok()?.to_str()?.parse().ok()
}

impl Inner {
    /// Pins what was asked about, which must be where it was then.
    ///
    /// # Errors
    ///
    /// [`Error::PinSource`], [`Error::SourceMoved`].
    pub(in crate::engine) async fn pin(&self, sources: Vec<HostSource>) -> Result<Pins, Error> {
        if sources.is_empty() {
            return Ok(Pins::default());
        }
        unbounded("pin", move || {
            let mounts = sources.iter().map(pin_one).collect::<Result<BTreeMap<_, _>, _>>()?;
            Ok(Pins { mounts, ..Pins::default() })
        })
        .await
    }
}

fn pin_one(source: &HostSource) -> Result<(MountTarget, Pin), Error> {
    let at = source.at;
    let pin = Pin::of(source.place.as_fd()).map_err(|source| Error::PinSource { at, source })?;
    if pin.path() == source.path.as_str() {
        Ok((source.target.clone(), pin))
    } else {
        Err(Error::SourceMoved(at))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use crate::authority::Interactive;
    use tare_specgen::RootfsAccess;

    fn caller(uid: u32) -> Caller {
        Caller { uid, bus_name: ":1.7".into(), interactive: Interactive::No }
    }

    fn asked(source: AskedSource) -> Vec<AskedMount> {
        let target = "/x".parse().unwrap();
        vec![AskedMount { source, target, access: RootfsAccess::ReadOnly, options: Vec::new() }]
    }

    fn at(path: &std::path::Path) -> AskedSource {
        AskedSource::Path(path.to_str().unwrap().parse().unwrap())
    }

    #[tokio::test]
    async fn only_root_names_paths_and_nobody_learns_what_is_there() {
        for path in ["/etc/passwd", "/no/such/file"] {
            let refused = open(&caller(1000), asked(at(path.as_ref()))).await.unwrap_err();
            assert!(matches!(refused, Error::SourcePath(0)), "{path}: {refused:?}");
        }
        let missing = open(&caller(0), asked(at("/no/such/file".as_ref()))).await.unwrap_err();
        assert!(matches!(missing, Error::OpenSource { at: 0, .. }), "{missing:?}");
    }

    #[tokio::test]
    async fn what_is_asked_about_is_where_a_link_leads() {
        let world = tempfile::tempdir().unwrap();
        let (file, link) = (world.path().join("file"), world.path().join("link"));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let mut opened = open(&caller(0), asked(at(&link))).await.unwrap();
        let Some(Opened::Host(source, request)) = opened.pop() else { panic!("{opened:?}") };
        let MountSource::Host(path) = &request.source else { panic!("{request:?}") };
        assert_eq!(path.as_str(), file.to_str().unwrap());
        assert_eq!(request.access, RootfsAccess::ReadOnly);
        // It is moved while somebody thinks about it.
        fs::rename(&file, world.path().join("elsewhere")).unwrap();
        assert!(matches!(pin_one(&source), Err(Error::SourceMoved(0))));
        fs::rename(world.path().join("elsewhere"), &file).unwrap();
        assert_eq!(pin_one(&source).unwrap().1.path(), file);
    }

    #[tokio::test]
    async fn what_has_no_path_is_refused() {
        let (pipe, _) = std::io::pipe().unwrap();
        let refused = open(&caller(1000), asked(AskedSource::Open(pipe.into()))).await;
        assert!(matches!(refused, Err(Error::NoSourcePath(0))), "{refused:?}");
    }
}
