//! AppArmor profiles of containers, as text that nothing else can be hidden in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest text of a profile, in bytes: some ten times that of the one there is.
pub const MAX_PROFILE: usize = 8 << 10;

/// The name of the profile of containers; other instances of a manager append `-` and a tag.
const NAME: &str = "tare-default";
/// How many hex digits a tag has.
const TAG: usize = 6;
/// What follows the name in the text.
const BEGIN: &str = " flags=(attach_disconnected, mediate_deleted) {\n";
const END: &str = "}\n";
/// Rules that allow a whole class of things.
const CLASSES: [&str; 4] = ["network,", "capability,", "file,", "umount,"];

/// What is no name or no text of a profile of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a profile of containers: {0}")]
pub struct InvalidProfile(&'static str);

/// The name of a profile of containers: `tare-default`, or `tare-default-` and six hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileName(String);

impl ProfileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = InvalidProfile;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_tag = |tag: &str| {
            tag.len() == TAG && tag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        match text.strip_prefix(NAME) {
            Some("") => Ok(Self(text.into())),
            Some(rest) if rest.strip_prefix('-').is_some_and(is_tag) => Ok(Self(text.into())),
            _ => Err(InvalidProfile("the name is another's")),
        }
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ProfileName {
    type Error = InvalidProfile;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ProfileName> for String {
    fn from(name: ProfileName) -> Self {
        name.0
    }
}

/// The text of one profile of containers, of at most [`MAX_PROFILE`] bytes of ASCII: a rule on each
/// line, which denies something, or allows a class of things, signals or tracing.
///
/// So it names no other profile than its own, includes no file, and holds no second profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Profile {
    name: ProfileName,
    text: String,
}

impl Profile {
    /// Its name.
    pub fn name(&self) -> &ProfileName {
        &self.name
    }

    /// The text, for `apparmor_parser(8)`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Profile {
    type Error = InvalidProfile;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() > MAX_PROFILE {
            return Err(InvalidProfile("it is too long"));
        }
        let named = text.strip_prefix("profile \"").and_then(|rest| rest.split_once('"'));
        let (name, rest) = named.ok_or(InvalidProfile("it does not begin with its name"))?;
        let name = name.parse()?;
        let rules = rest.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        let rules = rules.ok_or(InvalidProfile("it is not one block with the usual flags"))?;
        if !rules.is_empty() && !rules.ends_with('\n') {
            return Err(InvalidProfile("its last rule has no end"));
        }
        if !rules.lines().all(is_rule) {
            return Err(InvalidProfile("a line is no rule that containers have"));
        }
        Ok(Self { name, text })
    }
}

impl From<Profile> for String {
    fn from(profile: Profile) -> Self {
        profile.text
    }
}

/// Whether a line is one rule, and of a kind that profiles of containers have.
fn is_rule(line: &str) -> bool {
    let Some(rule) = line.strip_prefix("  ") else { return false };
    let known = ["deny ", "signal ", "ptrace "].iter().any(|kind| rule.starts_with(kind));
    let one = rule.strip_suffix(',').is_some_and(is_one);
    one && (known || CLASSES.contains(&rule))
}

/// Whether nothing in a rule ends it, so that another could begin, or begins a block or a comment.
fn is_one(rule: &str) -> bool {
    // The sign that ends what is in brackets or quotes.
    let mut until = None;
    for byte in rule.bytes() {
        until = match (until, byte) {
            (_, b'#' | b'\\' | b'@') => return false,
            (_, byte) if byte != b' ' && !byte.is_ascii_graphic() => return false,
            (Some(end), byte) if byte == end => None,
            // In a pattern is no blank; in a block there is.
            (Some(b'}'), b' ') | (None, b',' | b')' | b'}') => return false,
            (Some(end), _) => Some(end),
            (None, b'(') => Some(b')'),
            (None, b'{') => Some(b'}'),
            (None, b'"') => Some(b'"'),
            (None, _) => None,
        };
    }
    until.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Profile, InvalidProfile> {
        text.to_string().try_into()
    }

    fn with(rules: &str) -> String {
        format!("profile \"tare-default\"{BEGIN}{rules}{END}")
    }

    #[test]
    fn names_are_of_containers() {
        for name in ["tare-default", "tare-default-012abc"] {
            assert_eq!(name.parse::<ProfileName>().unwrap().as_str(), name);
        }
        for name in [
            "",
            "unconfined",
            "docker-default",
            "tare-defaults",
            "tare-default-",
            "tare-default-012ABC",
            "tare-default-012abc7",
            "tare-default-012abc\"",
            ":ns:tare-default",
        ] {
            assert!(name.parse::<ProfileName>().is_err(), "{name}");
        }
    }

    #[test]
    fn rules_of_containers_are_taken() {
        let rules = "  network,\n  capability,\n  file,\n  umount,\n  deny mount,\n  \
                     signal (send, receive) peer=\"tare-default\",\n  \
                     signal (receive) peer=unconfined,\n  \
                     ptrace (trace, tracedby) peer=\"tare-default\",\n  \
                     deny /proc/{[^1-9s]*,s[^ey]*}/** wkl,\n  deny /proc/* wkl,\n";
        let profile = parse(&with(rules)).unwrap();
        assert_eq!(profile.name().as_str(), "tare-default");
        assert_eq!(profile.as_str(), with(rules));
        assert!(parse(&with("")).is_ok());
        let told = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<Profile>(&told).unwrap(), profile);
    }

    #[test]
    fn nothing_else_can_be_in_it() {
        for rule in [
            "network,",
            "  network, capability,",
            "  network",
            "  #include <tunables/global>,",
            "  include \"/etc/x\",",
            "  change_profile -> unconfined,",
            "  /bin/su px -> unconfined,",
            "  file /bin/su px,",
            "  mount,",
            "  userns,",
            "  profile other {,",
            "  deny /x w,} profile \"other\" { file,",
            "  deny /x w, } profile other {file,",
            "  deny {file, },",
            "  deny \"/a\nb\" w,",
            "  deny \"/a w,",
            "  deny /{a w,",
            "  deny /a} w,",
            "  deny @{PROC}/x w,",
            "  deny /a\\,b w,",
            "  deny /\u{e9} w,",
            "  deny /a # w,",
            "  hat x {},",
            "",
        ] {
            assert!(parse(&with(&format!("{rule}\n"))).is_err(), "{rule}");
        }
        assert!(parse(&with("  network,")).is_err(), "no end of its line");
        for text in [
            String::new(),
            with("").replace("tare-default", "docker-default"),
            with("").replace(" mediate_deleted", " complain"),
            format!("abi <abi/4.0>,\n{}", with("")),
            format!("{}{}", with(""), with("")),
            with(&"  network,\n".repeat(MAX_PROFILE)),
        ] {
            assert!(parse(&text).is_err(), "{text:.99}");
        }
    }
}
