//! `CreateContainer`.

use tare_specgen::{NetworkMode, Request};

use super::error::ApiError;
use super::options::{Options, Values};
use super::resources::resources;
use super::text::{list, map, number, parsed, text, wrong};

/// Options of `CreateContainer`.
pub(crate) fn create(options: Values) -> Result<Request, ApiError> {
    let mut o = Options::new(options);
    let mut request = Request::default();
    request.command = list(&mut o, "Command")?.unwrap_or_default();
    request.entrypoint = list(&mut o, "Entrypoint")?;
    request.env = list(&mut o, "Env")?.unwrap_or_default();
    request.working_dir = text(&mut o, "WorkingDir")?;
    request.user = text(&mut o, "User")?;
    request.hostname = text(&mut o, "Hostname")?;
    request.labels = map(&mut o, "Labels", str::parse)?;
    request.annotations = map(&mut o, "Annotations", str::parse)?;
    request.hosts = map(&mut o, "Hosts", str::parse)?;
    request.rootfs_access = o.boolean("ReadOnlyRootfs")?.unwrap_or_default().into();
    request.new_privileges = o.boolean("NoNewPrivileges")?.unwrap_or_default().into();
    request.stop_signal = match o.number::<i32>("StopSignal")? {
        Some(number) => Some(parsed("StopSignal", &number.to_string())?),
        None => None,
    };
    request.stop_timeout_usec = o.number("StopTimeoutUSec")?;
    request.network_mode =
        text::<NetworkMode>(&mut o, "NetworkMode")?.unwrap_or(NetworkMode::Private);
    request.dns = match o.strings("DNS")? {
        Some(servers) => servers
            .iter()
            .map(|server| server.parse())
            .collect::<Result<_, std::net::AddrParseError>>()
            .map_err(|error| wrong("DNS", &error))?,
        None => Vec::new(),
    };
    request.dns_search = list(&mut o, "DNSSearch")?.unwrap_or_default();
    request.dns_options = list(&mut o, "DNSOptions")?.unwrap_or_default();
    request.cap_add = list(&mut o, "CapAdd")?.unwrap_or_default();
    request.cap_drop = list(&mut o, "CapDrop")?.unwrap_or_default();
    request.shm_size = number(&mut o, "ShmSize")?;
    request.seccomp = text(&mut o, "Seccomp")?.unwrap_or_default();
    request.apparmor = text(&mut o, "AppArmorProfile")?.unwrap_or_default();
    request.resources = resources(&mut o)?;
    o.finish()?;
    request.check().map_err(|error| ApiError::invalid_args(error.to_string()))?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::value::Value;

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
            ("Memory", 1.into()),
            ("MemorySwap", 1_048_576.into()),
            ("CPUWeight", 0.into()),
            ("CPUQuotaPerSecUSec", 1.into()),
            ("CPUSet", "all".into()),
            ("PidsMax", 0.into()),
            ("IOReadBandwidth", tuple(["/dev/sda".into(), 1.into()])),
            ("HugepageLimits", tuple(["2M".into(), 1.into()])),
            ("DNS", texts(&["nonsense"])),
            ("Command", texts(&["a\0b"])),
        ] {
            let error = create(values([(key, value)])).unwrap_err();
            assert_eq!(error.name(), "org.freedesktop.DBus.Error.InvalidArgs", "{key}");
            assert!(error.message().contains(key), "{key}: {error:?}");
        }
    }

    #[test]
    fn no_options_are_the_safe_defaults() {
        let request = create(Values::new()).unwrap();
        assert_eq!(request.network_mode, NetworkMode::Private);
        assert_eq!(request, Request::default());
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
        ]))
        .unwrap();
        let stored = serde_json::to_value(&request.resources).unwrap();
        let want = serde_json::json!({
            "Memory": 16_777_216, "MemorySwap": u64::MAX, "CPUQuotaPerSecUSec": 500_000,
            "PidsMax": 100, "IOWeight": 50, "IOReadBandwidth": {"8:0": 1_000_000},
        });
        assert_eq!(stored, want);
        assert_eq!(request.apparmor, tare_specgen::AppArmor::Unconfined);
    }
}
