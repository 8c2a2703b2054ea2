//! The container's first process: environment, user, capabilities, limits.

use oci_spec::runtime::User;

use crate::apparmor;
use crate::capability::CapabilitySet;
use crate::document::{Capabilities, Process};
use crate::effective::{Effective, overlaid};
use crate::error::Error;
use crate::facts::{HostFacts, Placement};
use crate::files::secret;
use crate::names::Hostname;
use crate::request::{Terminal, Umask};
use crate::rlimit;
use crate::services;
use crate::text::{Argument, EnvVar};
use crate::user::ResolvedUser;
use crate::warning::Warning;

/// Where programs are looked for if nobody says where.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Value of `container=`, by which systemd and others know that they are in one.
///
/// "oci" is the word for any OCI engine in systemd's container interface; the name of an engine
/// that programs have not heard of would tell them less.
const CONTAINER: &str = "oci";

/// What the process is made of, beside the effective container.
pub(crate) struct Parts<'a> {
    pub(crate) host: &'a HostFacts,
    pub(crate) placement: &'a Placement,
    pub(crate) user: &'a ResolvedUser,
    pub(crate) hostname: &'a Hostname,
    pub(crate) bounding: CapabilitySet,
    pub(crate) selinux_label: Option<&'a str>,
}

/// The `process` part of the document.
pub(crate) fn process<'a>(
    effective: &'a Effective,
    parts: &Parts<'a>,
    warnings: &mut Vec<Warning>,
) -> Result<Process<'a>, Error> {
    if effective.argv.is_empty() {
        return Err(Error::NoCommand);
    }
    let (request, host) = (&effective.request, parts.host);
    let limits = rlimit::limits(&request.ulimits, &host.hard_limits, warnings)?;
    let init = services::init(effective, host)?.iter().copied();
    Ok(Process {
        terminal: request.terminal.into(),
        user: oci_user(parts.user, request.umask),
        args: init.chain(effective.argv.iter().map(Argument::as_str)).collect(),
        env: env(effective, parts)?,
        cwd: effective.working_dir.as_str(),
        capabilities: Capabilities::new(parts.bounding, parts.user.uid),
        rlimits: limits.into_iter().map(Into::into).collect(),
        no_new_privileges: request.new_privileges.into(),
        apparmor_profile: apparmor::profile(&effective.apparmor, host)?,
        selinux_label: parts.selinux_label,
        oom_score_adj: oom_score(effective, host, warnings),
    })
}

/// Nobody can give less than it has itself, without the right to.
fn oom_score(effective: &Effective, host: &HostFacts, warnings: &mut Vec<Warning>) -> Option<i32> {
    let wanted = i32::from(effective.request.oom_score_adjust?);
    let value = host.lowest_oom_score.map_or(wanted, |lowest| wanted.max(lowest));
    if value != wanted {
        warnings.push(Warning::OomScoreRaised { wanted, value });
    }
    Some(value)
}

/// The capabilities that the container may have at most.
pub(crate) fn bounding(effective: &Effective, host: &HostFacts) -> Result<CapabilitySet, Error> {
    let missing = effective.required_capabilities - host.capabilities;
    if missing == CapabilitySet::EMPTY {
        return Ok(effective.capabilities & host.capabilities);
    }
    Err(Error::Capabilities { missing })
}

/// The environment: what everybody gets, under what was asked for, under what devices need, as in podman, under what
/// is secret.
fn env(effective: &Effective, parts: &Parts<'_>) -> Result<Vec<EnvVar>, Error> {
    let mut defaults = vec![
        env_var("PATH", PATH),
        env_var("container", CONTAINER),
        env_var("HOSTNAME", parts.hostname.as_str()),
        env_var("HOME", &parts.user.home),
    ];
    if effective.request.terminal == Terminal::Yes {
        defaults.push(env_var("TERM", "xterm"));
    }
    defaults.extend(services::env(effective, parts.placement));
    let secrets = secret::env(effective, parts.placement)?;
    Ok(overlaid([&defaults, &effective.env, &parts.placement.cdi.env, &secrets]))
}

/// An entry made of parts that cannot hold a NUL.
pub(crate) fn env_var(name: &str, value: &str) -> EnvVar {
    format!("{name}={value}").parse().expect("a checked name and value")
}

/// The user as the document has it.
pub(crate) fn oci_user(user: &ResolvedUser, umask: Option<Umask>) -> User {
    let mut oci = User::default();
    oci.set_uid(user.uid)
        .set_gid(user.gid)
        .set_umask(Some(umask.unwrap_or(Umask::DEFAULT).into()))
        .set_additional_gids(Some(user.additional_gids.clone()));
    oci
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rlimit::RlimitKind;
    use crate::testing;

    fn env_of(request: &str) -> Vec<String> {
        let config: serde_json::Value =
            serde_json::from_slice(&testing::generated(request).config).unwrap();
        serde_json::from_value(config["process"]["env"].clone()).unwrap()
    }

    #[test]
    fn b27_the_environment_has_defaults_and_keeps_what_was_asked() {
        let plain = env_of(r#""Hostname":"web""#);
        assert!(plain[0].starts_with("PATH="));
        assert_eq!(plain[1..], ["container=oci", "HOSTNAME=web", "HOME=/root"]);
        let own = env_of(r#""Env":["HOME=/srv","A=b","HOSTNAME=x","container=mine"]"#);
        assert_eq!(own[1..], ["container=mine", "HOSTNAME=x", "HOME=/srv", "A=b"]);
        assert_eq!(env_of(r#""TTY":true"#)[4], "TERM=xterm");
    }

    /// An image that says which devices there are does not know.
    #[test]
    fn what_devices_need_replaces_what_the_image_says() {
        let mut placement = testing::placement();
        placement.cdi.unknown.insert("netDevices".to_owned());
        placement.cdi.env = vec!["GPUS=0".parse().unwrap(), "HOME=/gpu".parse().unwrap()];
        let effective = testing::effective(r#""Env":["GPUS=void","A=b"]"#);
        let (host, rootfs) = (testing::host(), testing::rootfs());
        let made = crate::generate(&effective, &host, &rootfs, &placement).unwrap();
        let warnings: Vec<_> = made.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["netDevices of a CDI device is left out: it is not known"]);
        let config: serde_json::Value = serde_json::from_slice(&made.config).unwrap();
        let env: Vec<String> = serde_json::from_value(config["process"]["env"].clone()).unwrap();
        for want in ["GPUS=0", "HOME=/gpu", "A=b"] {
            assert!(env.contains(&want.to_owned()), "{want}: {env:?}");
        }
        assert!(!env.contains(&"GPUS=void".to_owned()), "{env:?}");
    }

    #[test]
    fn oom_scores_are_clamped() {
        let get = |request: &str, lowest: Option<i32>| {
            let mut host = testing::host();
            host.lowest_oom_score = lowest;
            let mut warnings = Vec::new();
            (oom_score(&testing::effective(request), &host, &mut warnings), warnings.len())
        };
        assert_eq!(get("", Some(-5)), (None, 0));
        assert_eq!(get(r#""OOMScoreAdjust":-500"#, None), (Some(-500), 0));
        assert_eq!(get(r#""OOMScoreAdjust":-500"#, Some(-5)), (Some(-5), 1));
        assert_eq!(get(r#""OOMScoreAdjust":500"#, Some(-5)), (Some(500), 0));
    }

    #[test]
    fn what_the_host_lacks_is_left_out_unless_asked_for() {
        let mut host = testing::host();
        let kill = CapabilitySet::from_bits(1 << 5);
        host.capabilities = kill;
        assert_eq!(bounding(&testing::effective(""), &host).unwrap(), kill);
        let all = testing::effective(r#""CapAdd":["ALL"]"#);
        assert_eq!(bounding(&all, &host).unwrap(), kill);
        let named = testing::effective(r#""CapAdd":["KILL","BPF"]"#);
        let error = bounding(&named, &host).unwrap_err();
        assert_eq!(error.to_string(), "this host cannot give CAP_BPF");
        let dropped = testing::effective(r#""CapAdd":["BPF"],"CapDrop":["BPF"]"#);
        assert_eq!(bounding(&dropped, &host).unwrap(), kill);
    }

    #[test]
    fn limits_kinds_are_written_as_the_runtime_reads_them() {
        for kind in RlimitKind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert!(serde_json::from_str::<oci_spec::runtime::PosixRlimitType>(&json).is_ok());
        }
    }
}
