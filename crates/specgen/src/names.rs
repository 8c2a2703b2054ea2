//! Names that end up in `hosts`, `resolv.conf` and `hostname`: one line, one word, by type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{InvalidText, Problem, check_bytes, text_type};

/// Longest hostname in bytes: the kernel's `__NEW_UTS_LEN`.
pub const MAX_HOSTNAME: usize = 64;

/// Longest domain name in bytes, dots included (RFC 1035, 2.3.4).
pub const MAX_DOMAIN: usize = 253;

/// Longest resolver option in bytes; the longest that glibc knows has 22.
pub const MAX_DNS_OPTION: usize = 64;

text_type! {
    /// Name of a machine: 1 to [`MAX_HOSTNAME`] bytes of `[A-Za-z0-9_-]` in parts separated by
    /// single dots, no part starting or ending with `-`.
    ///
    /// See hostname(7); `_` is not in RFC 1123 but in use.
    Hostname, "hostname", check_hostname
}

fn check_hostname(text: &str) -> Result<(), Problem> {
    check_bytes(text, MAX_HOSTNAME, |_, byte| is_name_byte(byte))?;
    let good = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    if text.split('.').all(good) {
        return Ok(());
    }
    Err(Problem::Form("has an empty part, or one that starts or ends with \"-\""))
}

text_type! {
    /// Name in a hosts file or a search list: 1 to [`MAX_DOMAIN`] bytes of `[A-Za-z0-9_.-]`,
    /// starting with a letter, a digit or `_`.
    ///
    /// Wider than RFC 1123, so that every container name is one.
    DomainName, "domain name", check_domain
}

fn check_domain(text: &str) -> Result<(), Problem> {
    check_bytes(text, MAX_DOMAIN, |at, byte| {
        is_name_byte(byte) && (at > 0 || !matches!(byte, b'.' | b'-'))
    })
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

impl From<&Hostname> for DomainName {
    fn from(hostname: &Hostname) -> Self {
        Self(hostname.as_str().to_owned())
    }
}

text_type! {
    /// One word of a resolver's `options` line: 1 to [`MAX_DNS_OPTION`] bytes of
    /// `[A-Za-z0-9_:.-]`, as in `ndots:5` or `trust-ad`.
    ///
    /// See resolv.conf(5).
    DnsOption, "resolver option", |text| {
        check_bytes(text, MAX_DNS_OPTION, |_, byte| is_name_byte(byte) || byte == b':')
    }
}

/// One entry of a search list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SearchDomain {
    /// Names are also tried below this one.
    Name(DomainName),
    /// `.`: the search list of the host is not wanted.
    Root,
}

impl FromStr for SearchDomain {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "." => Ok(Self::Root),
            name => name.parse().map(Self::Name),
        }
    }
}

impl TryFrom<String> for SearchDomain {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SearchDomain> for String {
    fn from(domain: SearchDomain) -> Self {
        domain.to_string()
    }
}

impl fmt::Display for SearchDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name(name) => name.as_str(),
            Self::Root => ".",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::HostsAddress;
    use proptest::prelude::*;

    #[test]
    fn hostnames() {
        let cases = [
            ("id", "0123456789ab", true),
            ("dotted", "web.example.org", true),
            ("longest", &"a".repeat(MAX_HOSTNAME), true),
            ("one too long", &"a".repeat(MAX_HOSTNAME + 1), false),
            ("empty", "", false),
            ("a second line of hosts", "x\n6.6.6.6 bank", false),
            ("option-like", "-x", false),
            ("ends with a dot", "web.", false),
            ("two dots", "a..b", false),
            ("not ASCII", "caf\u{e9}", false),
        ];
        for (about, input, good) in cases {
            assert_eq!(input.parse::<Hostname>().is_ok(), good, "{about}");
        }
    }

    #[test]
    fn domains_and_options() {
        for name in ["web_1", "web-", "a.b.", "_srv"] {
            assert!(name.parse::<DomainName>().is_ok(), "{name}");
        }
        for name in ["", ".", "-a", "a b", "a\tb", "a\n", "a#b"] {
            assert!(name.parse::<DomainName>().is_err(), "{name:?}");
        }
        for (option, good) in [("ndots:5", true), ("trust-ad", true), ("a b", false), ("", false)] {
            assert_eq!(option.parse::<DnsOption>().is_ok(), good, "{option:?}");
        }
        // Each ends a line, or a word, or a string for somebody; on the bus there is no NUL.
        for end in ['\n', '\r', '\0', '\u{b}', '\u{85}', '\u{2028}'] {
            for text in [format!("a{end}"), format!("{end}a"), format!("a{end}nameserver")] {
                assert!(text.parse::<Hostname>().is_err(), "{text:?}");
                assert!(text.parse::<DomainName>().is_err(), "{text:?}");
                assert!(text.parse::<SearchDomain>().is_err(), "{text:?}");
                assert!(text.parse::<DnsOption>().is_err(), "{text:?}");
                assert!(text.parse::<HostsAddress>().is_err(), "{text:?}");
            }
        }
        assert_eq!(".".parse(), Ok(SearchDomain::Root));
        assert!("..".parse::<SearchDomain>().is_err());
    }

    proptest! {
        #[test]
        fn every_name_is_one_word(text in any::<String>()) {
            let accepted = [
                text.parse::<Hostname>().is_ok(),
                text.parse::<DomainName>().is_ok(),
                text.parse::<DnsOption>().is_ok(),
                text.parse::<SearchDomain>().is_ok(),
            ];
            if accepted.contains(&true) {
                prop_assert_eq!(text.split_whitespace().collect::<Vec<_>>(), vec![text.as_str()]);
            }
        }

        #[test]
        fn every_hostname_is_a_domain_name(text in "[a-z0-9_.-]{1,70}") {
            if let Ok(hostname) = text.parse::<Hostname>() {
                prop_assert_eq!(text.parse(), Ok(DomainName::from(&hostname)));
            }
        }
    }
}
