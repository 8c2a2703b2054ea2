//! The bus the daemon is called over.

mod private;
#[expect(unsafe_code, reason = "a closure between fork and exec")]
mod sys;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use zbus::Address;
use zbus::address::transport::{Transport, Unix, UnixSocket};
use zbus::connection::Builder;

pub use private::PrivateBus;

/// Which bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The system bus: the installed daemon's.
    System,
    /// The session bus of whoever starts it.
    Session,
    /// A `dbus-daemon` of its own, which ends with it.
    Private,
    /// A bus at this D-Bus address.
    At(String),
}

impl FromStr for Bus {
    type Err = InvalidBus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "system" => Ok(Self::System),
            "session" => Ok(Self::Session),
            "private" => Ok(Self::Private),
            address if address.starts_with("unix:") => Ok(Self::At(address.into())),
            _ => Err(InvalidBus),
        }
    }
}

/// Why a text names no bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bus is system, session, private or unix:path=...")]
pub struct InvalidBus;

impl Bus {
    /// Whether it is a bus with a polkit on it to ask.
    pub fn has_polkit(&self) -> bool {
        matches!(self, Self::System)
    }

    /// The beginning of a connection to it; `private` is the one that was started, if it was.
    pub(crate) fn builder(&self, private: Option<&PrivateBus>) -> Builder<'static> {
        match (self, private) {
            (Self::At(address), _) => match escaped_path(address) {
                Some(path) => Builder::address(at(path)),
                None => Builder::address(address.as_str()),
            },
            (Self::Private, Some(bus)) => Builder::address(at(bus.socket())),
            (Self::Session, _) => Builder::session(),
            (Self::System | Self::Private, _) => Builder::system(),
        }
    }
}

/// The path in an address that has escapes in it, as `dbus-daemon` prints them; zbus would take them
/// for what they stand as.
fn escaped_path(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix("unix:path=").filter(|path| path.contains('%'))?;
    let path = path.split(',').next().unwrap_or_default();
    let bytes = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    Some(OsString::from_vec(bytes).into())
}

fn at(socket: PathBuf) -> Address {
    Address::from(Transport::Unix(Unix::new(UnixSocket::File(socket))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_an_address_are_read() {
        let path = |address: &str| escaped_path(address);
        assert_eq!(path("unix:path=/a%20b/%25,guid=1"), Some("/a b/%".into()));
        assert_eq!(path("unix:path=/a%C3%A4"), Some("/aä".into()));
        for plain in ["unix:path=/run/x", "unix:abstract=%20", "tcp:host=%20"] {
            assert_eq!(path(plain), None, "{plain}");
        }
    }

    #[test]
    fn a_bus_has_one_spelling() {
        for (text, bus) in [
            ("system", Ok(Bus::System)),
            ("session", Ok(Bus::Session)),
            ("private", Ok(Bus::Private)),
            ("unix:path=/run/x", Ok(Bus::At("unix:path=/run/x".into()))),
            ("", Err(InvalidBus)),
            ("System", Err(InvalidBus)),
            ("tcp:host=example", Err(InvalidBus)),
        ] {
            assert_eq!(text.parse(), bus, "{text}");
        }
    }
}
