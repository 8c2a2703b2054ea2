//! Where images are, and what a name without a registry means: `containers-registries.conf(5)`.
//!
//! Nothing here reads a file, or asks anybody. A name is the one an image goes by; where it is asked for follows
//! from that and from what is here, and changes nothing of the name.

mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use file::Form;
pub(crate) use file::Text;

/// The store of credentials that is the file with them; all others are programs.
const AUTH_FILE: &str = "containers-auth.json";

/// Why a file says nothing that can be obeyed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub(crate) struct InvalidRegistries {
    path: String,
    problem: String,
}

/// What all files say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Registries {
    /// By prefix.
    tables: BTreeMap<String, Table>,
    search: Option<Vec<String>>,
    mode: Option<Mode>,
    /// An empty one is none.
    aliases: BTreeMap<String, String>,
    helpers: Option<Vec<String>>,
}

/// What is said of images whose names begin in some way.
#[derive(Debug, PartialEq, Eq)]
struct Table {
    /// What is there in place of the prefix; empty if the name stays as it is.
    location: String,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    location: String,
    insecure: bool,
    pulls: MirrorFor,
}

/// What a mirror is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MirrorFor {
    All,
    /// Names with a digest.
    Digests,
    /// Names without one.
    Tags,
}

/// What becomes of a short name that could be in several registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nobody chooses for who has written it.
    Enforcing,
    /// They are tried one after the other.
    All,
}

/// A place where an image is asked for, or put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Its name there.
    pub(crate) name: String,
    /// Whether any certificate will do, or none.
    pub(crate) insecure: bool,
}

/// Images of such names are not pulled or pushed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("registries.conf blocks '{0}'")]
pub struct Blocked(pub(crate) String);

/// Why a short name stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Nothing is said of it.
    #[error(
        "and registries.conf has neither an alias for it nor registries to search: write \
         registry.example/{0}, or localhost/{0} for one of this host"
    )]
    Unknown(String),
    /// It could be any of these.
    #[error("and the short-name-mode of registries.conf lets nobody choose for you: write {}", .0.join(" or "))]
    Ambiguous(Vec<String>),
}

impl Registries {
    /// What a file and its drop-ins say, the later ones over the earlier ones.
    ///
    /// # Errors
    ///
    /// [`InvalidRegistries`].
    pub(crate) fn parse(main: Option<&Text>, drop_ins: &[Text]) -> Result<Self, InvalidRegistries> {
        let mut all = match main {
            Some(text) => file::parse(text, Form::Any)?,
            None => Self::default(),
        };
        for text in drop_ins {
            all.add(file::parse(text, Form::Second)?);
        }
        Ok(all)
    }

    fn add(&mut self, later: Self) {
        self.tables.extend(later.tables);
        self.aliases.extend(later.aliases);
        self.search = later.search.or_else(|| self.search.take());
        self.mode = later.mode.or(self.mode);
        self.helpers = later.helpers.or_else(|| self.helpers.take());
    }

    /// Where an image of that full name is pulled from, in the order that is tried.
    ///
    /// # Errors
    ///
    /// [`Blocked`].
    pub(crate) fn sources(&self, name: &str) -> Result<Vec<Endpoint>, Blocked> {
        let Some((length, table)) = self.table(name) else { return Ok(vec![plain(name)]) };
        let rest = &name[length..];
        let place = |location: &str, insecure| Endpoint {
            name: if location.is_empty() { name.into() } else { format!("{location}{rest}") },
            insecure,
        };
        let primary = place(&table.location, table.insecure);
        if table.blocked || self.blocks(&primary.name) {
            return Err(Blocked(name.into()));
        }
        let is_wanted = |mirror: &&Mirror| match mirror.pulls {
            MirrorFor::All => true,
            MirrorFor::Digests => name.contains('@'),
            MirrorFor::Tags => !name.contains('@'),
        };
        let mirrors = table.mirrors.iter().filter(is_wanted);
        let mirrors = mirrors.map(|mirror| place(&mirror.location, mirror.insecure));
        // What is blocked by its own name is not asked by another one, either.
        let mirrors = mirrors.filter(|mirror| !self.blocks(&mirror.name));
        Ok(mirrors.chain([primary]).collect())
    }

    /// Where an image of that full name is pushed to: there, as nothing is redirected on that way.
    ///
    /// # Errors
    ///
    /// [`Blocked`].
    pub(crate) fn target(&self, name: &str) -> Result<Endpoint, Blocked> {
        match self.table(name) {
            Some((_, table)) if table.blocked => Err(Blocked(name.into())),
            // It is said of where pulls are led to; nothing is pushed there, unless it is the same place.
            Some((length, table)) => {
                let is_there = table.location.is_empty() || table.location == name[..length];
                Ok(Endpoint { name: name.into(), insecure: table.insecure && is_there })
            }
            None => Ok(plain(name)),
        }
    }

    /// The full names that a short one may stand for, in the order that is tried.
    ///
    /// # Errors
    ///
    /// [`Unresolved`].
    pub(crate) fn resolve(&self, short: &str) -> Result<Vec<String>, Unresolved> {
        let name = short.split('@').next().unwrap_or_default();
        let at = name.rfind('/').map_or(0, |slash| slash + 1);
        let end = name[at..].find(':').map_or(name.len(), |colon| at + colon);
        let alias = self.aliases.get(&short[..end]).filter(|full| !full.is_empty());
        if let Some(full) = alias {
            return Ok(vec![format!("{full}{}", &short[end..])]);
        }
        let search = self.search.iter().flatten();
        let all: Vec<_> = search.map(|registry| format!("{registry}/{short}")).collect();
        match all.len() {
            0 => Err(Unresolved::Unknown(short.into())),
            2.. if self.mode == Some(Mode::Enforcing) => Err(Unresolved::Ambiguous(all)),
            _ => Ok(all),
        }
    }

    /// Whether credentials are looked up in the host's file with them.
    pub(crate) fn uses_auth_file(&self) -> bool {
        self.helpers.as_ref().is_none_or(|all| all.iter().any(|helper| helper == AUTH_FILE))
    }

    /// Programs that have credentials, and are not run from here.
    pub(crate) fn other_helpers(&self) -> impl Iterator<Item = &str> {
        let all = self.helpers.iter().flatten().map(String::as_str);
        all.filter(|helper| *helper != AUTH_FILE)
    }

    fn blocks(&self, name: &str) -> bool {
        self.table(name).is_some_and(|(_, table)| table.blocked)
    }

    /// The table of the longest prefix that a name has, and how much of the name that is.
    fn table(&self, name: &str) -> Option<(usize, &Table)> {
        let fitting = self.tables.iter().filter_map(|(prefix, table)| {
            matched(name, prefix).map(|length| (prefix.len(), (length, table)))
        });
        fitting.max_by_key(|(special, _)| *special).map(|(_, found)| found)
    }
}

/// Whether the first of several parts of a name is that of a registry, as Docker tells it.
pub(crate) fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

/// A name of which nothing is said.
fn plain(name: &str) -> Endpoint {
    Endpoint { name: name.into(), insecure: false }
}

/// How many bytes of a name a prefix takes up; none, if the name does not begin so.
///
/// As everywhere, `a.test` is also the beginning of `a.test:5000/b`.
fn matched(name: &str, prefix: &str) -> Option<usize> {
    match prefix.strip_prefix('*') {
        // Of any depth; there may be a port and a path after it.
        Some(domain) if domain.starts_with('.') => {
            let found = name.match_indices(domain).map(|(at, _)| (at, at + domain.len()));
            let mut fitting = found.filter(|(at, end)| {
                *at > 0 && !name[..*at].contains(['/', ':']) && is_end(&name[*end..])
            });
            fitting.next().map(|(_, end)| end)
        }
        _ => name.strip_prefix(prefix).filter(|rest| is_end(rest)).map(|_| prefix.len()),
    }
}

/// Whether a part of a name ends before this.
fn is_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with([':', '/', '@'])
}

/// A name, or the beginning of one, with the one spelling of its host.
pub(crate) fn with_host_lowered(name: &str) -> String {
    let (host, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
    host.to_ascii_lowercase() + rest
}
