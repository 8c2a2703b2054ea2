//! Hardware addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Hardware address of one Ethernet interface: 48 bits, not all zero, not a group address.
///
/// Written as six two-digit hexadecimal numbers with colons, `02:74:0a:58:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// Bit of the first byte that marks a group (multicast or broadcast) address.
const GROUP: u8 = 0x01;

impl MacAddress {
    /// The address of these six bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidMacAddress`] if it is all zero or a group address: no interface can have it.
    pub fn new(bytes: [u8; 6]) -> Result<Self, InvalidMacAddress> {
        if bytes == [0; 6] || bytes[0] & GROUP != 0 {
            return Err(InvalidMacAddress);
        }
        Ok(Self(bytes))
    }

    /// The locally administered address that belongs to `address`.
    ///
    /// The same address always gives the same hardware address, so that a neighbour's cache stays
    /// right when an address passes to another container. IPv4 addresses never collide (their
    /// four bytes are part of it); IPv6 addresses are hashed to 40 bits.
    pub fn for_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let mut bytes = [0x02, 0x74, 0, 0, 0, 0];
                bytes[2..].copy_from_slice(&v4.octets());
                Self(bytes)
            }
            IpAddr::V6(v6) => {
                let mut bytes = [0x06, 0, 0, 0, 0, 0];
                bytes[1..].copy_from_slice(&fnv1a(&v6.octets()).to_be_bytes()[..5]);
                Self(bytes)
            }
        }
    }

    /// The six bytes in the order they are sent.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

/// The 64-bit FNV-1a hash: fixed for ever, unlike the hashers of std.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The text or the bytes are not the hardware address of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the hardware address of one interface (aa:bb:cc:dd:ee:ff)")]
pub struct InvalidMacAddress;

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = parts.next().and_then(hex_byte).ok_or(InvalidMacAddress)?;
        }
        if parts.next().is_some() { Err(InvalidMacAddress) } else { Self::new(bytes) }
    }
}

/// Exactly two hexadecimal digits; `u8::from_str_radix` alone would also take a sign.
fn hex_byte(text: &str) -> Option<u8> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(text, 16).ok()).flatten()
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidMacAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0[0])?;
        self.0[1..].iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_by_the_documented_grammar() {
        let cases = [
            ("usual", "02:74:0a:58:00:02", true),
            ("capitals", "02:74:0A:58:00:02", true),
            ("group bit", "01:00:5e:00:00:01", false),
            ("broadcast", "ff:ff:ff:ff:ff:ff", false),
            ("zero", "00:00:00:00:00:00", false),
            ("five bytes", "02:74:0a:58:00", false),
            ("seven bytes", "02:74:0a:58:00:02:03", false),
            ("one digit", "2:74:0a:58:00:02", false),
            ("sign", "+2:74:0a:58:00:02", false),
            ("dashes", "02-74-0a-58-00-02", false),
            ("empty", "", false),
        ];
        for (about, input, want) in cases {
            assert_eq!(input.parse::<MacAddress>().is_ok(), want, "{about}: {input:?}");
        }
    }

    #[test]
    fn the_address_for_an_ip_address_never_changes() {
        let cases = [("10.88.0.2", "02:74:0a:58:00:02"), ("fd00::2", "06:c3:c9:5c:9e:b8")];
        for (ip, mac) in cases {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(MacAddress::for_address(ip).to_string(), mac, "{ip}");
        }
    }

    proptest! {
        #[test]
        fn text_form_round_trips(ip in any::<IpAddr>()) {
            let mac = MacAddress::for_address(ip);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            prop_assert_eq!(mac.bytes()[0] & 0x03, 0x02, "locally administered, not a group");
        }

        #[test]
        fn ipv4_addresses_do_not_collide(a in any::<[u8; 4]>(), b in any::<[u8; 4]>()) {
            prop_assume!(a != b);
            prop_assert_ne!(
                MacAddress::for_address(a.into()),
                MacAddress::for_address(b.into())
            );
        }
    }
}
