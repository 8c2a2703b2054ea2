//! `CreateContainer`.

use tare_spawn::OciRuntime;
use tare_specgen::{
    HealthRequest, IdMapping, NamespaceKind, NamespaceMode, Request, RuntimeName, Ulimit,
};

use super::error::ApiError;
use super::network::{connections, ports};
use super::options::{Options, Values};
use super::resources::resources;
use super::secret::secrets;
use super::storage::{devices, mounts, tmpfs, volumes};
use super::text::{bounded, list, map, number, parsed, text, wrong};
use super::value::SoftAndHard;
use crate::engine::Asked;
use crate::engine::lifecycle::Lifecycle;

/// Options of `CreateContainer`.
pub(crate) fn create(options: Values) -> Result<Asked, ApiError> {
    let mut o = Options::new(options);
    let mut request = request(&mut o)?;
    let mut joins = namespaces(&mut o, &mut request)?;
    joins.extend(network_mode(&mut o, &mut request)?.map(|name| (NamespaceKind::Network, name)));
    let asked = Asked {
        request,
        joins,
        networks: connections(&mut o)?,
        ports: ports(&mut o)?,
        devices: devices(&mut o)?,
        volumes: volumes(&mut o)?,
        lifecycle: lifecycle(&mut o)?,
        mounts: mounts(&mut o)?,
        env_file: o.fd("EnvFile")?,
        mac: text(&mut o, "MAC")?,
        bind_to_caller: o.boolean("BindToCaller")?.unwrap_or_default(),
    };
    o.finish()?;
    asked.request.check().map_err(|error| ApiError::invalid_args(error.to_string()))?;
    Ok(asked)
}

/// What follows its end.
fn lifecycle(o: &mut Options) -> Result<Lifecycle, ApiError> {
    let lifecycle = Lifecycle {
        auto_remove: o.boolean("AutoRemove")?.unwrap_or_default(),
        restart: text(o, "RestartPolicy")?.unwrap_or_default(),
        bound_to: None,
    };
    if lifecycle.is_contradictory() {
        return Err(wrong("AutoRemove", &"what is removed cannot be started again"));
    }
    Ok(lifecycle)
}

/// All that is no other object's business.
fn request(o: &mut Options) -> Result<Request, ApiError> {
    let mut request = Request::default();
    request.command = list(o, "Command")?.unwrap_or_default();
    request.entrypoint = list(o, "Entrypoint")?;
    request.env = list(o, "Env")?.unwrap_or_default();
    request.working_dir = text(o, "WorkingDir")?;
    request.user = text(o, "User")?;
    request.hostname = text(o, "Hostname")?;
    request.labels = map(o, "Labels", str::parse)?;
    request.annotations = map(o, "Annotations", str::parse)?;
    request.hosts = map(o, "Hosts", str::parse)?;
    request.rootfs_access = o.boolean("ReadOnlyRootfs")?.unwrap_or_default().into();
    request.new_privileges = o.boolean("NoNewPrivileges")?.unwrap_or_default().into();
    request.stop_signal = match o.number::<i32>("StopSignal")? {
        Some(number) => Some(parsed("StopSignal", &number.to_string())?),
        None => None,
    };
    request.stop_timeout_usec = o.number("StopTimeoutUSec")?;
    request.health = health(o)?;
    request.dns = match o.strings("DNS")? {
        Some(servers) => servers
            .iter()
            .map(|server| server.parse())
            .collect::<Result<_, std::net::AddrParseError>>()
            .map_err(|error| wrong("DNS", &error))?,
        None => Vec::new(),
    };
    request.dns_search = list(o, "DNSSearch")?.unwrap_or_default();
    request.dns_options = list(o, "DNSOptions")?.unwrap_or_default();
    request.cap_add = list(o, "CapAdd")?.unwrap_or_default();
    request.cap_drop = list(o, "CapDrop")?.unwrap_or_default();
    request.shm_size = number(o, "ShmSize")?;
    request.seccomp = text(o, "Seccomp")?.unwrap_or_default();
    request.apparmor = text(o, "AppArmorProfile")?.unwrap_or_default();
    request.selinux = text(o, "SELinuxLabel")?.unwrap_or_default();
    request.resources = resources(o)?;
    process(o, &mut request)?;
    surroundings(o, &mut request)?;
    Ok(request)
}

/// How it is found out whether it is well.
fn health(o: &mut Options) -> Result<Option<HealthRequest>, ApiError> {
    let Some(mut o) = o.dictionary("Healthcheck")? else { return Ok(None) };
    let mut health = HealthRequest::default();
    health.command = list(&mut o, "Command")?;
    health.interval_usec = o.number("IntervalUSec")?;
    health.timeout_usec = o.number("TimeoutUSec")?;
    health.start_period_usec = o.number("StartPeriodUSec")?;
    health.retries = o.number("Retries")?;
    health.on_failure = text(&mut o, "OnFailure")?.unwrap_or_default();
    o.finish()?;
    Ok(Some(health))
}

/// Which network it is in: in the request, or the container whose it shares, which has to be found.
fn network_mode(o: &mut Options, request: &mut Request) -> Result<Option<String>, ApiError> {
    let Some(mode) = o.string("NetworkMode")? else { return Ok(None) };
    if let Some(name) = mode.strip_prefix("container:") {
        return Ok(Some(name.to_owned()));
    }
    let rule = "must be private, none, host, container:NAME or ns:PATH";
    request.network_mode = mode.parse().map_err(|_| wrong("NetworkMode", &rule))?;
    Ok(None)
}

/// What the container's process is.
fn process(o: &mut Options, request: &mut Request) -> Result<(), ApiError> {
    request.terminal = o.boolean("TTY")?.unwrap_or_default().into();
    request.stdin = o.boolean("OpenStdin")?.unwrap_or_default().into();
    request.group_add = list(o, "GroupAdd")?.unwrap_or_default();
    let umask = o.number::<u32>("Umask")?;
    request.umask = umask.map(|mask| bounded("Umask", mask)).transpose()?;
    let score = o.number::<i32>("OOMScoreAdjust")?;
    request.oom_score_adjust = score.map(|score| bounded("OOMScoreAdjust", score)).transpose()?;
    request.ulimits = ulimits(o)?;
    request.passwd_entry = match o.boolean("PasswdEntry")? {
        Some(wanted) => wanted.into(),
        None => request.passwd_entry,
    };
    request.systemd = text(o, "Systemd")?.unwrap_or_default();
    request.privileged = o.boolean("Privileged")?.unwrap_or_default().into();
    request.spec_patch = text(o, "SpecPatch")?;
    request.init = o.boolean("Init")?.unwrap_or_default().into();
    request.runtime = runtime(o)?;
    request.cgroup_parent = text(o, "CgroupParent")?;
    request.log_driver = text(o, "LogDriver")?;
    request.secrets = secrets(o)?;
    Ok(())
}

/// Those that there is a way to call.
fn runtime(o: &mut Options) -> Result<Option<RuntimeName>, ApiError> {
    let name: Option<RuntimeName> = text(o, "Runtime")?;
    match name {
        Some(name) if OciRuntime::named(name.as_str()).is_none() => {
            Err(wrong("Runtime", &"must be crun or runc"))
        }
        known => Ok(known),
    }
}

/// What is around the process: settings of its namespaces, and files.
fn surroundings(o: &mut Options, request: &mut Request) -> Result<(), ApiError> {
    request.sysctls = map(o, "Sysctls", str::parse)?;
    request.device_cgroup_rules = list(o, "DeviceCgroupRules")?.unwrap_or_default();
    request.cdi_devices = list(o, "CDIDevices")?.unwrap_or_default();
    request.hooks_dirs = list(o, "HooksDirs")?.unwrap_or_default();
    request.mounts = tmpfs(o)?;
    request.timezone = text(o, "Timezone")?;
    request.base_hosts = text(o, "BaseHosts")?.unwrap_or_default();
    request.resolv_conf = text(o, "ResolvConf")?.unwrap_or_default();
    request.hosts_file = text(o, "HostsFile")?.unwrap_or_default();
    request.hostname_file = text(o, "HostnameFile")?.unwrap_or_default();
    request.read_only_tmpfs = match o.boolean("ReadOnlyTmpfs")? {
        Some(wanted) => wanted.into(),
        None => request.read_only_tmpfs,
    };
    Ok(())
}

/// Its namespaces but that of the network: in the request, and the containers whose it shares, which
/// have to be found.
fn namespaces(
    o: &mut Options,
    request: &mut Request,
) -> Result<Vec<(NamespaceKind, String)>, ApiError> {
    let own = &mut request.namespaces;
    let mut joins = Vec::new();
    for (kind, key, mode) in [
        (NamespaceKind::Pid, "PIDMode", &mut own.pid),
        (NamespaceKind::Ipc, "IPCMode", &mut own.ipc),
        (NamespaceKind::Uts, "UTSMode", &mut own.uts),
        (NamespaceKind::Cgroup, "CgroupMode", &mut own.cgroup),
    ] {
        match o.string(key)? {
            None => {}
            Some(text) => match text.strip_prefix("container:") {
                Some(name) => joins.push((kind, name.to_owned())),
                None => *mode = namespace_mode(key, &text)?,
            },
        }
    }
    users(o, request)?;
    clocks(o, request)?;
    Ok(joins)
}

/// Its clocks: the host's, or its own and what they are ahead of those. Runtimes do not get into those of
/// others, since the shipped unit may not set the clock.
fn clocks(o: &mut Options, request: &mut Request) -> Result<(), ApiError> {
    request.namespaces.time = match o.string("TimeMode")?.as_deref() {
        None | Some("host") => NamespaceMode::Host,
        Some("private") => NamespaceMode::Private,
        Some(_) => return Err(wrong("TimeMode", &"must be private or host")),
    };
    let Some(mut ahead) = o.dictionary("TimeOffsets")? else { return Ok(()) };
    let offsets = &mut request.time_offsets;
    offsets.monotonic = ahead.number("Monotonic")?.unwrap_or_default();
    offsets.boottime = ahead.number("Boottime")?.unwrap_or_default();
    ahead.finish()
}

/// Its users: the host's, or those of a namespace of its own.
fn users(o: &mut Options, request: &mut Request) -> Result<(), ApiError> {
    request.namespaces.user = match o.string("UserNamespace")?.as_deref() {
        None | Some("host") => NamespaceMode::Host,
        Some("private") => NamespaceMode::Private,
        Some(_) => return Err(wrong("UserNamespace", &"must be private or host")),
    };
    request.uid_map = id_map(o, "UIDMap")?;
    request.gid_map = id_map(o, "GIDMap")?;
    Ok(())
}

fn id_map(o: &mut Options, key: &'static str) -> Result<Vec<IdMapping>, ApiError> {
    let map = |ids| IdMapping::try_from(ids).map_err(|error| wrong(key, &error));
    o.ids(key)?.unwrap_or_default().into_iter().map(map).collect()
}

fn namespace_mode(key: &'static str, text: &str) -> Result<NamespaceMode, ApiError> {
    text.parse().map_err(|_| wrong(key, &"must be private, host, container:NAME or ns:PATH"))
}

fn ulimits(o: &mut Options) -> Result<Vec<Ulimit>, ApiError> {
    let parse = |(kind, soft, hard): SoftAndHard| {
        let kind = parsed("Ulimits", &kind)?;
        Ulimit::new(kind, soft, hard).map_err(|error| wrong("Ulimits", &error))
    };
    o.limits("Ulimits")?.unwrap_or_default().into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::value::Value;
    use tare_specgen::NetworkMode;

    fn texts(texts: &[&str]) -> Value {
        Value::List(texts.iter().map(|text| Value::Text((*text).into())).collect())
    }

    /// A list with one tuple in it.
    fn tuple<const N: usize>(values: [Value; N]) -> Value {
        Value::List(vec![Value::Tuple(values.into())])
    }

    fn values(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Values {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    #[test]
    fn a_wrong_option_names_itself() {
        let far_ahead = i128::from(u64::MAX).into();
        let far_ahead = Value::Map(BTreeMap::from([("Monotonic".into(), far_ahead)]));
        for (key, value) in [
            ("Env", texts(&["NOVALUE"])),
            ("User", "a:b:c".into()),
            ("Hostname", "a b".into()),
            ("WorkingDir", "relative".into()),
            ("StopSignal", 99.into()),
            ("CapAdd", texts(&["CAP_NONSENSE"])),
            ("NetworkMode", "nonsense".into()),
            ("Seccomp", "nonsense".into()),
            ("AppArmorProfile", "a b".into()),
            ("SELinuxLabel", "spc_t".into()),
            ("Memory", 1.into()),
            ("MemorySwap", 1_048_576.into()),
            ("CPUWeight", 0.into()),
            ("CPUQuotaPerSecUSec", 1.into()),
            ("CPUSet", "all".into()),
            ("PidsMax", 0.into()),
            ("IOReadBandwidth", tuple(["/dev/sda".into(), 1.into()])),
            ("HugepageLimits", tuple(["2M".into(), 1.into()])),
            ("GroupAdd", texts(&["a b"])),
            ("Umask", 512.into()),
            ("OOMScoreAdjust", (-1001).into()),
            ("Ulimits", tuple(["nofile".into(), 2.into(), 1.into()])),
            ("Systemd", "maybe".into()),
            ("PIDMode", "ns:proc/1/ns/pid".into()),
            ("UTSMode", "web".into()),
            ("CgroupMode", "ns:".into()),
            ("TimeMode", "container:web".into()),
            ("TimeOffsets", far_ahead),
            ("NetworkMode", "ns:proc/1/ns/net".into()),
            ("IPCMode", "none".into()),
            ("DeviceCgroupRules", texts(&["c 1:3"])),
            ("ReadOnlyTmpfs", Value::Bool(false)),
            ("UserNamespace", "container:web".into()),
            ("UserNamespace", "ns:/proc/1/ns/user".into()),
            ("UserNamespace", "auto".into()),
            ("UIDMap", tuple([0.into(), 100_000.into(), 0.into()])),
            ("DNS", texts(&["nonsense"])),
            ("SpecPatch", r#"{"root": null}"#.into()),
            ("Command", texts(&["a\0b"])),
        ] {
            let error = create(values([(key, value)])).unwrap_err();
            assert_eq!(error.name(), "org.freedesktop.DBus.Error.InvalidArgs", "{key}");
            assert!(error.message().contains(key), "{key}: {error:?}");
        }
    }

    #[test]
    fn no_options_are_the_safe_defaults() {
        let request = create(Values::new()).unwrap().request;
        assert_eq!(request.network_mode, NetworkMode::Private);
        assert_eq!(request, Request::default());
    }

    #[test]
    fn a_network_may_be_that_of_another() {
        let mode = |text: &str| create(values([("NetworkMode", text.into())]));
        let shared = mode("container:web").unwrap();
        assert_eq!(shared.joins, [(NamespaceKind::Network, "web".to_owned())]);
        let path = mode("ns:/run/netns/x").unwrap();
        let want = NetworkMode::Path("/run/netns/x".parse().unwrap());
        assert_eq!((path.joins, path.request.network_mode), (Vec::new(), want));
        for text in ["", "web", "ns:", "ns:run/netns/x", "ns:/run/../x", "Host"] {
            assert!(mode(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn other_namespaces_may_be_those_of_others_too() {
        for (kind, key) in [
            (NamespaceKind::Pid, "PIDMode"),
            (NamespaceKind::Ipc, "IPCMode"),
            (NamespaceKind::Uts, "UTSMode"),
            (NamespaceKind::Cgroup, "CgroupMode"),
        ] {
            let mode = |text: &str| create(values([(key, text.into())])).unwrap();
            let shared = mode("container:web");
            assert_eq!(shared.joins, [(kind, "web".to_owned())]);
            assert_eq!(shared.request, Request::default(), "who that is has to be found");
            let path = mode("ns:/run/mine");
            let paths: Vec<_> = path.request.namespace_paths().collect();
            assert_eq!(paths, [(kind, &"/run/mine".parse().unwrap())]);
            assert!(path.joins.is_empty());
        }
    }

    #[test]
    fn clocks_are_ahead_by_seconds() {
        let ahead = |key: &str| Value::Map(BTreeMap::from([(key.into(), (-5).into())]));
        let read = |key: &str| {
            let own = ("TimeMode", "private".into());
            create(values([own, ("TimeOffsets", ahead(key))])).map(|it| it.request.time_offsets)
        };
        assert_eq!(read("Monotonic").unwrap().monotonic, -5);
        assert_eq!(read("Boottime").unwrap().boottime, -5);
        assert_eq!(read("Realtime").unwrap_err().short_name(), "UnknownOption");
    }

    #[test]
    fn ids_are_those_of_a_namespace_of_its_own() {
        let own = |more: Vec<(&'static str, Value)>| {
            create(values([("UserNamespace", "private".into())].into_iter().chain(more)))
        };
        let ids = |first: i128| tuple([0.into(), first.into(), 10.into()]);
        let request = own(vec![("UIDMap", ids(100_000)), ("GIDMap", ids(200_000))]);
        let stored = serde_json::to_value(request.unwrap().request).unwrap();
        assert_eq!(stored["Namespaces"], serde_json::json!({"UserNamespace": "private"}));
        let maps = serde_json::json!([[[0, 100_000, 10]], [[0, 200_000, 10]]]);
        assert_eq!(serde_json::json!([stored["UIDMap"], stored["GIDMap"]]), maps);
        for wrong in [
            vec![("GIDMap", ids(100_000))],
            vec![("UIDMap", tuple([1.into(), 100_000.into(), 9.into()]))],
            vec![("UserNamespace", "host".into()), ("UIDMap", ids(100_000))],
        ] {
            let error = own(wrong).unwrap_err();
            assert_eq!(error.short_name(), "InvalidArgs", "{error:?}");
        }
        let error = own(vec![("UIDMap", tuple([0.into(), (-1).into(), 9.into()]))]).unwrap_err();
        assert_eq!(error.short_name(), "OptionType", "{error:?}");
    }

    #[test]
    fn limits_and_profiles_arrive() {
        let request = create(values([
            ("Memory", 16_777_216.into()),
            ("MemorySwap", i128::from(u64::MAX).into()),
            ("CPUQuotaPerSecUSec", 500_000.into()),
            ("PidsMax", 100.into()),
            ("IOWeight", 50.into()),
            ("IOReadBandwidth", tuple(["8:0".into(), 1_000_000.into()])),
            ("AppArmorProfile", "unconfined".into()),
            ("SELinuxLabel", "::spc_t".into()),
        ]))
        .unwrap()
        .request;
        let stored = serde_json::to_value(&request.resources).unwrap();
        let want = serde_json::json!({
            "Memory": 16_777_216, "MemorySwap": u64::MAX, "CPUQuotaPerSecUSec": 500_000,
            "PidsMax": 100, "IOWeight": 50, "IOReadBandwidth": {"8:0": 1_000_000},
        });
        assert_eq!(stored, want);
        assert_eq!(request.apparmor, tare_specgen::AppArmor::Unconfined);
        assert_eq!(request.selinux.to_string(), "::spc_t");
    }

    #[test]
    fn flat_options_arrive() {
        let request = create(values([
            ("GroupAdd", texts(&["video", "7"])),
            ("Umask", 63.into()),
            ("OOMScoreAdjust", 5.into()),
            ("Ulimits", tuple(["nofile".into(), 1.into(), 2.into()])),
            ("Systemd", "off".into()),
            ("PIDMode", "host".into()),
            ("DeviceCgroupRules", texts(&["c 1:3 r"])),
            ("TTY", Value::Bool(true)),
            ("OpenStdin", Value::Bool(true)),
        ]))
        .unwrap()
        .request;
        let stored = serde_json::to_value(&request).unwrap();
        for (key, want) in [
            ("GroupAdd", serde_json::json!(["video", "7"])),
            ("Umask", serde_json::json!(63)),
            ("TTY", serde_json::json!(true)),
            ("OpenStdin", serde_json::json!(true)),
            ("OOMScoreAdjust", serde_json::json!(5)),
            ("Ulimits", serde_json::json!([["RLIMIT_NOFILE", 1, 2]])),
            ("Systemd", serde_json::json!("off")),
            ("Namespaces", serde_json::json!({"PIDMode": "host"})),
            ("DeviceCgroupRules", serde_json::json!(["c 1:3 r"])),
        ] {
            assert_eq!(stored[key], want, "{key}");
        }
    }
}
