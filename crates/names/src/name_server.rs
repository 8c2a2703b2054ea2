//! Answering the names of networks, in this process or in another.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Error, Foreign, Host};

/// Answers the names of networks: [`Local`](crate::Local) in this process, [`Remote`](crate::Remote)
/// in a `tare-names`.
///
/// The first four are what a [`Directory`](crate::Directory) has; none of them waits.
pub trait NameServer: fmt::Debug + Send + Sync {
    /// A network is this from now on; who is on it stays.
    fn set_network(&self, network: &str, subnets: Vec<IpNet>, foreign: Foreign);

    /// Forgets a network, who is on it, and where it was asked.
    fn remove_network(&self, network: &str);

    /// From now on the host of that key is this, and on these networks, as far as they are known,
    /// and no others.
    fn set_host(&self, key: &str, places: Vec<(String, Host)>);

    /// Answers whoever asks on a network at these addresses of its interface. Where that is done
    /// already, nothing changes.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`]; [`Error::is_busy`] if somebody else answers there. [`Error::Start`].
    fn serve(&self, network: &str, interface: &str, addresses: &[IpAddr]) -> Result<(), Error>;

    /// All that was known before this process has been said: from now on what is not is forgotten.
    fn begin(&self);

    /// Answers nothing any more, for good.
    fn stop(&self);
}
