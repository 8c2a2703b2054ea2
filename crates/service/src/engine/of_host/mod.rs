//! What files of the host say is done for containers that name it: hooks, devices of the Container Device
//! Interface, and what `/etc/hosts` begins with; and where images are, and who asks for them.
//!
//! They are the administrator's, and read anew each time: what was asked about is the directory, the name of the
//! device, or that of the image.

mod cdi;
mod hooks;
mod registries;
mod trusted;

use std::path::Path;

use tare_specgen::{BaseHosts, CdiEdits, Effective, MAX_HOSTS_FILE, OciHooks, Placement};

pub(super) use registries::{credentials, registries};
pub use trusted::Untrusted;

use super::Error;
use super::blocking::unbounded;

/// All that such files add to one container.
#[derive(Debug, Default)]
pub(super) struct OfHost {
    cdi: CdiEdits,
    hooks: OciHooks,
    base_hosts: Option<Vec<u8>>,
}

impl OfHost {
    /// What the files say now.
    ///
    /// # Errors
    ///
    /// [`Error::HostFiles`], [`Error::InvalidSpec`], [`Error::PrecreateHook`].
    pub(super) async fn read(effective: &Effective) -> Result<Self, Error> {
        let request = &effective.request;
        let base_hosts = matches!(request.base_hosts, BaseHosts::Path(_));
        if request.cdi_devices.is_empty() && request.hooks_dirs.is_empty() && !base_hosts {
            return Ok(Self::default());
        }
        let effective = effective.clone();
        // Directories may be on a filesystem that never answers.
        unbounded("read files of root", move || {
            Ok(Self {
                cdi: cdi::of(&effective)?,
                hooks: hooks::of(&effective)?,
                base_hosts: base_hosts_of(&effective)?,
            })
        })
        .await
    }

    pub(super) fn place(self, placement: &mut Placement) {
        (placement.cdi, placement.hooks) = (self.cdi, self.hooks);
        placement.base_hosts = self.base_hosts;
    }
}

fn base_hosts_of(effective: &Effective) -> Result<Option<Vec<u8>>, Error> {
    let BaseHosts::Path(path) = &effective.request.base_hosts else { return Ok(None) };
    let content = trusted::file(Path::new(path.as_str()), MAX_HOSTS_FILE);
    content.map(Some).map_err(|source| Error::HostFiles { option: "BaseHosts", source })
}
