//! What files of the host say is done for containers that name it: hooks, and devices of the Container
//! Device Interface.
//!
//! They are the administrator's, and read anew at each start: what was asked about is the directory,
//! or the name of the device.

mod cdi;
mod hooks;
mod trusted;

use tare_specgen::{CdiEdits, Effective, OciHooks, Placement};

pub use trusted::Untrusted;

use super::Error;
use super::blocking::unbounded;

/// All that such files add to one container.
#[derive(Debug, Default)]
pub(super) struct OfHost {
    cdi: CdiEdits,
    hooks: OciHooks,
}

impl OfHost {
    /// What the files say now.
    ///
    /// # Errors
    ///
    /// [`Error::HostFiles`], [`Error::InvalidSpec`], [`Error::PrecreateHook`].
    pub(super) async fn read(effective: &Effective) -> Result<Self, Error> {
        let request = &effective.request;
        if request.cdi_devices.is_empty() && request.hooks_dirs.is_empty() {
            return Ok(Self::default());
        }
        let effective = effective.clone();
        // Directories may be on a filesystem that never answers.
        unbounded("read hooks", move || {
            Ok(Self { cdi: cdi::of(&effective)?, hooks: hooks::of(&effective)? })
        })
        .await
    }

    pub(super) fn place(self, placement: &mut Placement) {
        (placement.cdi, placement.hooks) = (self.cdi, self.hooks);
    }
}
