//! A container in which one thing is hostile.

use std::net::IpAddr;
use std::sync::LazyLock;

use serde_json::{Value, json};
use tare_specgen::{
    Architecture, CapabilitySet, Effective, Error, Foreign, Generated, HostFacts, ImageDefaults,
    KernelVersion, NetworkFacts, Placement, Request, RootfsFacts, SeccompProfile, effective,
    generate,
};

/// Of the host that is nobody's enemy.
static HOST: LazyLock<HostFacts> = LazyLock::new(|| {
    let kernel = KernelVersion { major: 6, minor: 12 };
    let profile = SeccompProfile::parse(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
    host_with(Architecture::X86_64, kernel, profile)
});

/// A host whose containers have this filter.
pub(crate) fn host_with(
    architecture: Architecture,
    kernel: KernelVersion,
    profile: SeccompProfile,
) -> HostFacts {
    let mut host = HostFacts::new(architecture, kernel, profile);
    host.capabilities = CapabilitySet::ALL;
    host.hostname = "the-host".parse().ok();
    host.controllers = ["cpu", "memory", "pids"].map(str::to_owned).into();
    host
}

/// All that is known of a container; a test changes one thing of it.
pub(crate) struct Container {
    pub(crate) host: HostFacts,
    pub(crate) rootfs: RootfsFacts,
    pub(crate) placement: Placement,
}

impl Container {
    /// One in a network.
    pub(crate) fn new() -> Self {
        let mut placement = Placement::new(
            "/b/rootfs".parse().unwrap(),
            "/b/files".parse().unwrap(),
            "/b/shm".parse().unwrap(),
            "web".parse().unwrap(),
            "/tare/x",
        );
        placement.netns = "/run/netns/x".parse().ok();
        let addresses =
            ["10.88.0.2", "2001:db8::2"].map(|it| it.parse::<IpAddr>().unwrap()).to_vec();
        placement.networks = vec![NetworkFacts::new(addresses, "10.88.0.1".parse().ok())];
        Self { host: HOST.clone(), rootfs: RootfsFacts::default(), placement }
    }

    /// What comes of a request, made from an image that says nothing.
    pub(crate) fn generate(&self, request: Value) -> Result<Generated, Error> {
        self.generate_of(&of_plain_image(request)?)
    }

    /// What comes of what is to run.
    pub(crate) fn generate_of(&self, effective: &Effective) -> Result<Generated, Error> {
        generate(effective, &self.host, &self.rootfs, &self.placement)
    }
}

/// What runs by a request, if its image says nothing. `v` and a command are added to it.
pub(crate) fn of_plain_image(request: Value) -> Result<Effective, Error> {
    lay_over(request, &ImageDefaults::default())
}

/// The same over an image.
pub(crate) fn lay_over(mut request: Value, image: &ImageDefaults) -> Result<Effective, Error> {
    request["v"] = json!(1);
    if image.command.is_empty() && image.entrypoint.is_empty() {
        request["Command"] = json!(["sh"]);
    }
    let request: Request = serde_json::from_value(request).unwrap();
    effective(&request, image, &Foreign::default())
}

/// The configuration as a document.
pub(crate) fn document(made: &Generated) -> Value {
    serde_json::from_slice(&made.config).unwrap()
}

/// The texts of a list in it.
pub(crate) fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap())
}
