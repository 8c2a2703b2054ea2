//! What a network is made of on the host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{InterfaceName, InvalidNetwork};

/// Number of a VLAN: 1 to 4094 (IEEE 802.1Q keeps 0 and 4095).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl VlanId {
    /// The VLAN of that number.
    ///
    /// # Errors
    ///
    /// [`InvalidNetwork::Vlan`].
    pub fn new(number: u16) -> Result<Self, InvalidNetwork> {
        if (1..=4094).contains(&number) { Ok(Self(number)) } else { Err(InvalidNetwork::Vlan) }
    }

    /// Its number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = InvalidNetwork;

    fn try_from(number: u16) -> Result<Self, Self::Error> {
        Self::new(number)
    }
}

impl From<VlanId> for u16 {
    fn from(vlan: VlanId) -> Self {
        vlan.0
    }
}

/// Whom the interfaces on one parent reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Each other, and what is behind the parent; never the host itself.
    #[default]
    Bridge,
    /// Only what is behind the parent.
    Private,
    /// Each other by way of a switch that sends back.
    Vepa,
    /// There is only one, and it has the parent to itself.
    Passthru,
}

impl MacvlanMode {
    pub(crate) const ALL: [Self; 4] = [Self::Bridge, Self::Private, Self::Vepa, Self::Passthru];

    /// Its name, as ip-link(8) has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Passthru => "passthru",
        }
    }
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MacvlanMode {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |mode: &Self| mode.as_str() == text;
        Self::ALL.into_iter().find(named).ok_or(InvalidNetwork::Mode)
    }
}

/// What a network is made of on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge on the host, which is the containers' gateway.
    Bridge {
        /// Its name.
        interface: InterfaceName,
        /// The VLAN the containers are in; the bridge then keeps VLANs apart.
        #[serde(default)]
        vlan: Option<VlanId>,
    },
    /// Interfaces with addresses of their own on one of the host's; its network is theirs.
    Macvlan {
        /// The host's interface.
        parent: InterfaceName,
        /// Whom they reach.
        #[serde(default)]
        mode: MacvlanMode,
    },
}
