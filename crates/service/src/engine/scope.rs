//! Where containers are in the tree of control groups: in a scope of the service manager each, where
//! there is one, else below a group of this daemon's own.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tare_runtime::ContainerId;
use tare_spawn::{CgroupPath, Extent, Started};

use super::Error;
use crate::instance::Tag;

/// What a [`ServiceManager`] answers, in its own time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The service manager of the host, as far as containers need it.
pub trait ServiceManager: Send + Sync + fmt::Debug {
    /// The control group of a scope of that name, absolute below the root of cgroup2.
    fn group(&self, scope: &str) -> String;

    /// The directory of all such groups, below the root of cgroup2.
    fn groups(&self) -> String;

    /// Makes a process the first of a new scope; returns when it is in its group. If there is a
    /// scope of that name, this waits for its end.
    fn register(&self, scope: Scope) -> Answer<'_, io::Result<()>>;

    /// Takes a scope back whose process has ended, and of which nobody knows whether it was made: a
    /// process that ends before it is in its group never leaves it, which would be its end.
    fn take_back<'a>(&'a self, scope: &'a str) -> Answer<'a, io::Result<()>>;

    /// Whether the host is being shut down.
    fn is_stopping(&self) -> Answer<'_, bool>;
}

/// A unit of the service manager, for one container.
#[derive(Debug)]
pub struct Scope {
    /// Its name, which ends in `.scope`.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its first process.
    pub process: OwnedFd,
    /// How long it may take to stop.
    pub stop_timeout: Duration,
    /// The signal that asks it to stop, where this daemon is not there to be asked.
    pub stop_signal: i32,
}

/// What is told of a container to people and to the service manager.
#[derive(Clone, Debug)]
pub(super) struct Outline {
    pub(super) description: String,
    pub(super) stop_timeout: Duration,
    pub(super) stop_signal: i32,
}

/// Where the containers of this daemon are.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    tag: Tag,
    manager: Option<Arc<dyn ServiceManager>>,
}

impl Groups {
    pub(super) fn new(tag: Tag, manager: Option<Arc<dyn ServiceManager>>) -> Self {
        Self { tag, manager }
    }

    pub(super) fn manager(&self) -> Option<&Arc<dyn ServiceManager>> {
        self.manager.as_ref()
    }

    /// The group of a container. conmon and the container's processes are in groups below it.
    pub(super) fn of(&self, id: &ContainerId) -> CgroupPath {
        match &self.manager {
            Some(manager) => parsed(&manager.group(&self.tag.scope(id))),
            None => self.tag.cgroup(id),
        }
    }

    /// All groups that a container can be in: an earlier daemon may have had no service manager.
    pub(super) fn all_of(&self, id: &ContainerId) -> Vec<CgroupPath> {
        let mut all = vec![self.of(id), self.tag.cgroup(id)];
        all.dedup();
        all
    }

    /// The group that has to be made for all of them.
    pub(super) fn shared(&self) -> Option<CgroupPath> {
        self.manager.is_none().then(|| self.own())
    }

    /// The group of all containers where there is no service manager.
    pub(super) fn own(&self) -> CgroupPath {
        self.tag.cgroup_root()
    }

    /// How much of a container's group is ours to remove: the service manager removes its own.
    pub(super) fn extent(&self, group: &CgroupPath) -> Extent {
        let managed = self.manager.as_ref().is_some_and(|manager| {
            let below = group.as_str().strip_prefix(&manager.groups());
            below.is_some_and(|below| below.starts_with('/'))
        });
        if managed { Extent::Below } else { Extent::Whole }
    }

    /// The groups of containers that are not `known`. Those of another daemon are none of ours.
    pub(super) fn strays(&self, cgroup2: &Path, known: &HashSet<ContainerId>) -> Vec<CgroupPath> {
        let own = self.own();
        let plain = names(cgroup2, own.as_str())
            .filter(|name| name.parse().is_ok_and(|id| !known.contains(&id)))
            .map(|name| format!("{own}/{name}"));
        let ours: HashSet<_> = known.iter().map(|id| self.tag.scope(id)).collect();
        let scopes = self.manager.iter().flat_map(|manager| {
            names(cgroup2, &manager.groups())
                .filter(|name| self.tag.is_scope(name) && !ours.contains(name))
                .map(|name| manager.group(&name))
        });
        plain.chain(scopes).filter_map(|path| path.parse().ok()).collect()
    }

    /// Puts the conmon of a container where the container will be, if others have to know of it.
    pub(super) async fn register(
        &self,
        id: &ContainerId,
        conmon: &Started,
        outline: Outline,
    ) -> io::Result<()> {
        let Some(manager) = &self.manager else { return Ok(()) };
        let Outline { description, stop_timeout, stop_signal } = outline;
        let process = conmon.pidfd.as_fd().try_clone_to_owned()?;
        let name = self.tag.scope(id);
        manager.register(Scope { name, description, process, stop_timeout, stop_signal }).await
    }

    /// Takes the scope back of a container that was half made, after its conmon.
    pub(super) async fn take_back(&self, id: &ContainerId) -> Result<(), Error> {
        let Some(manager) = &self.manager else { return Ok(()) };
        let taken = manager.take_back(&self.tag.scope(id)).await;
        taken.map_err(|source| Error::Host { what: "take back the scope of a container", source })
    }
}

fn parsed(path: &str) -> CgroupPath {
    path.parse().expect("a name built from a tag and an id makes a control group's path")
}

/// What is in a control group.
fn names(cgroup2: &Path, group: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(cgroup2.join(group.trim_start_matches('/')));
    entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;

    /// One that makes no scopes.
    #[derive(Debug)]
    struct Manager;

    impl ServiceManager for Manager {
        fn group(&self, scope: &str) -> String {
            format!("/machine.slice/{scope}")
        }

        fn groups(&self) -> String {
            "/machine.slice".into()
        }

        fn register(&self, _: Scope) -> Answer<'_, io::Result<()>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }

        fn take_back<'a>(&'a self, _: &'a str) -> Answer<'a, io::Result<()>> {
            Box::pin(async { Ok(()) })
        }

        fn is_stopping(&self) -> Answer<'_, bool> {
            Box::pin(async { false })
        }
    }

    #[test]
    fn only_groups_of_ours_that_nobody_has_are_strays() {
        let (known, stray) = ("ab".repeat(32), "cd".repeat(32));
        let dir = tempfile::tempdir().unwrap();
        for group in [
            format!("tare-1a2b3c/{known}"),
            format!("tare-1a2b3c/{stray}"),
            "tare-1a2b3c/other".into(),
            format!("tare/{stray}"),
            "machine.slice/tare-1a2b3c-abababababab.scope".into(),
            "machine.slice/tare-1a2b3c-cdcdcdcdcdcd.scope".into(),
            "machine.slice/tare-cdcdcdcdcdcd.scope".into(),
            "machine.slice/tare-1a2b3c-cdcdcdcdcdcd.service".into(),
            "machine.slice/libpod-cdcdcdcdcdcd.scope".into(),
        ] {
            fs::create_dir_all(dir.path().join(group)).unwrap();
        }
        let known = [known.parse().unwrap()].into();
        let strays = |tag, manager| {
            let groups = Groups::new(tag, manager);
            let mut strays: Vec<_> =
                groups.strays(dir.path(), &known).iter().map(ToString::to_string).collect();
            strays.sort();
            strays
        };
        let tag = || Tag::new("1a2b3c").unwrap();
        let plain = format!("/tare-1a2b3c/{stray}");
        assert_eq!(strays(tag(), None), [&*plain]);
        let scope = "/machine.slice/tare-1a2b3c-cdcdcdcdcdcd.scope";
        assert_eq!(strays(tag(), Some(Arc::new(Manager))), [scope, &plain]);
        let (scope, plain) = ("/machine.slice/tare-cdcdcdcdcdcd.scope", format!("/tare/{stray}"));
        assert_eq!(strays(Tag::NONE, Some(Arc::new(Manager))), [scope, &plain]);
    }

    #[test]
    fn a_container_is_in_a_scope_or_below_our_own_group() {
        let id: ContainerId = "0123456789abcdef".repeat(4).parse().unwrap();
        let plain = Groups::new(Tag::NONE, None);
        assert_eq!(plain.of(&id).to_string(), format!("/tare/{id}"));
        assert_eq!(plain.shared().unwrap().to_string(), "/tare");
        let scopes = Groups::new(Tag::NONE, Some(Arc::new(Manager)));
        assert_eq!(scopes.of(&id).to_string(), "/machine.slice/tare-0123456789ab.scope");
        assert_eq!(scopes.shared(), None);
        assert_eq!(plain.all_of(&id), [plain.of(&id)]);
        assert_eq!(scopes.all_of(&id), [scopes.of(&id), plain.of(&id)]);
        assert_eq!(scopes.extent(&scopes.of(&id)), Extent::Below);
        assert_eq!(scopes.extent(&plain.of(&id)), Extent::Whole, "of an earlier daemon");
        assert_eq!(plain.extent(&scopes.of(&id)), Extent::Whole);
    }
}
