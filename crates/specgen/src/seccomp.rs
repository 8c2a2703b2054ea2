//! The seccomp profile: parsed once, resolved for each container.
//!
//! The format is that of the containers project and of docker: rules with conditions on
//! architecture, kernel and capabilities, which resolve to the `linux.seccomp` of the runtime-spec.

use oci_spec::runtime::{
    Arch, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::capability::{Capability, CapabilitySet};
use crate::error::{Cause, Error};
use crate::facts::{Architecture, KernelVersion};
use crate::text::{InvalidText, Problem};

/// Largest profile that is read, in bytes: the usual one has 17,546.
pub const MAX_SECCOMP_PROFILE: usize = 1 << 20;

/// The default profile of the containers project; see `NOTICE`.
const EMBEDDED: &str = include_str!("../data/seccomp.json");

/// A seccomp profile with its rules rendered, ready to be resolved for a container.
#[derive(Clone, Debug)]
pub struct SeccompProfile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Vec<Arch>,
    arch_map: Vec<ArchMapEntry>,
    flags: Vec<LinuxSeccompFilterFlag>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    includes: Conditions,
    excludes: Conditions,
    rendered: Box<RawValue>,
}

#[derive(Clone, Debug)]
struct Conditions {
    arches: Vec<String>,
    capabilities: CapabilitySet,
    min_kernel: Option<KernelVersion>,
}

/// `linux.seccomp` of a config.json.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Filter<'a> {
    default_action: LinuxSeccompAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    architectures: Vec<Arch>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    flags: &'a [LinuxSeccompFilterFlag],
    syscalls: Vec<&'a RawValue>,
}

/// A profile that somebody gave for one container: as text, to be stored, and read.
#[derive(Clone, Debug)]
pub struct SeccompText {
    text: String,
    profile: SeccompProfile,
}

impl SeccompText {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidText> {
        let rule = Problem::Form("is not a profile that can be kept");
        let profile =
            SeccompProfile::parse(text).map_err(|_| InvalidText::new("seccomp profile", rule))?;
        Ok(Self { text: text.to_owned(), profile })
    }

    /// The JSON as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) const fn profile(&self) -> &SeccompProfile {
        &self.profile
    }
}

impl PartialEq for SeccompText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SeccompText {}

impl SeccompProfile {
    /// The profile that comes with this crate: the default one of the containers project.
    pub fn embedded() -> Self {
        Self::parse(EMBEDDED).expect("the embedded profile is tested")
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// [`Error::SeccompProfile`] when it is larger than [`MAX_SECCOMP_PROFILE`], does not parse,
    /// or wants something that this crate cannot keep: a listener, an error by name alone.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_SECCOMP_PROFILE {
            return Err(Error::seccomp(invalid("is larger than 1 MiB")));
        }
        let profile: Profile = serde_json::from_str(text).map_err(Error::seccomp)?;
        profile.check().map_err(Error::seccomp)
    }

    /// The filter for a container with this bounding set.
    pub(crate) fn resolve(
        &self,
        architecture: Architecture,
        kernel: KernelVersion,
        bounding: CapabilitySet,
    ) -> Filter<'_> {
        let syscalls = self
            .rules
            .iter()
            .filter(|rule| rule.applies(architecture, kernel, bounding))
            .map(|rule| &*rule.rendered)
            .collect();
        Filter {
            default_action: self.default_action,
            default_errno_ret: self.default_errno_ret,
            architectures: self.architectures(architecture),
            flags: &self.flags,
            syscalls,
        }
    }

    /// Empty means that the runtime takes the native one alone.
    fn architectures(&self, architecture: Architecture) -> Vec<Arch> {
        let native = seccomp_arch(architecture);
        match self.arch_map.iter().find(|entry| entry.architecture == native) {
            Some(entry) => [&[native], entry.sub_architectures.as_slice()].concat(),
            None => self.architectures.clone(),
        }
    }
}

impl Rule {
    fn applies(
        &self,
        architecture: Architecture,
        kernel: KernelVersion,
        bounding: CapabilitySet,
    ) -> bool {
        let (includes, excludes, name) =
            (&self.includes, &self.excludes, profile_arch(architecture));
        let listed = |arches: &[String]| arches.iter().any(|arch| arch == name);
        (includes.arches.is_empty() || listed(&includes.arches))
            && includes.min_kernel.is_none_or(|min| kernel >= min)
            && bounding.contains_all(includes.capabilities)
            && !listed(&excludes.arches)
            && excludes.min_kernel.is_none_or(|min| kernel < min)
            && !bounding.contains_any(excludes.capabilities)
    }
}

/// The file's form.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    #[serde(default)]
    architectures: Vec<Arch>,
    #[serde(default)]
    arch_map: Vec<ArchMapEntry>,
    #[serde(default)]
    flags: Vec<LinuxSeccompFilterFlag>,
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Vec<ProfileRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMapEntry {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Vec<Arch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileRule {
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: ProfileConditions,
    #[serde(default)]
    excludes: ProfileConditions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileConditions {
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    caps: Vec<String>,
    min_kernel: Option<String>,
}

impl Profile {
    fn check(self) -> Result<SeccompProfile, Cause> {
        check_errno(self.default_errno.as_deref(), self.default_errno_ret)?;
        if self.listener_path.is_some() {
            return Err(invalid("names a listener, which is not supported").into());
        }
        if !self.architectures.is_empty() && !self.arch_map.is_empty() {
            return Err(invalid("has both \"architectures\" and \"archMap\"").into());
        }
        let rules = self.syscalls.into_iter().filter_map(|rule| rule.check().transpose());
        Ok(SeccompProfile {
            default_action: self.default_action,
            default_errno_ret: self.default_errno_ret,
            architectures: self.architectures,
            arch_map: self.arch_map,
            flags: self.flags,
            rules: rules.collect::<Result<_, _>>()?,
        })
    }
}

impl ProfileRule {
    /// Nothing for a rule that can never apply: it needs a capability that is not known.
    fn check(mut self) -> Result<Option<Rule>, Cause> {
        check_errno(self.errno.as_deref(), self.errno_ret)?;
        if self.name.is_some() && !self.names.is_empty() {
            return Err(invalid("has a rule with both \"name\" and \"names\"").into());
        }
        self.names.extend(self.name.take());
        if self.names.is_empty() {
            return Err(invalid("has a rule for no system call").into());
        }
        let wanted = self.includes.caps.len();
        let (includes, known) = self.includes.check()?;
        let (excludes, _) = self.excludes.check()?;
        if known < wanted {
            return Ok(None);
        }
        let mut syscall = LinuxSyscall::default();
        syscall
            .set_names(self.names)
            .set_action(self.action)
            .set_errno_ret(self.errno_ret)
            .set_args(self.args.filter(|args| !args.is_empty()));
        let rendered = serde_json::value::to_raw_value(&syscall)?;
        Ok(Some(Rule { includes, excludes, rendered }))
    }
}

impl ProfileConditions {
    /// The conditions, and how many of the capabilities are known.
    fn check(self) -> Result<(Conditions, usize), InvalidText> {
        let known: Vec<Capability> =
            self.caps.iter().filter_map(|name| name.parse().ok()).collect();
        let min_kernel = self.min_kernel.filter(|text| !text.is_empty());
        let conditions = Conditions {
            arches: self.arches,
            capabilities: known.iter().copied().collect(),
            min_kernel: min_kernel.map(|text| text.parse()).transpose()?,
        };
        Ok((conditions, known.len()))
    }
}

/// Errors are kept by number; a file with the name alone would silently become `EPERM`.
fn check_errno(name: Option<&str>, number: Option<u32>) -> Result<(), InvalidText> {
    match (name, number) {
        (Some(name), None) if !name.is_empty() => {
            Err(invalid("gives an error by name without its number (\"errnoRet\")"))
        }
        _ => Ok(()),
    }
}

const fn invalid(rule: &'static str) -> InvalidText {
    InvalidText::new("it", Problem::Form(rule))
}

const fn seccomp_arch(architecture: Architecture) -> Arch {
    match architecture {
        Architecture::X86_64 => Arch::ScmpArchX86_64,
        Architecture::X86 => Arch::ScmpArchX86,
        Architecture::Aarch64 => Arch::ScmpArchAarch64,
        Architecture::Arm => Arch::ScmpArchArm,
        Architecture::Loongarch64 => Arch::ScmpArchLoongarch64,
        Architecture::Ppc64le => Arch::ScmpArchPpc64le,
        Architecture::Riscv64 => Arch::ScmpArchRiscv64,
        Architecture::S390x => Arch::ScmpArchS390x,
    }
}

/// The name in the conditions of a profile.
const fn profile_arch(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "amd64",
        Architecture::X86 => "x86",
        Architecture::Aarch64 => "arm64",
        Architecture::Arm => "arm",
        Architecture::Loongarch64 => "loongarch64",
        Architecture::Ppc64le => "ppc64le",
        Architecture::Riscv64 => "riscv64",
        Architecture::S390x => "s390x",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 1 };

    fn resolve(profile: &SeccompProfile, capabilities: &[&str]) -> Value {
        let set = capabilities.iter().map(|name| name.parse::<Capability>().unwrap()).collect();
        serde_json::to_value(profile.resolve(Architecture::X86_64, KERNEL, set)).unwrap()
    }

    fn actions(filter: &Value, syscall: &str) -> Vec<String> {
        let rules = filter["syscalls"].as_array().unwrap().iter();
        rules
            .filter(|rule| rule["names"].as_array().unwrap().contains(&json!(syscall)))
            .map(|rule| rule["action"].as_str().unwrap().to_owned())
            .collect()
    }

    fn applies(conditions: &str, architecture: Architecture, capabilities: &[&str]) -> bool {
        let profile = SeccompProfile::parse(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {{"names":["x"],"action":"SCMP_ACT_ALLOW",{conditions}}}]}}"#
        ))
        .unwrap();
        let set = capabilities.iter().map(|name| name.parse::<Capability>().unwrap()).collect();
        !profile.resolve(architecture, KERNEL, set).syscalls.is_empty()
    }

    #[test]
    fn the_embedded_profile_follows_the_capabilities() {
        let profile = SeccompProfile::embedded();
        let plain = resolve(&profile, &["CHOWN"]);
        assert_eq!(plain["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(plain["defaultErrnoRet"], 38);
        let x86 = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        assert_eq!(plain["architectures"], x86);
        assert_eq!(actions(&plain, "read"), ["SCMP_ACT_ALLOW"]);
        assert_eq!(actions(&plain, "chroot"), ["SCMP_ACT_ERRNO"]);
        assert_eq!(actions(&plain, "bpf"), ["SCMP_ACT_ERRNO"]);

        let chroot = resolve(&profile, &["SYS_CHROOT"]);
        assert_eq!(actions(&chroot, "chroot"), ["SCMP_ACT_ALLOW"]);
        let admin = resolve(&profile, &["SYS_ADMIN"]);
        assert_eq!(actions(&admin, "bpf"), ["SCMP_ACT_ALLOW"]);
        let typed: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(plain).unwrap();
        assert!(typed.syscalls().as_ref().unwrap().len() > 15);
    }

    #[test]
    fn conditions() {
        use Architecture::{Aarch64, X86_64};
        let caps = ["CHOWN", "KILL"].as_slice();
        let cases = [
            ("none", r#""includes":{}"#, X86_64, true),
            ("architecture", r#""includes":{"arches":["arm64"]}"#, X86_64, false),
            ("architecture", r#""includes":{"arches":["amd64","arm64"]}"#, Aarch64, true),
            ("not this one", r#""excludes":{"arches":["arm64"]}"#, Aarch64, false),
            ("all capabilities", r#""includes":{"caps":["CAP_CHOWN","CAP_KILL"]}"#, X86_64, true),
            ("one is missing", r#""includes":{"caps":["CAP_CHOWN","CAP_BPF"]}"#, X86_64, false),
            ("one too many", r#""excludes":{"caps":["CAP_BPF","CAP_KILL"]}"#, X86_64, false),
            ("unknown, needed", r#""includes":{"caps":["CAP_NEW"]}"#, X86_64, false),
            ("unknown, unwanted", r#""excludes":{"caps":["CAP_NEW"]}"#, X86_64, true),
            ("old kernel", r#""includes":{"minKernel":"6.2"}"#, X86_64, false),
            ("new kernel", r#""includes":{"minKernel":"4.8"}"#, X86_64, true),
            ("too new", r#""excludes":{"minKernel":"4.8"}"#, X86_64, false),
        ];
        for (about, conditions, architecture, want) in cases {
            assert_eq!(applies(conditions, architecture, caps), want, "{about}: {conditions}");
        }
    }

    #[test]
    fn broken_profiles_are_refused() {
        for wrong in [
            "",
            "{}",
            r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#,
            r#"{"defaultAction":"SCMP_ACT_LOG","architectures":["SCMP_ARCH_Z80"]}"#,
            r#"{"defaultAction":"SCMP_ACT_LOG","listenerPath":"/run/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS"}"#,
            r#"{"defaultAction":"SCMP_ACT_LOG","architectures":["SCMP_ARCH_X86"],
                "archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[{"action":"SCMP_ACT_LOG"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_LOG",
                "syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_LOG"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[
                {"name":"a","action":"SCMP_ACT_LOG","includes":{"minKernel":"new"}}]}"#,
        ] {
            let error = SeccompProfile::parse(wrong).unwrap_err();
            assert!(matches!(error, Error::SeccompProfile { .. }), "{wrong}");
        }
        assert!(SeccompProfile::parse(&" ".repeat(MAX_SECCOMP_PROFILE + 1)).is_err());
    }
}
