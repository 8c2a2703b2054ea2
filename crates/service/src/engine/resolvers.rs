//! Following the host's resolvers: what containers know of them is what the host knows.
//!
//! Who writes these files writes them anew, replaces them, or turns the links to them to others. So
//! what is watched is each name on the way to each of them, and that is found out again whenever
//! anything happens there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rustix::fs::inotify::{ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tare_spawn::LiveFile;
use tokio::io::unix::AsyncFd;

use super::blocking::brief;
use super::container::Container;
use super::host::{RESOLV_CONFS, Resolvers};
use super::live_files::has_own_resolvers;
use super::view::State;
use super::{Engine, Error, Inner, sys};
use crate::effects;

/// So long after something happened the files are read: by then whoever writes them is done.
const REST: Duration = Duration::from_millis(100);
/// So long after the files could not be watched it is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// More links than this on the way to a file are a circle.
const MAX_LINKS: usize = 16;

/// Brings the files of all containers that run to what they are to be, now and whenever the host
/// gets other resolvers, for as long as the engine is there.
pub(super) async fn follow(engine: Weak<Inner>, first: io::Result<Watch>) {
    let (mut known, mut first) = (None, Some(first));
    loop {
        let watch = first.take().unwrap_or_else(Watch::new);
        let Some(there) = engine.upgrade().map(Engine) else { return };
        let Some(now) = there.fall_back_now().await else { return };
        match &known {
            None => there.refresh_all(&LiveFile::ALL).await,
            Some(before) if *before == now => {}
            Some(_) => {
                tracing::info!("the host has other resolvers: containers get them, too");
                there.refresh_all(&[LiveFile::ResolvConf]).await;
            }
        }
        drop(there);
        known = Some(now);
        match watch {
            Ok(watch) => match watch.changed().await {
                Ok(()) => tokio::time::sleep(REST).await,
                Err(error) => unwatched(&error).await,
            },
            Err(error) => unwatched(&error).await,
        }
    }
}

async fn unwatched(error: &io::Error) {
    tracing::warn!("the resolvers of the host cannot be watched: {error}");
    tokio::time::sleep(RETRY).await;
}

impl Engine {
    /// The settings were read again: whom containers ask follows from them, too. Not waited for.
    pub fn ask_by_settings(&self) {
        let engine = self.clone();
        tokio::spawn(async move {
            engine.fall_back_now().await;
            engine.refresh_all(&[LiveFile::ResolvConf]).await;
        });
    }

    /// Sees to it who is asked about names of nobody here: where the host has nobody whom it asks, others
    /// are if the settings name them. Gives what the host has; nothing while the service ends.
    ///
    /// One after the other, from reading on: who comes last has seen what is so last.
    pub(super) async fn fall_back_now(&self) -> Option<Resolvers> {
        let _alone = self.networks.falling_back.lock().await;
        let now = brief(|| Ok::<_, Error>(Resolvers::now())).await.ok()?;
        let named = self.config().network.fallback_dns.clone();
        self.networks.fall_back_to(if now.has_any() { &[] } else { &named }).await;
        Some(now)
    }

    /// Brings these files of all containers that live to what they are to be; those that say who
    /// answers them themselves keep their `resolv.conf`.
    async fn refresh_all(&self, files: &[LiveFile]) {
        let lives = |container: &Arc<Container>| {
            !matches!(container.state(), State::Configured | State::Exited)
        };
        let containers: Vec<_> = self.containers.all().into_iter().filter(lives).collect();
        stream::iter(containers)
            .for_each_concurrent(None, |container| async move {
                let Ok(life) = container.lock().await else { return };
                let own = has_own_resolvers(&container.definition().row.request);
                let kept = |file: &LiveFile| !own || *file != LiveFile::ResolvConf;
                let files: Vec<_> = files.iter().copied().filter(kept).collect();
                if !files.is_empty() {
                    self.refresh_files(&container, &life, &files).await;
                }
            })
            .await;
    }
}

/// Names in a directory, or a file whatever its name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    directories: BTreeMap<PathBuf, BTreeSet<OsString>>,
    files: BTreeSet<PathBuf>,
}

impl Places {
    /// All on the way to these files.
    fn on_the_way_to(paths: &[&str]) -> Self {
        let mut places = Self::default();
        for path in paths {
            places.add(Path::new(path));
        }
        places
    }

    fn add(&mut self, path: &Path) {
        let mut at = path.to_path_buf();
        for _ in 0..MAX_LINKS {
            let (Some(directory), Some(name)) = (at.parent(), at.file_name()) else { return };
            let Ok(directory) = directory.canonicalize() else {
                // It will come.
                at = directory.to_path_buf();
                continue;
            };
            self.directories.entry(directory.clone()).or_default().insert(name.into());
            let found = directory.join(name);
            match found.read_link() {
                Ok(target) => at = directory.join(target),
                Err(_) if found.is_file() => {
                    self.files.insert(found);
                    return;
                }
                Err(_) => return,
            }
        }
    }
}

/// Something that is told what happens there.
#[derive(Debug)]
pub(super) struct Watch {
    ready: AsyncFd<Arc<OwnedFd>>,
    /// By the number of a directory, the names in it that matter; all else that is watched does.
    names: BTreeMap<i32, BTreeSet<OsString>>,
}

impl Watch {
    /// On the way to the files as it is now.
    pub(super) fn new() -> io::Result<Self> {
        let fd = effects::new_watch()?;
        let mut names = BTreeMap::new();
        let places = Places::on_the_way_to(&RESOLV_CONFS);
        let gone = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let entries = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR;
        for (directory, of_it) in places.directories {
            if let Some(number) = add(&fd, &directory, entries | gone)? {
                names.insert(number, of_it);
            }
        }
        // It may have names elsewhere, where it is written to.
        for file in places.files {
            add(&fd, &file, WatchFlags::MODIFY | gone)?;
        }
        Ok(Self { ready: sys::readable(Arc::new(fd))?, names })
    }

    /// Returns when something has happened that matters.
    async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.ready.readable().await?;
            if self.read()? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Reads what has happened; whether anything of it matters.
    fn read(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&**self.ready.get_ref(), &mut buffer);
        let mut matters = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(std::ffi::CStr::to_bytes);
                    matters |= match (self.names.get(&event.wd()), name) {
                        (Some(names), Some(name)) => {
                            names.iter().any(|it| it.as_encoded_bytes() == name)
                        }
                        // The directory itself, a file, or too much at once.
                        _ => event.events() != ReadFlags::IGNORED,
                    };
                }
                Err(Errno::AGAIN) => return Ok(matters),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// One that has gone since it was looked for is seen in the directory above it.
fn add(watch: &OwnedFd, path: &Path, what: WatchFlags) -> io::Result<Option<i32>> {
    match effects::add_watch(watch, path, what) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        added => added.map(Some),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn each_name_on_the_way_to_a_file_is_known() {
        let world = tempfile::tempdir().unwrap();
        let root = world.path().canonicalize().unwrap();
        let at = |path: &str| root.join(path);
        for directory in ["etc", "run/resolve"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("run/resolve/stub"), "").unwrap();
        symlink("run", at("link")).unwrap();
        symlink("../link/resolve/stub", at("etc/resolv.conf")).unwrap();
        symlink("circle", at("etc/circle")).unwrap();
        let of = |path: &str| {
            let places = Places::on_the_way_to(&[at(path).to_str().unwrap()]);
            let directories: Vec<_> = places
                .directories
                .into_iter()
                .flat_map(|(directory, names)| names.into_iter().map(move |it| directory.join(it)))
                .map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned())
                .collect();
            (directories, places.files.len())
        };
        for (path, directories, files) in [
            ("etc/resolv.conf", &["etc/resolv.conf", "run/resolve/stub"][..], 1),
            ("run/resolve/none", &["run/resolve/none"], 0),
            ("run/none/at/all", &["run/none"], 0),
            ("etc/circle", &["etc/circle"], 0),
        ] {
            assert_eq!(of(path), (directories.iter().map(ToString::to_string).collect(), files));
        }
    }
}
