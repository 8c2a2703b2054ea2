//! The container's first process: environment, user, capabilities, limits.

use oci_spec::runtime::User;

use crate::apparmor;
use crate::capability::CapabilitySet;
use crate::document::{Capabilities, Process};
use crate::effective::{Effective, overlaid};
use crate::error::Error;
use crate::facts::HostFacts;
use crate::names::Hostname;
use crate::rlimit;
use crate::text::{Argument, EnvVar};
use crate::user::ResolvedUser;
use crate::warning::Warning;

/// Rights that new files do not get, as in podman.
const UMASK: u32 = 0o022;

/// Where programs are looked for if nobody says where.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Value of `container=`, by which systemd and others know that they are in one.
///
/// "oci" is the word for any OCI engine in systemd's container interface; the name of an engine
/// that programs have not heard of would tell them less.
const CONTAINER: &str = "oci";

/// The `process` part of the document.
pub(crate) fn process<'a>(
    effective: &'a Effective,
    host: &HostFacts,
    user: &ResolvedUser,
    hostname: &Hostname,
    bounding: CapabilitySet,
    warnings: &mut Vec<Warning>,
) -> Result<Process<'a>, Error> {
    if effective.argv.is_empty() {
        return Err(Error::NoCommand);
    }
    let limits = rlimit::limits(&effective.ulimits, &host.hard_limits, warnings)?;
    Ok(Process {
        terminal: false,
        user: oci_user(user),
        args: effective.argv.iter().map(Argument::as_str).collect(),
        env: env(&effective.env, hostname, &user.home),
        cwd: effective.working_dir.as_str(),
        capabilities: Capabilities::new(bounding, user.uid),
        rlimits: limits.into_iter().map(Into::into).collect(),
        no_new_privileges: effective.new_privileges.into(),
        apparmor_profile: apparmor::profile(&effective.apparmor, host)?,
    })
}

/// The capabilities that the container may have at most.
pub(crate) fn bounding(effective: &Effective, host: &HostFacts) -> Result<CapabilitySet, Error> {
    let missing = effective.required_capabilities - host.capabilities;
    if missing == CapabilitySet::EMPTY {
        return Ok(effective.capabilities & host.capabilities);
    }
    Err(Error::Capabilities { missing })
}

/// The environment: what everybody gets, under what was asked for.
fn env(asked: &[EnvVar], hostname: &Hostname, home: &str) -> Vec<EnvVar> {
    let defaults = [
        env_var("PATH", PATH),
        env_var("container", CONTAINER),
        env_var("HOSTNAME", hostname.as_str()),
        env_var("HOME", home),
    ];
    overlaid([&defaults, asked])
}

/// An entry made of parts that cannot hold a NUL.
pub(crate) fn env_var(name: &str, value: &str) -> EnvVar {
    format!("{name}={value}").parse().expect("a checked name and value")
}

/// The user as the document has it.
pub(crate) fn oci_user(user: &ResolvedUser) -> User {
    let mut oci = User::default();
    oci.set_uid(user.uid)
        .set_gid(user.gid)
        .set_umask(Some(UMASK))
        .set_additional_gids(Some(user.additional_gids.clone()));
    oci
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rlimit::RlimitKind;
    use crate::testing;

    #[test]
    fn the_environment_has_defaults_and_keeps_what_was_asked() {
        let hostname = "web".parse().unwrap();
        let asked = |list: &[&str]| -> Vec<EnvVar> {
            list.iter().map(|entry| entry.parse().unwrap()).collect()
        };
        let texts = |env: Vec<EnvVar>| -> Vec<String> {
            env.iter().skip(1).map(ToString::to_string).collect()
        };
        let plain = env(&[], &hostname, "/root");
        assert_eq!(plain[0].name(), "PATH");
        assert_eq!(texts(plain), ["container=oci", "HOSTNAME=web", "HOME=/root"]);
        let own =
            env(&asked(&["HOME=/srv", "A=b", "HOSTNAME=x", "container=mine"]), &hostname, "/");
        assert_eq!(texts(own), ["container=mine", "HOSTNAME=x", "HOME=/srv", "A=b"]);
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
