//! Who answers the names of containers: `tare-names`, or the daemon itself.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tare_names::{Error, Local, NameServer, Remote};

use crate::bus::Bus;
use crate::config::Helper;

/// All names of containers are below it, too. It is in the `search` of their `resolv.conf`, so that
/// no name of a container is asked elsewhere first. `internal` is nobody's on the Internet.
pub(crate) const DOMAIN: &str = "tare.internal";

/// The socket of `tare-names` in the run directory.
const SOCKET: &str = "names.sock";

/// Where the host's resolvers are. What answers asks them from the host, so a stub resolver on
/// loopback is as good as any.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The one that the settings say; where they leave it open, `tare-names` for the daemon on the
/// system bus if it is there, and the daemon itself for any other, as it is with who starts
/// programs.
///
/// # Errors
///
/// [`Error::Start`].
pub fn choose(setting: &Helper, bus: &Bus, run_dir: &Path) -> Result<Arc<dyn NameServer>, Error> {
    let usual = run_dir.join(SOCKET);
    let is_there = usual.exists();
    match decide(setting, bus, is_there.then_some(usual)) {
        Some(socket) => Ok(Arc::new(Remote::start(socket, DOMAIN)?)),
        None => Ok(Arc::new(local())),
    }
}

/// The daemon itself.
pub(crate) fn local() -> Local {
    Local::new(DOMAIN, PathBuf::from(RESOLV_CONF))
}

/// Whether containers can ask somebody there.
pub(crate) fn is_server(address: IpAddr) -> bool {
    let nobody = match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let address = address.to_canonical();
    !(nobody || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// The socket to be used, if one is.
fn decide(setting: &Helper, bus: &Bus, there: Option<PathBuf>) -> Option<PathBuf> {
    match setting {
        Helper::Socket(path) => Some(path.clone()),
        Helper::Auto if *bus == Bus::System => there,
        Helper::Auto | Helper::Local => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Helper::{Auto, Socket};

    #[test]
    fn who_is_not_installed_needs_nothing_that_is() {
        let (usual, other) = (PathBuf::from("/run/names.sock"), PathBuf::from("/run/other.sock"));
        for (setting, bus, there, want) in [
            (Auto, Bus::System, Some(&usual), Some(&usual)),
            (Auto, Bus::System, None, None),
            (Auto, Bus::Private, Some(&usual), None),
            (Auto, Bus::Session, Some(&usual), None),
            (Helper::Local, Bus::System, Some(&usual), None),
            (Socket(other.clone()), Bus::Private, None, Some(&other)),
            (Socket(other.clone()), Bus::System, Some(&usual), Some(&other)),
        ] {
            let choice = decide(&setting, &bus, there.cloned());
            assert_eq!(choice.as_ref(), want, "{setting:?} {bus:?} {there:?}");
        }
    }
}
