//! Following the host's resolvers: what containers know of them is what the host knows, or what is
//! written down for the namespace that they are in, if somebody else has made that.
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
use tokio::sync::Notify;

use super::blocking::brief;
use super::container::Container;
use super::host::{RESOLV_CONFS, Resolvers};
use super::live_files::has_own_resolvers;
use super::shared::{read_resolv_conf, resolv_conf_of};
use super::view::State;
use super::{Engine, Error, Inner, sys};
use crate::effects;

/// So long after something happened the files are read: by then whoever writes them is done.
const REST: Duration = Duration::from_millis(100);
/// So long after the files could not be watched they are read again, watched or not: whoever has them
/// change waits for a second.
const RETRY: Duration = Duration::from_millis(500);
/// More links than this on the way to a file are a circle.
const MAX_LINKS: usize = 16;

/// What is written down for namespaces, by the file where it is.
type OfNamespaces = BTreeMap<PathBuf, Option<String>>;

/// Brings the files of all containers that run to what they are to be, now and whenever the host,
/// or a namespace that one of them `entered`, gets other resolvers, for as long as the engine is there.
pub(super) async fn follow(
    engine: Weak<Inner>,
    entered: Arc<Notify>,
    first: (BTreeSet<PathBuf>, io::Result<Watch>),
) {
    let (mut known, mut first, mut is_told) = (None, Some(first), false);
    let (mut happened, mut before) = (false, None);
    loop {
        let Some(there) = engine.upgrade().map(Engine) else { return };
        let (files, watch) = first.take().unwrap_or_else(|| there.watch_resolvers());
        // Of what happened since the one before was left, the new one does not tell.
        happened |= before.take().is_some_and(|it: Watch| it.read().unwrap_or(true));
        let Some(of_host) = there.fall_back_now().await else { return };
        let Some(of_namespaces) = read_all(files).await else { return };
        there.bring_up_to(known.as_ref(), (&of_host, &of_namespaces), happened).await;
        drop(there);
        known = Some((of_host, of_namespaces));
        (happened, before) = match changed_or_entered(watch, &entered).await {
            Ok(None) => {
                is_told = false;
                tokio::time::sleep(REST).await;
                (true, None)
            }
            Ok(left) => (false, left),
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!("the resolvers of the host cannot be watched: {error}");
                }
                tokio::time::sleep(RETRY).await;
                (false, None)
            }
        };
    }
}

/// Waits until something happens there; gives it back if it is somebody that `entered` another place.
async fn changed_or_entered(
    watch: io::Result<Watch>,
    entered: &Notify,
) -> io::Result<Option<Watch>> {
    let watch = watch?;
    tokio::select! {
        changed = watch.changed() => changed.map(|()| None),
        () = entered.notified() => Ok(Some(watch)),
    }
}

/// What these files say; nothing while the service ends.
async fn read_all(files: BTreeSet<PathBuf>) -> Option<OfNamespaces> {
    let read = |file: PathBuf| {
        let text = read_resolv_conf(&file);
        (file, text)
    };
    brief(move || Ok::<_, Error>(files.into_iter().map(read).collect())).await.ok()
}

/// Where something else is written down than before, or nobody has looked before.
fn changed(before: &OfNamespaces, now: &OfNamespaces) -> BTreeSet<PathBuf> {
    let other = now.iter().filter(|(file, text)| before.get(*file) != Some(*text));
    other.map(|(file, _)| file.clone()).collect()
}

impl Engine {
    /// A container that runs now may be in a namespace whose resolvers nobody watches yet.
    pub(super) fn follow_namespace_of(&self, container: &Container) {
        if resolv_conf_of(&container.definition().row.request.network_mode).is_some() {
            self.entered.notify_one();
        }
    }

    /// Watches what is written down for the host, and for these files: those of the namespaces that
    /// containers are in.
    pub(super) fn watch_resolvers(&self) -> (BTreeSet<PathBuf>, io::Result<Watch>) {
        let living = self.containers.all().into_iter().filter(lives);
        let files: BTreeSet<PathBuf> = living
            .filter_map(|it| resolv_conf_of(&it.definition().row.request.network_mode))
            .collect();
        let of_host = RESOLV_CONFS.iter().map(Path::new);
        let watch = Watch::on(&of_host.chain(files.iter().map(|it| &**it)));
        (files, watch)
    }

    /// Containers get what has changed for them. That all is as it was `known` to be does not say so of
    /// who started meanwhile: something `happened`, maybe more than once, and was only seen by them.
    async fn bring_up_to(
        &self,
        known: Option<&(Resolvers, OfNamespaces)>,
        (of_host, of_namespaces): (&Resolvers, &OfNamespaces),
        happened: bool,
    ) {
        let Some((host_before, namespaces_before)) = known else {
            return self.refresh_all(&LiveFile::ALL).await;
        };
        if host_before != of_host {
            tracing::info!("the host has other resolvers: containers get them, too");
        }
        if happened || host_before != of_host {
            return self.refresh_all(&[LiveFile::ResolvConf]).await;
        }
        let changed = changed(namespaces_before, of_namespaces);
        let is_there = |container: &Arc<Container>| {
            let file = resolv_conf_of(&container.definition().row.request.network_mode);
            file.is_some_and(|file| changed.contains(&file))
        };
        if !changed.is_empty() {
            self.refresh_those(is_there, &[LiveFile::ResolvConf]).await;
        }
    }

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
        self.refresh_those(|_| true, files).await;
    }

    async fn refresh_those(&self, which: impl Fn(&Arc<Container>) -> bool, files: &[LiveFile]) {
        let all = self.containers.all().into_iter();
        let containers: Vec<_> = all.filter(lives).filter(which).collect();
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

fn lives(container: &Arc<Container>) -> bool {
    !matches!(container.state(), State::Configured | State::Exited)
}

/// Names in a directory, or a file whatever its name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    directories: BTreeMap<PathBuf, BTreeSet<OsString>>,
    files: BTreeSet<PathBuf>,
}

impl Places {
    /// All on the way to these files.
    fn on_the_way_to<'p>(paths: impl Iterator<Item = &'p Path>) -> Self {
        let mut places = Self::default();
        paths.for_each(|path| places.add(path));
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
    fn on<'p>(files: &(impl Iterator<Item = &'p Path> + Clone)) -> io::Result<Self> {
        let mut places = Places::on_the_way_to(files.clone());
        loop {
            let watch = Self::at(&places)?;
            // Nobody tells of what came there before it was watched.
            let now = Places::on_the_way_to(files.clone());
            if now == places {
                return Ok(watch);
            }
            places = now;
        }
    }

    fn at(places: &Places) -> io::Result<Self> {
        let fd = effects::new_watch()?;
        let mut names = BTreeMap::new();
        let gone = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let entries = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR;
        for (directory, of_it) in &places.directories {
            if let Some(number) = add(&fd, directory, entries | gone)? {
                names.insert(number, of_it.clone());
            }
        }
        // It may have names elsewhere, where it is written to.
        for file in &places.files {
            add(&fd, file, WatchFlags::MODIFY | gone)?;
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
    fn what_has_changed_for_namespaces_is_what_is_not_as_it_was() {
        let of = |rows: &[(&str, Option<&str>)]| -> OfNamespaces {
            rows.iter().map(|(file, text)| (file.into(), text.map(str::to_owned))).collect()
        };
        let before =
            of(&[("stays", Some("a")), ("other", Some("a")), ("none", None), ("left", None)]);
        let now = of(&[("stays", Some("a")), ("other", None), ("none", Some("")), ("new", None)]);
        let want = ["new", "none", "other"].map(PathBuf::from);
        assert_eq!(changed(&before, &now), BTreeSet::from(want));
        assert_eq!(changed(&now, &now), BTreeSet::new());
    }

    #[tokio::test]
    async fn what_comes_while_the_way_is_looked_for_is_watched_as_well() {
        let world = tempfile::tempdir().unwrap();
        let root = world.path().canonicalize().unwrap();
        let (directory, file) = (root.join("netns/mine"), root.join("netns/mine/resolv.conf"));
        // When all files have been looked for.
        let comes = std::iter::from_fn(|| {
            fs::create_dir_all(&directory).unwrap();
            None
        });
        let watch = Watch::on(&[file.as_path()].into_iter().chain(comes)).unwrap();
        fs::write(&file, "").unwrap();
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap().unwrap();
    }

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
            let places = Places::on_the_way_to([at(path).as_path()].into_iter());
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
