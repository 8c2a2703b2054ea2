//! `CreateContainer`.

use tare_specgen::{NetworkMode, Request};

use super::error::ApiError;
use super::options::{Options, Values};
use super::text::{list, map, parsed, text, wrong};

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
    request.shm_size = match o.number::<u64>("ShmSize")? {
        Some(bytes) => Some(bytes.try_into().map_err(|error| wrong("ShmSize", &error))?),
        None => None,
    };
    request.seccomp = text(&mut o, "Seccomp")?.unwrap_or_default();
    o.finish()?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::value::Value;

    fn texts(texts: &[&str]) -> Value {
        Value::List(texts.iter().map(|text| Value::Text((*text).into())).collect())
    }

    #[test]
    fn a_wrong_option_names_itself() {
        for (key, value) in [
            ("Env", texts(&["NOVALUE"])),
            ("User", Value::Text("a:b:c".into())),
            ("Hostname", Value::Text("a b".into())),
            ("WorkingDir", Value::Text("relative".into())),
            ("StopSignal", Value::Integer(99)),
            ("CapAdd", texts(&["CAP_NONSENSE"])),
            ("NetworkMode", Value::Text("nonsense".into())),
            ("Seccomp", Value::Text("nonsense".into())),
            ("DNS", texts(&["nonsense"])),
            ("Command", texts(&["a\0b"])),
        ] {
            let error = create(Values::from([(key.to_string(), value)])).unwrap_err();
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
}
