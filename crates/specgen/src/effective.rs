//! What will really run: the request laid over the defaults of the image.

use std::collections::{BTreeMap, BTreeSet};

use crate::apparmor::AppArmor;
use crate::capability::{self, CapabilitySet};
use crate::error::Error;
use crate::facts::Placement;
use crate::health::{self, HealthCheck};
use crate::idmap::IdMapping;
use crate::image::ImageDefaults;
use crate::mount::MountTarget;
use crate::namespace::NamespaceMode;
use crate::reason::Foreign;
use crate::request::{Privileged, Request, Seccomp};
use crate::selinux::SELinux;
use crate::services;
use crate::signal::Signal;
use crate::text::{Argument, EnvVar, LabelKey, ShmSize, WorkingDir};
use crate::user::UserSpec;

/// Time to stop in, in microseconds, when the request says nothing: 10 seconds, as in podman.
pub const DEFAULT_STOP_TIMEOUT_USEC: u64 = 10_000_000;

/// The container as it will be: what authorization looks at, and all that [`crate::generate`]
/// takes from the request and the image.
///
/// Only [`effective`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Effective {
    /// What was asked for. Where there is a field of the same name here, that one is what counts.
    pub request: Request,
    /// The program and its arguments; empty if neither the request nor the image names one.
    pub argv: Vec<Argument>,
    /// The environment, each name once.
    pub env: Vec<EnvVar>,
    /// Where the process starts.
    pub working_dir: WorkingDir,
    /// Who the process is.
    pub user: UserSpec,
    /// Labels of the image and the request.
    pub labels: BTreeMap<LabelKey, String>,
    /// How it is told to stop.
    pub stop_signal: Signal,
    /// Time between the stop signal and `SIGKILL`, in microseconds.
    pub stop_timeout_usec: u64,
    /// How it is found out whether it is well, if it is.
    pub health: Option<HealthCheck>,
    /// The capabilities it is to have, so far as the host has them.
    pub capabilities: CapabilitySet,
    /// Those of them that were asked for by name: the host must have these.
    pub required_capabilities: CapabilitySet,
    /// Size of `/dev/shm`.
    pub shm_size: ShmSize,
    /// Which system calls are filtered.
    pub seccomp: Seccomp,
    /// Which AppArmor profile confines it.
    pub apparmor: AppArmor,
    /// How it is labelled.
    pub selinux: SELinux,
    /// Whether it is made for systemd.
    pub systemd: bool,
    /// What it reaches that is not its owner's.
    pub foreign: Foreign,
}

/// Lays a request over the defaults of an image.
///
/// # Errors
/// [`Error::Option`] when the options of the request do not go together.
pub fn effective(
    request: &Request,
    image: &ImageDefaults,
    foreign: &Foreign,
) -> Result<Effective, Error> {
    request.check()?;
    let privileged = request.privileged == Privileged::Yes;
    let capabilities = capability::wanted(&request.cap_add, &request.cap_drop, privileged);
    let argv = argv(request, image);
    let systemd = services::is_systemd(request.systemd, &argv);
    let mut labels = image.labels.clone();
    labels.extend(request.labels.clone());
    let working_dir =
        first(request.working_dir.as_ref(), image.working_dir.as_ref(), WorkingDir::root);
    Ok(Effective {
        env: overlaid([&image.env, &request.env]),
        working_dir,
        user: first(request.user.as_ref(), image.user.as_ref(), UserSpec::default),
        labels,
        stop_signal: stop_signal(request, image, systemd),
        stop_timeout_usec: request.stop_timeout_usec.unwrap_or(DEFAULT_STOP_TIMEOUT_USEC),
        health: health::health(request, image),
        capabilities,
        required_capabilities: capabilities & capability::named(&request.cap_add),
        shm_size: request.shm_size.unwrap_or(ShmSize::DEFAULT),
        seccomp: unless(privileged, &request.seccomp, Seccomp::Unconfined),
        apparmor: unless(privileged, &request.apparmor, AppArmor::Unconfined),
        selinux: unless(privileged || meets_host(request), &request.selinux, SELinux::Disabled),
        systemd,
        foreign: foreign.clone(),
        argv,
        request: request.clone(),
    })
}

/// A privileged container is not confined, unless the request says how.
fn unless<T: Clone + Default + PartialEq>(privileged: bool, asked: &T, unconfined: T) -> T {
    if privileged && *asked == T::default() { unconfined } else { asked.clone() }
}

/// Whether it is among processes of the host, or shares memory with them: nothing of what it is for would
/// be let through to another label, as in podman.
fn meets_host(request: &Request) -> bool {
    let own = &request.namespaces;
    own.pid == NamespaceMode::Host || own.ipc == NamespaceMode::Host
}

/// systemd takes `SIGTERM` for something else.
fn stop_signal(request: &Request, image: &ImageDefaults, systemd: bool) -> Signal {
    let usual = if systemd { Signal::RTMIN_PLUS_3 } else { Signal::TERM };
    request.stop_signal.or(image.stop_signal).unwrap_or(usual)
}

/// Where the image wants directories that outlive the container, and the request mounts nothing:
/// who stores the request adds an anonymous volume for each.
pub fn anonymous_volumes(request: &Request, image: &ImageDefaults) -> Vec<MountTarget> {
    let taken: BTreeSet<_> = request.mounts.iter().map(|mount| &mount.target).collect();
    let places: BTreeSet<MountTarget> =
        image.volumes.iter().filter_map(|path| path.as_str().parse().ok()).collect();
    places.into_iter().filter(|place| !taken.contains(place)).collect()
}

impl Effective {
    /// The user ids of the container's own user namespace; empty if it has none.
    pub(crate) fn uid_map<'a>(&'a self, placement: &'a Placement) -> &'a [IdMapping] {
        self.id_map(&self.request.uid_map, &placement.uid_map)
    }

    /// The same for groups.
    pub(crate) fn gid_map<'a>(&'a self, placement: &'a Placement) -> &'a [IdMapping] {
        let asked = if self.request.gid_map.is_empty() {
            &self.request.uid_map
        } else {
            &self.request.gid_map
        };
        self.id_map(asked, &placement.gid_map)
    }

    fn id_map<'a>(&self, asked: &'a [IdMapping], assigned: &'a [IdMapping]) -> &'a [IdMapping] {
        match (&self.request.namespaces.user, asked) {
            (NamespaceMode::Host, _) => &[],
            (_, []) => assigned,
            (_, asked) => asked,
        }
    }
}

/// The image's command is made for the image's entry point: another one goes without it.
fn argv(request: &Request, image: &ImageDefaults) -> Vec<Argument> {
    let image_command = match &request.entrypoint {
        Some(_) => &[],
        None => image.command.as_slice(),
    };
    let command = if request.command.is_empty() { image_command } else { &request.command };
    [request.entrypoint.as_ref().unwrap_or(&image.entrypoint), command].concat()
}

fn first<T: Clone>(request: Option<&T>, image: Option<&T>, default: impl FnOnce() -> T) -> T {
    request.or(image).cloned().unwrap_or_else(default)
}

/// The entries of all layers, each name once: where it came first, as it was said last.
pub(crate) fn overlaid<'a, const N: usize>(layers: [&'a [EnvVar]; N]) -> Vec<EnvVar> {
    let mut places = BTreeMap::new();
    let mut env: Vec<&'a EnvVar> = Vec::new();
    for entry in layers.into_iter().flatten() {
        let place = *places.entry(entry.name()).or_insert(env.len());
        if place == env.len() {
            env.push(entry);
        } else {
            env[place] = entry;
        }
    }
    env.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Words = &'static [&'static str];

    fn args(list: &[&str]) -> Vec<Argument> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn env(list: &[&str]) -> Vec<EnvVar> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn entry_points_and_commands() {
        let mut image = ImageDefaults::default();
        (image.entrypoint, image.command) = (args(&["/e"]), args(&["a", "b"]));
        let cases: [(&str, Option<Words>, Words, Words); 6] = [
            ("as the image says", None, &[], &["/e", "a", "b"]),
            ("another command", None, &["x"], &["/e", "x"]),
            ("another entry point", Some(&["/f", "-v"]), &[], &["/f", "-v"]),
            ("both", Some(&["/f"]), &["x"], &["/f", "x"]),
            ("no entry point", Some(&[]), &["x"], &["x"]),
            ("nothing at all", Some(&[]), &[], &[]),
        ];
        for (about, entrypoint, command, want) in cases {
            let mut request = Request::default();
            (request.entrypoint, request.command) = (entrypoint.map(args), args(command));
            assert_eq!(
                effective(&request, &image, &Foreign::default()).unwrap().argv,
                args(want),
                "{about}"
            );
        }
    }

    #[test]
    fn the_request_wins_over_the_image() {
        let image = ImageDefaults::parse(
            br#"{"config":{"Env":["A=1","B=2"],"User":"www","WorkingDir":"/i","StopSignal":"INT",
                "Labels":{"l":"image","m":"image"}}}"#,
        )
        .unwrap();
        let mut request = Request::default();
        let plain = effective(&request, &image, &Foreign::default()).unwrap();
        assert_eq!(plain.user.to_string(), "www");
        assert_eq!((plain.working_dir.as_str(), plain.stop_signal.number()), ("/i", 2));

        request.env = env(&["B=3", "C=4", "B=5"]);
        request.user = Some("0".parse().unwrap());
        request.labels.insert("l".parse().unwrap(), "request".into());
        let both = effective(&request, &image, &Foreign::default()).unwrap();
        assert_eq!(both.env, env(&["A=1", "B=5", "C=4"]));
        assert_eq!(both.user.to_string(), "0");
        assert_eq!(both.labels.values().collect::<Vec<_>>(), ["request", "image"]);
    }

    proptest! {
        #[test]
        fn each_name_is_there_once_with_its_last_value(
            lower in proptest::collection::vec("[A-D]=[0-9]", 0..6),
            upper in proptest::collection::vec("[A-D]=[0-9]", 0..6),
        ) {
            let parse = |list: &[String]| -> Vec<EnvVar> {
                list.iter().map(|entry| entry.parse().unwrap()).collect()
            };
            let merged = overlaid([&parse(&lower), &parse(&upper)]);
            let said: Vec<String> = lower.into_iter().chain(upper).collect();
            for entry in &merged {
                let last = said.iter().rfind(|other| other[..1] == *entry.name()).unwrap();
                prop_assert_eq!(entry.as_str(), last);
            }
            let names: std::collections::BTreeSet<_> = said.iter().map(|entry| &entry[..1]).collect();
            prop_assert_eq!(merged.len(), names.len());
        }
    }
}
