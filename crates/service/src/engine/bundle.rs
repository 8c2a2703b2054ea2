//! The bundle of a container: its file systems, its configuration, and the files bound into it.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tare_runtime::ContainerName;
use tare_spawn::{
    Incarnation as Number, Layout, LiveFile, MAX_MOUNTS, Place, PlacedMount, Spawner,
};
use tare_specgen::{
    About, BoundFile, Effective, Generated, HostFacts, MAX_NAMESERVERS, NetworkFacts, Placement,
    Privileged, RootfsFacts, generate,
};
use tare_storage::{
    Access, ChainId, ContainerKey, FileLabel, FileName, NewEntry, NewFile, Rootfs, Store,
    mount_in_view, mount_shm_of, write_files,
};

use super::blocking::{brief, unbounded};
use super::checkpoint::{Resume, fill_memory};
use super::container::Container;
use super::device;
use super::host;
use super::inside;
use super::jobs::Job;
use super::live_files;
use super::mount::{Problem, Source, Wanted, root_options};
use super::namespaces::Memory;
use super::of_host::OfHost;
use super::records::durable::Root;
use super::records::volatile::{self, Incarnation};
use super::selinux::Labels;
use super::users::{self, Users};
use super::{Engine, Error, Inner, key, spawn_id};
use crate::names::DOMAIN;

/// A passwd or group file larger than this is refused: it would be read into memory.
pub(super) const MAX_ACCOUNTS: usize = tare_specgen::MAX_ACCOUNT_FILE;

/// The file systems of a container, not yet at their places.
pub(super) struct FileSystems {
    rootfs: Rootfs,
    shm: OwnedFd,
    sources: Vec<Source>,
    facts: RootfsFacts,
}

/// What the file systems of a container are made of.
struct Parts {
    store: Arc<Store>,
    spawner: Arc<dyn Spawner>,
    name: ContainerName,
    key: ContainerKey,
    layers: Vec<ChainId>,
    shm_size: NonZeroU64,
    memory_of: Option<Memory>,
    /// What is in its shared memory from the first moment on.
    memory: Option<File>,
    users: Option<Users>,
    labels: Option<Labels>,
    effective: Effective,
}

impl Parts {
    fn mount(self, wanted: Vec<Wanted>) -> Result<FileSystems, Error> {
        let failed = |source| failed_mount(&self.name, source);
        let users = self.users.as_ref().map(|users| users.namespace(&*self.spawner)).transpose()?;
        let users = users.as_ref().map(AsFd::as_fd);
        let rootfs = self.mount_root(users).map_err(failed)?;
        let shm = self.mount_memory().map_err(failed)?;
        if let Some(content) = self.memory {
            fill_memory(&self.name, &shm, content)?;
        }
        // What is copied from it has its owners as they are on disk.
        let plain = match users {
            Some(_) if wanted.iter().any(Wanted::is_filled) => {
                Some(self.store.mount_to_read(&self.layers, &self.key).map_err(failed)?)
            }
            _ => None,
        };
        let from = (plain.as_ref().unwrap_or(&rootfs), users);
        let make = |it: Wanted| it.make(&self.store, from, self.labels.as_ref(), &self.name);
        let sources = wanted.into_iter().map(make);
        let sources: Vec<Source> = sources.collect::<Result<_, _>>()?;
        let facts = inside::facts(&rootfs, &self.effective, &sources);
        let facts = facts.map_err(|problem| match problem {
            Problem::Storage(source) => failed(source),
            Problem::Target { asked, leads_to } => {
                Error::MountTarget { name: self.name.clone(), target: asked, leads_to }
            }
        })?;
        Ok(FileSystems { rootfs, shm, sources, facts })
    }

    fn mount_root(&self, users: Option<BorrowedFd<'_>>) -> Result<Rootfs, tare_storage::Error> {
        let options = root_options(users, self.own_label());
        self.store.mount_rootfs_with(&self.layers, &self.key, &options)
    }

    fn own_label(&self) -> Option<&FileLabel> {
        self.labels.as_ref()?.own.as_ref()
    }

    fn mount_memory(&self) -> Result<OwnedFd, tare_storage::Error> {
        let root = self.users.as_ref().map_or((0, 0), Users::root);
        match &self.memory_of {
            None => mount_shm_of(root, self.shm_size, self.own_label()),
            Some(owner) => mount_in_view(owner.view.as_fd(), &owner.place),
        }
    }
}

impl Engine {
    /// Mounts what is a container's own.
    pub(super) async fn mount(
        &self,
        container: &Container,
        effective: &Effective,
        resume: Option<&Resume>,
    ) -> Result<FileSystems, Error> {
        let wanted = self.wanted_mounts(container, effective)?;
        if wanted.len() > MAX_MOUNTS {
            return Err(Error::TooManyMounts(MAX_MOUNTS));
        }
        let memory = resume.map(Resume::memory).transpose()?.flatten();
        let may_hang = memory.is_some() || wanted.iter().any(Wanted::may_hang);
        let parts = Parts {
            store: self.store.clone(),
            spawner: self.spawner.clone(),
            name: container.name(),
            key: key(&container.id),
            layers: self.image_of(&container.root)?.layers.clone(),
            shm_size: NonZeroU64::new(effective.shm_size.bytes())
                .ok_or_else(|| Error::Bug("/dev/shm of no size".into()))?,
            memory_of: self.memory_owner(container)?,
            memory,
            users: Users::of(&effective.request, container.users)?,
            labels: self.file_labels(container, effective)?,
            effective: effective.clone(),
        };
        let make = move || parts.mount(wanted);
        if may_hang { unbounded("mount", make).await } else { brief(make).await }
    }

    /// Generates the configuration and writes it, with the files it binds, into the bundle.
    pub(super) async fn place(
        &self,
        container: &Container,
        record: &Incarnation,
        effective: &Effective,
        file_systems: FileSystems,
        job: &Job,
    ) -> Result<Vec<PlacedMount>, Error> {
        let FileSystems { rootfs, shm, sources, facts } = file_systems;
        let mut placement = self.placement(container, record)?;
        self.place_namespaces(container, &mut placement)?;
        self.place_sources(record, &sources, &mut placement)?;
        inside::place_zone(effective, &mut placement);
        self.place_secrets(&effective.request, &mut placement).await?;
        OfHost::read(effective).await?.place(&mut placement);
        if let Err(error) = self.ensure_profile(effective).await {
            job.log(4, error.chain());
        }
        let host = self.host_facts_for(effective);
        let mut generated =
            generate(effective, &host, &facts, &placement).map_err(Error::InvalidSpec)?;
        self.share_files(&effective.request, &mut generated.files)?;
        for warning in &generated.warnings {
            job.log(4, warning.to_string());
        }
        let (run_dir, id, number) =
            (self.instance.run_dir().to_path_buf(), spawn_id(&record.container), record.number);
        let name = container.name();
        let base_hosts = live_files::base_hosts(&facts, &placement)?;
        let users = Users::of(&effective.request, container.users)?;
        let root = users.as_ref().map_or((0, 0), Users::root);
        let labels = self.file_labels(container, effective)?;
        let (rootfs, left) = brief(move || {
            let failed = |source| Error::Mount { name: name.clone(), source };
            let left = inside::write(&rootfs, &generated.rootfs_files, root).map_err(failed)?;
            inside::link(&rootfs, &generated.links, root).map_err(failed)?;
            let layout = Layout::new(&run_dir, &id, Number(number));
            write_bundle(&layout, generated, base_hosts, labels.as_ref())?;
            Ok::<_, Error>((rootfs, left))
        })
        .await?;
        for path in left {
            job.log(4, format!("{path} of the image is no regular file: the user is not in it"));
        }
        let own = [(Place::Rootfs, rootfs.into()), (Place::Shm, shm)];
        let sources = (0..).map(Place::Mount).zip(sources.into_iter().map(|source| source.mount));
        let placed = own.into_iter().chain(sources);
        Ok(placed.map(|(place, mount)| PlacedMount { place, mount }).collect())
    }

    /// Says where the sources of mounts will be.
    fn place_sources(
        &self,
        record: &Incarnation,
        sources: &[Source],
        placement: &mut Placement,
    ) -> Result<(), Error> {
        let id = spawn_id(&record.container);
        let layout = Layout::new(self.instance.run_dir(), &id, Number(record.number));
        for (number, source) in (0..).zip(sources) {
            let path = host::path(&layout.place(Place::Mount(number)))?;
            placement.mounts.insert(source.target.clone(), path);
        }
        Ok(())
    }
}

impl Inner {
    /// What is known of the host by now, as far as this container is concerned.
    pub(super) fn host_facts_for(&self, effective: &Effective) -> HostFacts {
        let mut host = self.host.facts();
        self.confinement.tell(&mut host);
        host.hosts = inside::host_hosts(effective);
        host.fallback_resolvers.clone_from(&self.config().network.fallback_dns);
        host.init = host::init(effective);
        if effective.request.privileged == Privileged::Yes {
            host.devices = device::all(effective.systemd);
        }
        host
    }

    /// Where the pieces of a container are.
    pub(super) fn placement(
        &self,
        container: &Container,
        record: &Incarnation,
    ) -> Result<Placement, Error> {
        let id = spawn_id(&record.container);
        let layout = Layout::new(self.instance.run_dir(), &id, Number(record.number));
        let mut placement = host::placement(&layout, &record.container, &record.cgroup)?;
        let definition = container.definition();
        let request = &definition.row.request;
        if let Some(range) = container.users {
            [placement.uid_map, placement.gid_map] = users::maps(range)?;
        }
        if let Some(network) = &record.network {
            // The one of a container's own users has to be made by them.
            if !users::are_own(request) {
                let path = network.namespace.path();
                placement.netns = path.to_string_lossy().parse().ok();
            }
            placement.networks =
                network.places.iter().map(|place| self.network_facts(place)).collect();
            // Those that somebody asks for answer no names of containers.
            if request.dns.is_empty() {
                self.add_name_servers(network, &mut placement.networks);
            }
        }
        placement.categories = self.categories_of(container)?;
        placement.about = about(container);
        placement.names = container.name().as_str().parse().into_iter().collect();
        self.place_network(container, &mut placement)?;
        placement.joined_hostname = self.joined_hostname(request)?;
        Ok(placement)
    }
}

impl Inner {
    fn network_facts(&self, place: &volatile::Place) -> NetworkFacts {
        let addresses = place.attachment.addresses.iter().map(ipnet::IpNet::addr);
        let network = self.networks.get(&place.network);
        let host = network.and_then(|network| network.definition().network.host_address());
        NetworkFacts::new(addresses.collect(), host)
    }

    /// The servers that know names of containers: each of them knows all that this one may know.
    /// Where there is none, those that the network has.
    fn add_name_servers(&self, record: &volatile::NetworkRecord, facts: &mut [NetworkFacts]) {
        let domain = DOMAIN.parse().expect("this is a domain");
        let mut search = vec![domain];
        for (place, facts) in record.places.iter().zip(facts).take(MAX_NAMESERVERS) {
            if let Some(server) = self.networks.names.server_of(&place.network) {
                facts.nameservers = vec![server];
                facts.search = std::mem::take(&mut search);
            } else if let Some(network) = self.networks.get(&place.network) {
                facts.nameservers.clone_from(&network.definition().servers);
            }
        }
    }
}

/// What a container is told of itself; nothing if its names do not fit into a line.
fn about(container: &Container) -> Option<About> {
    let Root::Image { id, reference } = &container.root;
    let (name, image) = (container.name().as_str().parse().ok()?, reference.parse().ok()?);
    Some(About::new(name, image, id.to_string().parse().ok()))
}

/// Why something of a container is not mounted.
pub(super) fn failed_mount(name: &ContainerName, source: tare_storage::Error) -> Error {
    match source {
        tare_storage::Error::Unsupported { what, needs } => Error::Unsupported { what, needs },
        source => Error::Mount { name: name.clone(), source },
    }
}

/// A name of ours, for a file of ours.
pub(super) fn file_name(name: &str) -> Result<FileName, Error> {
    name.parse().map_err(|error| Error::Bug(format!("file name {name}: {error}")))
}

/// The configuration comes last, by a rename: where it is, all the rest is.
fn write_bundle(
    layout: &Layout<'_>,
    generated: Generated,
    base_hosts: Option<NewFile>,
    labels: Option<&Labels>,
) -> Result<(), Error> {
    let failed = |source| Error::Host { what: "write the bundle of a container", source };
    let open = |path: std::path::PathBuf| std::fs::File::open(path).map_err(failed);
    let mut files = live_files::made(&generated.files)?;
    files.extend(base_hosts);
    for file in generated.files {
        files.push(new_file(file, labels)?);
    }
    write_files(open(layout.files())?.as_fd(), &files).map_err(Error::Storage)?;
    // It holds the environment, and that may hold secrets.
    let (name, content) = (file_name("config.json.new")?, generated.config);
    let config = NewFile { name, content, access: Access::Private, label: None };
    write_files(open(layout.bundle())?.as_fd(), &[config]).map_err(Error::Storage)
}

/// As its owner in the container is to find it.
pub(super) fn new_file(file: BoundFile, labels: Option<&Labels>) -> Result<NewFile, Error> {
    let BoundFile { name, content, mode, uid, gid, .. } = file;
    let access = Access::Exactly(NewEntry { uid, gid, mode });
    // Who shares a network has these of its owner's.
    let is_shared = LiveFile::ALL.iter().any(|live| live.name() == name);
    let label = labels.and_then(|it| if is_shared { Some(&it.shared) } else { it.own.as_ref() });
    Ok(NewFile { name: file_name(&name)?, content: content.0, access, label: label.cloned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_specgen::{
        Architecture, Foreign, ImageDefaults, Request, SeccompProfile, SecretValue, effective,
    };

    fn parse<T: std::str::FromStr>(text: &str) -> T
    where
        T::Err: std::fmt::Debug,
    {
        text.parse().unwrap()
    }

    fn generated(request: &str) -> Generated {
        let request: Request = serde_json::from_str(request).unwrap();
        let effective = effective(&request, &ImageDefaults::default(), &Foreign::default());
        let mut placement = Placement::new(
            parse("/run/c/rootfs"),
            parse("/run/c/files"),
            parse("/run/c/shm"),
            parse("c"),
            "/c",
        );
        placement.secrets.insert(parse("key"), SecretValue::new(b"hush".to_vec()));
        let host = HostFacts::new(Architecture::X86_64, parse("6.1.0"), SeccompProfile::embedded());
        generate(&effective.unwrap(), &host, &RootfsFacts::default(), &placement).unwrap()
    }

    #[test]
    fn a_file_belongs_to_whom_it_is_for() {
        let request = r#"{"v": 1, "Command": ["sh"], "NetworkMode": "none", "Secrets": [{
            "Name": "key",
            "Target": {"File": {"Path": "/run/secrets/key", "Mode": 256, "UID": 7, "GID": 8}}}]}"#;
        let files: Vec<_> = generated(request)
            .files
            .into_iter()
            .map(|file| new_file(file, None).unwrap())
            .collect();
        let secret = NewEntry { uid: 7, gid: 8, mode: 0o400 };
        for (content, access) in [(&b"hush"[..], secret), (b"c\n", NewEntry::FILE)] {
            let file = files.iter().find(|file| file.content == content).unwrap();
            assert_eq!(file.access, Access::Exactly(access), "{}", file.name);
        }
    }

    /// With `SELinux`, nobody else comes to it, but for what is given on to who shares the network.
    #[test]
    fn a_file_has_the_label_of_whom_it_is_for() {
        let [mine, shared] = ["u:o:f:s0:c1,c2", "u:o:f:s0"].map(parse::<FileLabel>);
        let files = generated(r#"{"v": 1, "Command": ["sh"], "NetworkMode": "none"}"#).files;
        for own in [Some(mine), None] {
            let labels = Labels { own: own.clone(), shared: shared.clone() };
            let label = |name: &str| {
                let file = files.iter().find(|file| file.name == name).unwrap().clone();
                new_file(file, Some(&labels)).unwrap().label
            };
            assert_eq!(label("hostname"), own);
            for name in ["hosts", "resolv.conf"] {
                assert_eq!(label(name), Some(shared.clone()), "{name}");
            }
        }
    }
}
