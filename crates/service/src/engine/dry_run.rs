//! What a container would be, without making one.

use tare_netns::Subnet;
use tare_runtime::ContainerId;
use tare_spawn::{Incarnation, Layout};
use tare_specgen::{
    AbsolutePath, Effective, Foreign, NamespaceKind, NetworkFacts, NetworkMode, Placement, Request,
    RootfsFacts, SecretValue, effective, generate, spec_difference,
};
use tare_storage::Rootfs;

use super::blocking::unbounded;
use super::create::Draft;
use super::inside;
use super::mount::{Problem, Source, has_source};
use super::of_host::OfHost;
use super::records::durable::Joined;
use super::users::{self, Subordinate};
use super::{Error, Inner, host, secret, spawn_id};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container that is not to be made, but to be shown.
#[derive(Debug)]
pub struct DryRun {
    draft: Draft,
    with: Defaults,
}

/// What is shown of what an image brings along without anybody asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defaults {
    /// All.
    Shown,
    /// Nothing: only what is different from it, as a merge patch.
    Omitted,
}

/// What a container would be.
#[derive(Debug)]
pub struct Shown {
    /// Its config.json, or the difference to that of one with no options.
    pub spec: String,
    /// What the person who asks should know.
    pub warnings: Vec<String>,
    /// The action that would be asked about.
    pub action: String,
}

impl DryRun {
    /// Of what is to be shown, how much.
    pub fn new(draft: Draft, with: Defaults) -> Self {
        Self { draft, with }
    }
}

impl Ask for DryRun {
    fn question(&self, _: &Caller) -> Question {
        Question::new(Action::InspectImages)
            .with("image", self.draft.image_reference())
            .with("verb", "generate-spec")
    }
}

impl Inner {
    /// The configuration that a container would be made with, and what creating it would need.
    ///
    /// It has no id and no place yet: what depends on them is that of the id of zeros.
    ///
    /// # Errors
    ///
    /// As of creating one, [`Error::LookInside`] if its image cannot be looked into, and
    /// [`Error::ShuttingDown`].
    pub async fn generate_spec(&self, request: Authorized<DryRun>) -> Result<Shown, Error> {
        let (DryRun { draft, with }, by) = request.into_parts();
        let action = draft.question(&by).needs.iter().map(|need| need.action.id()).collect();
        let ready = draft.ready()?;
        let layers = ready.image().layers.clone();
        let of_request = |request: &Request| {
            effective(request, &ready.image().defaults, &Foreign::default())
                .map_err(Error::InvalidSpec)
        };
        let asked = of_request(ready.request())?;
        let plain = match with {
            Defaults::Shown => None,
            Defaults::Omitted => Some(of_request(&Request::default())?),
        };
        let networks = self.networks_not_joined(ready.joined());
        // Whoever passes a descriptor need not be able to read what it is of, and what is read is shown.
        let sources = if by.uid == 0 { ready.into_sources() } else { Vec::new() };
        let store = self.store.clone();
        // It costs a thread and a mount, and anybody may ask.
        let turn = self.looks.clone().acquire_owned().await.map_err(|_| Error::ShuttingDown)?;
        let look = move || {
            let _turn = turn;
            let rootfs = Rootfs::from_fd(store.mount_layers(&layers).map_err(Error::LookInside)?);
            let of_plain = |plain| Ok::<_, Error>((seen(&rootfs, &plain, &[])?, plain));
            Ok(((seen(&rootfs, &asked, &sources)?, asked), plain.map(of_plain).transpose()?))
        };
        let ((facts, asked), plain) = unbounded("look into an image", look).await?;
        let of_host = OfHost::read(&asked).await?;
        let (spec, warnings) = self.spec_of(&asked, &facts, of_host, networks)?;
        let spec = match plain {
            None => spec,
            Some((facts, plain)) => {
                let plain = self.spec_of(&plain, &facts, OfHost::default(), Vec::new())?.0;
                spec_difference(&plain, &spec).map_err(Error::InvalidSpec)?
            }
        };
        let spec = String::from_utf8(spec).map_err(|error| Error::Bug(error.to_string()))?;
        Ok(Shown { spec, warnings, action })
    }

    fn spec_of(
        &self,
        effective: &Effective,
        facts: &RootfsFacts,
        of_host: OfHost,
        networks: Vec<NetworkFacts>,
    ) -> Result<(Vec<u8>, Vec<String>), Error> {
        let mut placement = self.no_placement(effective)?;
        placement.networks = networks;
        of_host.place(&mut placement);
        // It is shown, and not what they say.
        let nothing = || SecretValue::new(Vec::new());
        let secrets = secret::used(&effective.request).into_iter();
        placement.secrets = secrets.map(|name| (name, nothing())).collect();
        inside::place_zone(effective, &mut placement);
        let host = self.host_facts_for(effective);
        let made = generate(effective, &host, facts, &placement).map_err(Error::InvalidSpec)?;
        Ok((made.config, made.warnings.iter().map(ToString::to_string).collect()))
    }

    /// Where the pieces of a container would be.
    fn no_placement(&self, effective: &Effective) -> Result<Placement, Error> {
        let bug = |error: &dyn std::fmt::Display| Error::Bug(error.to_string());
        let id: ContainerId = "0".repeat(ContainerId::LEN).parse().map_err(|e| bug(&e))?;
        let spawn_id = spawn_id(&id);
        let layout = Layout::new(self.instance.run_dir(), &spawn_id, Incarnation(1));
        let group = self.groups.of(&id, effective.request.cgroup_parent.as_ref());
        let mut placement = host::placement(&layout, &id, &group)?;
        let with_source = effective.request.mounts.iter().filter(|mount| has_source(&mount.source));
        for (number, mount) in (0..).zip(with_source) {
            let path = host::path(&layout.place(tare_spawn::Place::Mount(number)))?;
            placement.mounts.insert(mount.target.clone(), path);
        }
        match &effective.request.network_mode {
            // The runtime makes that of a user namespace.
            NetworkMode::Private if users::are_own(&effective.request) => {}
            NetworkMode::Private => placement.netns = Some(self.namespace_of(&id)?),
            NetworkMode::Container(other) => {
                let owner = other.as_str().parse().map_err(|error| bug(&error))?;
                placement.joined.insert(NamespaceKind::Network, self.namespace_of(&owner)?);
            }
            _ => {}
        }
        if users::are_wanted(&effective.request)
            && let Some(first) = Subordinate::read()?.first()
        {
            [placement.uid_map, placement.gid_map] = users::maps(first)?;
        }
        self.show_namespaces(&effective.request, &mut placement)?;
        Ok(placement)
    }

    /// What is known of networks by who is not on them: where the host is there, and for an address of its
    /// own one of the same family.
    fn networks_not_joined(&self, joined: &[Joined]) -> Vec<NetworkFacts> {
        let found = joined.iter().filter_map(|one| self.networks.get(&one.network));
        let facts = found.map(|network| {
            let definition = network.definition();
            let gateways = definition.network.subnets().iter().map(Subnet::gateway);
            NetworkFacts::new(gateways.collect(), definition.network.host_address())
        });
        facts.collect()
    }

    fn namespace_of(&self, id: &ContainerId) -> Result<AbsolutePath, Error> {
        host::path(&self.networks.namespace(id).path())
    }
}

fn seen(rootfs: &Rootfs, effective: &Effective, sources: &[Source]) -> Result<RootfsFacts, Error> {
    inside::facts(rootfs, effective, sources).map_err(|problem| match problem {
        Problem::Storage(source) => Error::LookInside(source),
        Problem::Target { asked, leads_to } => Error::ShownTarget { target: asked, leads_to },
    })
}
