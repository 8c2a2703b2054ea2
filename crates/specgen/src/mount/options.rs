//! Options of a mount, in the words of mount(8) and podman.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::idmap::MountMap;
use crate::text::{InvalidText, Problem, string_form};

/// One option. Unknown ones are refused: one that is silently dropped is a hole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountOption(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two words of which one holds: `ro` and `rw`, `exec` and `noexec`.
    Flag(Flag, bool),
    Propagation(Propagation),
    /// `rbind` (also what is mounted below) or `bind`.
    Bind {
        recursive: bool,
    },
    /// `z` (shared with others) or `Z` (for this container alone).
    Relabel {
        shared: bool,
    },
    /// `idmap`, or `idmap=uids=..;gids=..`, kept as text.
    IdMap(String),
    /// `rro`: read-only, also what is mounted below.
    RecursiveReadOnly,
    /// `nosymfollow`: symbolic links in it are not followed.
    NoSymFollow,
    /// Access times and the like, handed to the kernel as they are.
    Plain(&'static str),
    /// `size=`, `mode=`, ... of a file system with parameters.
    Parameter(&'static str, String),
    /// `tmpcopyup` and `notmpcopyup`.
    CopyUp(bool),
}

/// A pair of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    ReadOnly,
    NoExec,
    NoSuid,
    NoDev,
}

/// Whether mounts spread to and from the other side; see `mount_namespaces(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Propagation {
    pub(crate) how: Spread,
    pub(crate) recursive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    Private,
    /// From the host into the container.
    Slave,
    /// Both ways.
    Shared,
    Unbindable,
}

impl Propagation {
    pub(crate) const fn as_str(self) -> &'static str {
        match (self.how, self.recursive) {
            (Spread::Private, false) => "private",
            (Spread::Private, true) => "rprivate",
            (Spread::Slave, false) => "slave",
            (Spread::Slave, true) => "rslave",
            (Spread::Shared, false) => "shared",
            (Spread::Shared, true) => "rshared",
            (Spread::Unbindable, false) => "unbindable",
            (Spread::Unbindable, true) => "runbindable",
        }
    }
}

const PLAIN: [&str; 10] = [
    "async",
    "sync",
    "dirsync",
    "relatime",
    "norelatime",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "strictatime",
];
const PARAMETERS: [&str; 8] =
    ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "max", "ptmxmode"];
const FLAGS: [(&str, Flag, bool); 8] = [
    ("ro", Flag::ReadOnly, true),
    ("rw", Flag::ReadOnly, false),
    ("noexec", Flag::NoExec, true),
    ("exec", Flag::NoExec, false),
    ("nosuid", Flag::NoSuid, true),
    ("suid", Flag::NoSuid, false),
    ("nodev", Flag::NoDev, true),
    ("dev", Flag::NoDev, false),
];

impl MountOption {
    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }
}

impl FromStr for MountOption {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = match text {
            "bind" => Kind::Bind { recursive: false },
            "rbind" => Kind::Bind { recursive: true },
            "z" => Kind::Relabel { shared: true },
            "Z" => Kind::Relabel { shared: false },
            "rro" => Kind::RecursiveReadOnly,
            "nosymfollow" => Kind::NoSymFollow,
            "tmpcopyup" => Kind::CopyUp(true),
            "notmpcopyup" => Kind::CopyUp(false),
            "idmap" => Kind::IdMap(String::new()),
            _ => return other(text).map(Self),
        };
        Ok(Self(kind))
    }
}

fn other(text: &str) -> Result<Kind, InvalidText> {
    let unknown = InvalidText::new("mount option", Problem::Form("is not known"));
    if let Some((_, flag, on)) = FLAGS.iter().find(|(word, ..)| *word == text) {
        return Ok(Kind::Flag(*flag, *on));
    }
    if let Some(word) = PLAIN.iter().find(|word| **word == text) {
        return Ok(Kind::Plain(word));
    }
    if let Some(propagation) = propagation(text) {
        return Ok(Kind::Propagation(propagation));
    }
    let (name, value) = text.split_once('=').ok_or(unknown)?;
    if name == "idmap" {
        id_maps(value)?;
        return Ok(Kind::IdMap(value.to_owned()));
    }
    let name = PARAMETERS.iter().find(|known| **known == name).ok_or(unknown)?;
    if value.is_empty()
        || value.len() > 32
        || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'%')
    {
        return Err(InvalidText::new("value of a mount option", Problem::Form("is not a number")));
    }
    Ok(Kind::Parameter(name, value.to_owned()))
}

fn propagation(text: &str) -> Option<Propagation> {
    [Spread::Private, Spread::Slave, Spread::Shared, Spread::Unbindable]
        .into_iter()
        .flat_map(|how| [true, false].map(|recursive| Propagation { how, recursive }))
        .find(|propagation| propagation.as_str() == text)
}

/// The maps of users and groups of `uids=..;gids=..`, as far as they are given.
pub(crate) fn id_maps(text: &str) -> Result<(Option<MountMap>, Option<MountMap>), InvalidText> {
    let (mut uids, mut gids) = (None, None);
    for part in text.split(';').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("uids", map)) => uids = Some(map.parse()?),
            Some(("gids", map)) => gids = Some(map.parse()?),
            _ => {
                let rule = Problem::Form("is not like uids=0-1000-10;gids=0-1000-10");
                return Err(InvalidText::new("idmap", rule));
            }
        }
    }
    Ok((uids, gids))
}

string_form!(MountOption);

impl fmt::Display for MountOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Flag(flag, on) => {
                let word = FLAGS.iter().find(|(_, f, o)| f == flag && o == on);
                f.write_str(word.map_or("", |(word, ..)| word))
            }
            Kind::Propagation(propagation) => f.write_str(propagation.as_str()),
            Kind::Bind { recursive: false } => f.write_str("bind"),
            Kind::Bind { recursive: true } => f.write_str("rbind"),
            Kind::Relabel { shared: true } => f.write_str("z"),
            Kind::Relabel { shared: false } => f.write_str("Z"),
            Kind::IdMap(map) if map.is_empty() => f.write_str("idmap"),
            Kind::IdMap(map) => write!(f, "idmap={map}"),
            Kind::RecursiveReadOnly => f.write_str("rro"),
            Kind::NoSymFollow => f.write_str("nosymfollow"),
            Kind::Plain(word) => f.write_str(word),
            Kind::Parameter(name, value) => write!(f, "{name}={value}"),
            Kind::CopyUp(true) => f.write_str("tmpcopyup"),
            Kind::CopyUp(false) => f.write_str("notmpcopyup"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_back_from_their_text() {
        let words = FLAGS.map(|(word, ..)| word).into_iter().chain(PLAIN);
        let more = [
            "bind",
            "rbind",
            "z",
            "Z",
            "rro",
            "nosymfollow",
            "tmpcopyup",
            "notmpcopyup",
            "idmap",
            "idmap=uids=0-1-2;gids=@3-4-5",
            "rprivate",
            "private",
            "shared",
            "rshared",
            "slave",
            "rslave",
            "unbindable",
            "runbindable",
            "size=10%",
            "size=64m",
            "mode=1777",
            "uid=5",
        ];
        for word in words.chain(more) {
            assert_eq!(word.parse::<MountOption>().unwrap().to_string(), word);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [
            "",
            "RO",
            "ro ",
            "ro,rw",
            "O",
            "U",
            "context=x",
            "lowerdir=/",
            "size=",
            "size=1,mode=7",
            "mode=\"1\"",
            "size=1\n",
            "idmap=0-1-2",
            "idmap=uids=x",
            "idmap=uids=0-1-2;x=1-2-3",
            "loop",
            "remount",
            "defaults",
            "subdir=x",
            "copy",
        ] {
            assert!(bad.parse::<MountOption>().is_err(), "{bad:?}");
        }
    }
}
