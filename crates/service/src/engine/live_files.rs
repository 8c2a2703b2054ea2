//! The files of a container that change while it runs: its `hosts` and `resolv.conf`.
//!
//! They are at all times what a start would make of them: whoever changes what they follow from
//! calls [`Engine::refresh_files`]. What was made last lies beside each of them. So it is known when
//! there is nothing to do, and what a container has written there itself: lines that it has added
//! stay, and a file that it has changed in any other way is its own.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tare_spawn::{Layout, LiveFile, Spawner, Swapped};
use tare_specgen::{
    BaseHosts, BoundFile, MAX_HOSTS_FILE, Placement, Request, RootfsFacts, Warning, live_files,
};
use tare_storage::{Access, NewFile, write_files};

use super::blocking::brief;
use super::bundle::{file_name, new_file};
use super::container::{Container, Life, Now, Running};
use super::process::runtime_error;
use super::selinux::Labels;
use super::{Engine, Error, Inner};
use crate::effects;

/// Largest file of these that is read, in bytes: what was made, and as much again of the container's
/// own. One that is larger is not what anybody was given.
const MAX_FILE: u64 = 2 * MAX_HOSTS_FILE as u64;
/// What `hosts` begins with, in the bundle of a container that has it from its image or a file of root's.
const BASE_HOSTS: &str = "hosts.base";

/// What is to become of a file.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// It is as it should be.
    Nothing,
    /// It becomes this.
    To(Vec<u8>),
    /// The container has made it its own.
    Theirs,
}

/// What is to become of a file that is this `now`, of which one of `made` was what was made last, if
/// `wanted` is to be in it.
fn change(now: &[u8], made: &[Vec<u8>], wanted: &[u8]) -> Change {
    if now.len() as u64 > MAX_FILE {
        return Change::Theirs;
    }
    let kept = made.iter().filter(|made| now.starts_with(made)).max_by_key(|made| made.len());
    match kept {
        Some(made) if made == wanted => Change::Nothing,
        Some(made) => Change::To([wanted, &now[made.len()..]].concat()),
        None if made.is_empty() => Change::Nothing,
        None => Change::Theirs,
    }
}

/// Whether a container has said who answers its questions for names: whom the host asks is nothing to it.
/// Domains and options of its own are beside whoever that is.
pub(super) fn has_own_resolvers(request: &Request) -> bool {
    !request.dns.is_empty()
}

/// What was made, to be laid beside what the container gets.
pub(super) fn made(files: &[BoundFile]) -> Result<Vec<NewFile>, Error> {
    let live = files.iter().filter(|file| LiveFile::ALL.iter().any(|it| it.name() == file.name));
    live.map(|file| private(&format!("{}.made", file.name), &file.content.0)).collect()
}

/// What the image has, or the file that was named had, for as long as the container runs: its root is nowhere
/// but in the container by then.
pub(super) fn base_hosts(
    facts: &RootfsFacts,
    placement: &Placement,
) -> Result<Option<NewFile>, Error> {
    let base = facts.hosts.as_ref().or(placement.base_hosts.as_ref());
    base.map(|hosts| private(BASE_HOSTS, hosts)).transpose()
}

fn private(name: &str, content: &[u8]) -> Result<NewFile, Error> {
    let access = Access::Private;
    Ok(NewFile { name: file_name(name)?, content: content.into(), access, label: None })
}

impl Engine {
    /// Brings `files` of a container, if it runs, to what they are to be now.
    ///
    /// What fails is said: a container that is connected, say, stays so without a line for that in
    /// a file.
    pub(super) async fn refresh_files(
        &self,
        container: &Container,
        life: &Life,
        files: &[LiveFile],
    ) {
        let Now::Running { running, .. } = &life.now else { return };
        let mut done = self.try_refresh(container, running, files).await;
        if done.is_err() {
            // Nobody else would come back to it.
            done = self.try_refresh(container, running, files).await;
        }
        if let Err(error) = done {
            let name = container.name();
            tracing::warn!(
                container_id = %container.id,
                "hosts or resolv.conf of container '{name}' are not up to date: {}",
                error.chain()
            );
        }
    }

    async fn try_refresh(
        &self,
        container: &Container,
        running: &Arc<Running>,
        files: &[LiveFile],
    ) -> Result<(), Error> {
        let (engine, name) = (self.clone(), container.name());
        let container = self.container(&container.id)?;
        let (running, files) = (running.clone(), files.to_vec());
        brief(move || {
            if !engine.is_with_owner(&container, &running) {
                return Ok(());
            }
            let owner = engine.network_owner(&container.definition().row.request)?;
            let layout = running.layout(engine.instance.run_dir());
            let owner = owner.as_ref().unwrap_or(&container);
            let (all, warnings) = engine.files_now(owner)?;
            let labels = engine.file_labels(owner, &engine.effective(owner)?)?;
            let mut done = Done::Nothing;
            for made in all {
                let Some(file) = files.iter().find(|file| file.name() == made.name) else {
                    continue;
                };
                let labels = labels.as_ref();
                let exchange = Exchange { layout, file: *file, running: &running, labels };
                let one = exchange.carry_out(&*engine.spawner, made);
                done = done.max(one.map_err(|problem| match problem {
                    Problem::Ours(error) => error,
                    Problem::Spawner(source) => runtime_error("change a file of", &name, source),
                })?);
            }
            // Nobody is told twice.
            for warning in warnings.iter().filter(|_| done == Done::Changed) {
                tracing::warn!(container_id = %container.id, "container '{name}': {warning}");
            }
            Ok(())
        })
        .await
    }
}

impl Inner {
    /// What these files of a container that runs are to be, and what is to be said of that. Reads files.
    pub(super) fn files_now(
        &self,
        container: &Container,
    ) -> Result<(Vec<BoundFile>, Vec<Warning>), Error> {
        let not_running = || Error::NotRunning(container.name());
        let record = container.record().ok_or_else(not_running)?;
        let running = container.running().ok_or_else(not_running)?;
        let effective = self.effective(container)?;
        let mut placement = self.placement(container, &record)?;
        let mut facts = RootfsFacts::default();
        let base = || read(&running.layout(self.instance.run_dir()).files().join(BASE_HOSTS));
        match effective.request.base_hosts {
            BaseHosts::Image => facts.hosts = base()?,
            BaseHosts::Path(_) => placement.base_hosts = base()?,
            _ => {}
        }
        let host = self.host_facts_for(&effective);
        let mut warnings = Vec::new();
        let files = live_files(&effective, &host, &facts, &placement, &mut warnings);
        Ok((files, warnings))
    }
}

/// What was done about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    /// It stays.
    Nothing,
    /// The container has another one.
    Changed,
}

/// Why a file could not be changed.
enum Problem {
    Ours(Error),
    Spawner(tare_spawn::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// One file of one container.
struct Exchange<'a> {
    layout: Layout<'a>,
    file: LiveFile,
    running: &'a Running,
    labels: Option<&'a Labels>,
}

impl Exchange<'_> {
    fn carry_out(&self, spawner: &dyn Spawner, made: BoundFile) -> Result<Done, Problem> {
        let nothing = Ok(Done::Nothing);
        let Some(now) = read(&self.layout.live_file(self.file))? else { return nothing };
        let (last, begun) = (read(&self.path(".made"))?, read(&self.path(".made.next"))?);
        let is_unfinished = begun.is_some();
        let known: Vec<Vec<u8>> = last.into_iter().chain(begun).collect();
        let content = match change(&now, &known, &made.content.0) {
            Change::To(content) => content,
            // Which of the two files the container has is for the spawner to find out.
            Change::Nothing if is_unfinished => now,
            Change::Nothing => return nothing,
            Change::Theirs => {
                self.tell("has made it its own");
                return nothing;
            }
        };
        self.write_next(made, content)?;
        match spawner.swap_file(&self.running.target, self.file, self.running.init.as_fd()) {
            Ok(Swapped::Done) => {
                effects::rename(&self.path(".made.next"), &self.path(".made")).map_err(failed)?;
                Ok(Done::Changed)
            }
            Ok(Swapped::NotOurs) => {
                self.tell("has something else there");
                self.forget_next()?;
                nothing
            }
            Err(error) => Err(Problem::Spawner(error)),
        }
    }

    /// What was made is written down before the container gets it, beside what was made before:
    /// whoever is killed in between leaves it to its successor to find out which of them it has.
    fn write_next(&self, made: BoundFile, content: Vec<u8>) -> Result<(), Error> {
        self.forget_next()?;
        let made_next = private(&format!("{}.made.next", made.name), &made.content.0)?;
        let next = file_name(&format!("{}.next", made.name))?;
        let file = NewFile { name: next, content, ..new_file(made, self.labels)? };
        let dir = File::open(self.layout.files()).map_err(failed)?;
        write_files(dir.as_fd(), &[made_next, file]).map_err(Error::Storage)
    }

    fn forget_next(&self) -> Result<(), Error> {
        [self.layout.next_live_file(self.file), self.path(".made.next")]
            .iter()
            .try_for_each(|path| effects::remove_file(path))
            .map_err(failed)
    }

    fn tell(&self, why: &str) {
        let (id, at) = (self.running.target.id.as_str(), self.file.target());
        tracing::info!(container_id = id, "{at} of a container stays: it {why}");
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.layout.files().join(format!("{}{suffix}", self.file.name()))
    }
}

/// A file of the bundle, which the container may have written to; nothing if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(failed)?;
    Ok(Some(content))
}

fn failed(source: std::io::Error) -> Error {
    Error::Host { what: "change a file of a container", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_changed_as_far_as_it_is_ours() {
        let made = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        for (about, now, known, wanted, want) in [
            ("as it was made", "a\n", &["a\n"][..], "a\n", Change::Nothing),
            ("follows", "a\n", &["a\n"], "b\n", Change::To(b"b\n".to_vec())),
            ("its lines stay", "a\nx\n", &["a\n"], "b\n", Change::To(b"b\nx\n".to_vec())),
            ("nothing to do", "a\nx\n", &["a\n"], "a\n", Change::Nothing),
            ("edited", "x\n", &["a\n"], "b\n", Change::Theirs),
            ("killed before", "a\n", &["a\n", "b\n"], "b\n", Change::To(b"b\n".to_vec())),
            ("killed after", "b\n", &["a\n", "b\n"], "b\n", Change::Nothing),
            ("one in the other", "a\nb\n", &["a\n", "a\nb\n"], "a\nb\n", Change::Nothing),
            ("empty", "x\n", &[""], "b\n", Change::To(b"b\nx\n".to_vec())),
            ("of an earlier version", "x\n", &[], "b\n", Change::Nothing),
        ] {
            let known: Vec<Vec<u8>> = made(known);
            assert_eq!(change(now.as_bytes(), &known, wanted.as_bytes()), want, "{about}");
        }
    }
}
