//! The AppArmor profile that a container's processes are confined by; see apparmor(7).

use std::fmt::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::facts::HostFacts;
use crate::text::{InvalidText, Problem, check_bytes, text_type};

/// Name of the profile that containers get if nobody asks for another, where one manager is alone.
pub const DEFAULT_APPARMOR_PROFILE: &str = "tare-default";

text_type! {
    /// Name of a profile in the kernel: 1 to 256 bytes of visible ASCII but `"`, not starting
    /// with `:`, which is how another namespace of profiles is named.
    AppArmorName, "AppArmor profile", |text| {
        check_bytes(text, 256, |at, byte| byte.is_ascii_graphic() && byte != b'"' && (at > 0 || byte != b':'))
    }
}

impl Default for AppArmorName {
    /// [`DEFAULT_APPARMOR_PROFILE`].
    fn default() -> Self {
        DEFAULT_APPARMOR_PROFILE.parse().expect("it is a name")
    }
}

/// Which profile confines the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum AppArmor {
    /// [`HostFacts::default_apparmor_profile`] where it is loaded, else none.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This one, which must be loaded.
    Named(AppArmorName),
}

impl FromStr for AppArmor {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self::Default),
            "unconfined" => Ok(Self::Unconfined),
            name => name.parse().map(Self::Named),
        }
    }
}

impl TryFrom<String> for AppArmor {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AppArmor> for String {
    fn from(profile: AppArmor) -> Self {
        profile.to_string()
    }
}

impl fmt::Display for AppArmor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Unconfined => "unconfined",
            Self::Named(name) => name.as_str(),
        })
    }
}

/// The `apparmorProfile` of a process, if it is to have one.
///
/// # Errors
/// [`Error::AppArmor`] for a named profile that the kernel does not have.
pub(crate) fn profile<'a>(
    wanted: &'a AppArmor,
    host: &'a HostFacts,
) -> Result<Option<&'a str>, Error> {
    let loaded = |name: &str| match &host.apparmor_profiles {
        Some(profiles) if profiles.contains(name) => Ok(()),
        Some(_) => Err(Problem::Form("is not loaded")),
        None => Err(Problem::Form("cannot be used: the host's kernel does not use AppArmor")),
    };
    match wanted {
        AppArmor::Default => {
            let name = host.default_apparmor_profile.as_str();
            Ok(loaded(name).is_ok().then_some(name))
        }
        // Where there is no AppArmor, nobody has to be freed of it.
        AppArmor::Unconfined => Ok(host.apparmor_profiles.as_ref().map(|_| "unconfined")),
        AppArmor::Named(name) => match loaded(name.as_str()) {
            Ok(()) => Ok(Some(name.as_str())),
            Err(problem) => Err(Error::AppArmor {
                name: name.to_string(),
                source: InvalidText::new("the profile", problem),
            }),
        },
    }
}

/// Text of the default profile under this name, for `apparmor_parser(8)` on its standard input.
///
/// A container may do what its capabilities allow, but not mount, nor write to what of `/proc` and
/// `/sys` is the host's, nor look into processes that are not in a container. It names no file of
/// the host's AppArmor, so that it is the same everywhere.
pub fn apparmor_profile(name: &AppArmorName) -> String {
    let mut text = format!(
        "profile \"{name}\" flags=(attach_disconnected, mediate_deleted) {{\n  \
         network,\n  capability,\n  file,\n  umount,\n  deny mount,\n  \
         signal (send, receive) peer=\"{name}\",\n  \
         ptrace (trace, tracedby, read, readby) peer=\"{name}\",\n"
    );
    for peer in SIGNALLING_PEERS {
        let _ = writeln!(text, "  signal (receive) peer={peer},");
    }
    for path in NOT_WRITTEN {
        let _ = writeln!(text, "  deny {path} wkl,");
    }
    for path in NOT_TOUCHED {
        let _ = writeln!(text, "  deny {path} rwklx,");
    }
    text.push_str("}\n");
    text
}

/// Who may end the processes of a container: the service, and the programs it runs.
const SIGNALLING_PEERS: [&str; 5] = ["unconfined", "tared", "crun", "runc", "conmon"];

/// Files right in `/proc` and directories that are no process; of `/proc/sys` all but `kernel/shm*`,
/// which is the container's own; of `/sys` all but `fs/cgroup`. AppArmor knows no "all but": each
/// pattern says where the name may part from the one that is left out.
const NOT_WRITTEN: [&str; 11] = [
    "/proc/*",
    "/proc/{[^1-9s]*,s[^ey]*}/**",
    "/proc/sys/[^k]**",
    "/proc/sys/k[^e]**",
    "/proc/sys/kernel/{?,??,[^s]**,s[^h]**,sh[^m]**}",
    "/sys/[^f]**",
    "/sys/f[^s]**",
    "/sys/fs/[^c]**",
    "/sys/fs/c[^g]**",
    "/sys/fs/cg[^r]**",
    "/sys/fs/cgr[^o]**",
];

const NOT_TOUCHED: [&str; 5] = [
    "/proc/kcore",
    "/proc/sysrq-trigger",
    "/sys/firmware/**",
    "/sys/devices/virtual/powercap/**",
    "/sys/kernel/security/**",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn profiles_by_host() {
        let with = |profiles: Option<&[&str]>, wanted: &str| {
            let mut host = testing::host();
            host.apparmor_profiles =
                profiles.map(|list| list.iter().map(|name| (*name).to_owned()).collect());
            let wanted = wanted.parse().unwrap();
            profile(&wanted, &host).map(|name| name.map(str::to_owned)).map_err(|e| e.to_string())
        };
        let loaded = Some(["mine", DEFAULT_APPARMOR_PROFILE].as_slice());
        let named = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(with(loaded, "default"), named(DEFAULT_APPARMOR_PROFILE));
        assert_eq!(with(Some(&[]), "default"), Ok(None), "not loaded");
        assert_eq!(with(None, "default"), Ok(None));
        assert_eq!(with(loaded, "unconfined"), named("unconfined"));
        assert_eq!(with(None, "unconfined"), Ok(None));
        assert_eq!(with(loaded, "mine"), named("mine"));
        assert!(with(loaded, "other").unwrap_err().contains("\"other\""));
        assert!(with(None, "mine").unwrap_err().contains("\"mine\""));
        let mut host = testing::host();
        host.default_apparmor_profile = "mine".parse().unwrap();
        host.apparmor_profiles = Some(["mine".to_owned(), DEFAULT_APPARMOR_PROFILE.into()].into());
        assert_eq!(profile(&AppArmor::Default, &host).unwrap(), Some("mine"));
    }

    #[test]
    fn the_default_profile_keeps_to_its_lines() {
        let text = apparmor_profile(&AppArmorName::default());
        let (first, rest) = text.split_once('\n').unwrap();
        let want = r#"profile "tare-default" flags=(attach_disconnected, mediate_deleted) {"#;
        assert_eq!(first, want);
        let rules: Vec<_> = rest.lines().collect();
        let (last, rules) = rules.split_last().unwrap();
        assert_eq!(*last, "}");
        assert!(rules.iter().all(|rule| rule.starts_with("  ") && rule.ends_with(',')));
        assert!(rules.contains(&"  deny mount,") && rules.contains(&"  deny /proc/kcore rwklx,"));
    }

    #[test]
    fn names() {
        for good in ["/usr/bin/man", "a//b", "docker-default", "snap.x.y"] {
            assert!(matches!(good.parse(), Ok(AppArmor::Named(_))), "{good}");
        }
        for bad in ["", "a b", "a\n", ":ns:x", &"a".repeat(257)] {
            assert!(bad.parse::<AppArmor>().is_err(), "{bad:?}");
        }
    }
}
