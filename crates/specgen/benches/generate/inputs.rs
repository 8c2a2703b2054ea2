//! A container, an image and a host, as large as one wants.

use tare_specgen::{
    Architecture, CapabilitySet, Effective, Foreign, HostFacts, ImageDefaults, KernelVersion,
    Placement, Request, RootfsFacts, SeccompProfile,
};

/// Of a container: how many mounts, how many variables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) usize, pub(crate) usize);

pub(crate) fn decide(request: &Request, image: &ImageDefaults) -> Effective {
    tare_specgen::effective(request, image, &Foreign::default()).unwrap()
}

/// Volumes with options, and a user that has to be added to `passwd`.
pub(crate) fn request(Size(mounts, variables): Size) -> Request {
    let mounts: Vec<_> = (0..mounts)
        .map(|n| {
            serde_json::json!({
                "Target": format!("/srv/data/{}/{n}", n % 7), "Options": ["noatime", "rslave"],
                "Source": {"Volume": {"Name": format!("volume-{n}")}},
            })
        })
        .collect();
    let env: Vec<_> = (0..variables).map(|n| format!("NAME_{n}=value {n}")).collect();
    let json = serde_json::json!({"v": 1, "User": "1234:5678", "Mounts": mounts, "Env": env});
    serde_json::from_value(json).unwrap()
}

pub(crate) fn image() -> ImageDefaults {
    ImageDefaults::parse(br#"{"config":{"Cmd":["sh"],"Env":["A=1"]}}"#).unwrap()
}

pub(crate) fn host() -> HostFacts {
    let kernel = KernelVersion { major: 6, minor: 12 };
    let mut host = HostFacts::new(Architecture::X86_64, kernel, SeccompProfile::embedded());
    host.capabilities = CapabilitySet::ALL;
    host.resolv_conf = Some("nameserver 192.0.2.1\nsearch example.org\n".to_owned());
    host
}

pub(crate) fn rootfs() -> RootfsFacts {
    let mut rootfs = RootfsFacts::default();
    rootfs.passwd = Some(b"root:x:0:0:root:/root:/bin/sh\n".repeat(20));
    rootfs.group = Some(b"root:x:0:\n".repeat(40));
    rootfs
}

pub(crate) fn placement(request: &Request) -> Placement {
    let path = |text: &str| text.parse().unwrap();
    let mut placement = Placement::new(
        path("/run/tare/containers/x/1/rootfs"),
        path("/run/tare/containers/x/1/files"),
        path("/run/tare/containers/x/1/shm"),
        "0123456789ab".parse().unwrap(),
        "machine.slice:tare:x",
    );
    for (n, mount) in request.mounts.iter().enumerate() {
        let source = path(&format!("/run/tare/containers/x/1/mounts/{n}"));
        placement.mounts.insert(mount.target.clone(), source);
    }
    placement
}
