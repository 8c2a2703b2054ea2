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
use tare_specgen::CgroupParent;

use super::Error;
use crate::instance::Tag;

/// What a [`ServiceManager`] answers, in its own time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The service manager of the host, as far as containers need it.
pub trait ServiceManager: Send + Sync + fmt::Debug {
    /// The control group of a scope of that name in that slice, or in the one of containers; absolute
    /// below the root of cgroup2.
    fn group(&self, slice: Option<&str>, scope: &str) -> String;

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
    /// The slice it is in; nothing: that of containers.
    pub slice: Option<String>,
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
    pub(super) slice: Option<String>,
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

    /// The unit of a container, where the service manager has those.
    pub(super) fn unit(&self, id: &ContainerId) -> String {
        self.tag.scope(id)
    }

    /// The group of a container, in that of its parent if it has one. conmon and the container's
    /// processes are in groups below it.
    pub(super) fn of(&self, id: &ContainerId, parent: Option<&CgroupParent>) -> CgroupPath {
        // What a daemon with, or without, a service manager was asked for means nothing without one,
        // or with one; such a container does not start.
        let own = parent.and_then(|parent| self.below(id, parent).ok());
        own.unwrap_or_else(|| self.usual(id))
    }

    fn usual(&self, id: &ContainerId) -> CgroupPath {
        match &self.manager {
            Some(manager) => parsed(&manager.group(None, &self.tag.scope(id))),
            None => self.tag.cgroup(id),
        }
    }

    /// An error if nothing can be put there by whoever makes the groups of containers here.
    pub(super) fn check(&self, parent: Option<&CgroupParent>) -> Result<(), Error> {
        let Some(parent) = parent else { return Ok(()) };
        let any = "0".repeat(ContainerId::LEN).parse::<ContainerId>();
        let any = any.map_err(|error| Error::Bug(format!("an id of zeros: {error}")))?;
        self.below(&any, parent).map(drop).map_err(Error::CgroupParent)
    }

    fn below(&self, id: &ContainerId, parent: &CgroupParent) -> Result<CgroupPath, &'static str> {
        let path = match (&self.manager, slice(parent)) {
            (Some(manager), Some(slice)) => manager.group(Some(slice), &self.tag.scope(id)),
            (None, None) => format!("{parent}/{}", self.tag.cgroup_name(id)),
            (Some(_), None) => return Err("must be a slice, as in 'machine.slice'"),
            (None, Some(_)) => return Err("must be a path: there is no systemd to make slices"),
        };
        path.parse().map_err(|_| "has no place for a group of a container below it")
    }

    /// The group that has to be there before a container is put in that parent: what we have made
    /// nobody would take away. systemd makes its own.
    pub(super) fn needed(&self, parent: Option<&CgroupParent>) -> Option<CgroupPath> {
        let parent = parent.filter(|_| self.manager.is_none())?;
        parent.as_str().parse().ok()
    }

    /// All groups that a container can be in: an earlier daemon may have had no service manager.
    pub(super) fn all_of(
        &self,
        id: &ContainerId,
        parent: Option<&CgroupParent>,
    ) -> Vec<CgroupPath> {
        let mut all = vec![self.of(id, parent)];
        // Where one without a service manager has it.
        let in_parent = parent.filter(|parent| slice(parent).is_none()).and_then(|parent| {
            format!("{parent}/{}", self.tag.cgroup_name(id)).parse::<CgroupPath>().ok()
        });
        for group in in_parent.into_iter().chain([self.usual(id), self.tag.cgroup(id)]) {
            if !all.contains(&group) {
                all.push(group);
            }
        }
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
        let is_scope = || group.as_str().rsplit('/').next().is_some_and(|it| self.tag.is_scope(it));
        if self.manager.is_some() && is_scope() { Extent::Below } else { Extent::Whole }
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
                .map(|name| manager.group(None, &name))
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
        let Outline { slice, description, stop_timeout, stop_signal } = outline;
        let process = conmon.pidfd.as_fd().try_clone_to_owned()?;
        let name = self.tag.scope(id);
        let scope = Scope { name, slice, description, process, stop_timeout, stop_signal };
        manager.register(scope).await
    }

    /// Takes the scope back of a container that was half made, after its conmon.
    pub(super) async fn take_back(&self, id: &ContainerId) -> Result<(), Error> {
        let Some(manager) = &self.manager else { return Ok(()) };
        let taken = manager.take_back(&self.tag.scope(id)).await;
        taken.map_err(|source| Error::Host { what: "take back the scope of a container", source })
    }
}

/// The slice of systemd that this is the name of, if it is one.
pub(super) fn slice(parent: &CgroupParent) -> Option<&str> {
    let name = Some(parent.as_str()).filter(|name| !name.starts_with('/'));
    name.filter(|name| name.strip_suffix(".slice").is_some())
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
        fn group(&self, slice: Option<&str>, scope: &str) -> String {
            format!("/{}/{scope}", slice.unwrap_or("machine.slice"))
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
        assert_eq!(plain.of(&id, None).to_string(), format!("/tare/{id}"));
        assert_eq!(plain.shared().unwrap().to_string(), "/tare");
        let scopes = Groups::new(Tag::NONE, Some(Arc::new(Manager)));
        let of = |groups: &Groups, parent: &str| {
            let parent = parent.parse().unwrap();
            groups.check(Some(&parent)).map(|()| groups.of(&id, Some(&parent)).to_string()).ok()
        };
        assert_eq!(of(&plain, "/a/b").unwrap(), format!("/a/b/tare-{id}"));
        assert_eq!(of(&scopes, "a.slice").unwrap(), "/a.slice/tare-0123456789ab.scope");
        let long = format!("/{}", "x/".repeat(250) + "x");
        for (groups, parent) in [(&plain, "a.slice"), (&scopes, "/a"), (&plain, &long)] {
            assert_eq!(of(groups, parent), None, "{parent}");
        }
        assert_eq!(scopes.of(&id, None).to_string(), "/machine.slice/tare-0123456789ab.scope");
        assert_eq!(scopes.shared(), None);
        assert_eq!(plain.all_of(&id, None), [plain.of(&id, None)]);
        assert_eq!(scopes.all_of(&id, None), [scopes.of(&id, None), plain.of(&id, None)]);
        let parent = "a.slice".parse().unwrap();
        let own = scopes.of(&id, Some(&parent));
        let all = [own.clone(), scopes.of(&id, None), plain.of(&id, None)];
        assert_eq!(scopes.all_of(&id, Some(&parent)), all);
        assert_eq!(scopes.extent(&own), Extent::Below);
        assert_eq!(scopes.extent(&scopes.of(&id, None)), Extent::Below);
        assert_eq!(scopes.extent(&plain.of(&id, None)), Extent::Whole, "of an earlier daemon");
        assert_eq!(plain.extent(&scopes.of(&id, None)), Extent::Whole);
    }
}
