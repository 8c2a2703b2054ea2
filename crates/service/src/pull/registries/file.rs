//! One file, as somebody has written it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    InvalidRegistries, Mirror, MirrorFor, Mode, Registries, Table, is_host, with_host_lowered,
};

/// A file, and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Where it is, to name it by.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) toml: String,
}

/// Which forms a file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Also that of version 1.
    Any,
    /// That of version 2 alone, as in drop-ins.
    Second,
}

/// What is not known here is left alone: the file has other readers, and later versions.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Document {
    unqualified_search_registries: Option<Vec<String>>,
    credential_helpers: Option<Vec<String>>,
    short_name_mode: String,
    registry: Vec<RegistryTable>,
    aliases: BTreeMap<String, String>,
    registries: First,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror: Vec<MirrorTable>,
    mirror_by_digest_only: bool,
    pull_from_mirror: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

/// All that there was in version 1.
#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct First {
    search: FirstList,
    insecure: FirstList,
    block: FirstList,
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct FirstList {
    registries: Vec<String>,
}

/// What one file says by itself.
pub(super) fn parse(text: &Text, form: Form) -> Result<Registries, InvalidRegistries> {
    let invalid = |problem| InvalidRegistries { path: text.path.clone(), problem };
    let document = toml::from_str::<Document>(&text.toml);
    let document = document.map_err(|error| invalid(error.message().to_owned()))?;
    document.of_second(form).and_then(Document::checked).map_err(invalid)
}

impl Document {
    /// The same in the form of version 2.
    fn of_second(self, form: Form) -> Result<Self, String> {
        if self.registries == First::default() {
            return Ok(self);
        }
        if form == Form::Second {
            return Err("a drop-in has to be in the format of version 2".into());
        }
        let is_mixed = self.unqualified_search_registries.is_some()
            || self.credential_helpers.is_some()
            || !self.short_name_mode.is_empty()
            || !self.registry.is_empty()
            || !self.aliases.is_empty();
        if is_mixed {
            return Err("it mixes the formats of versions 1 and 2".into());
        }
        Ok(self.registries.into_second())
    }

    fn checked(self) -> Result<Registries, String> {
        let tables = self.registry.into_iter().map(RegistryTable::checked);
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        check_conflicts(&tables)?;
        let search = self.unqualified_search_registries.map(|all| {
            all.iter().map(|registry| search_registry(registry)).collect::<Result<_, _>>()
        });
        let aliases = self.aliases.into_iter().map(|(short, full)| alias(short, full));
        Ok(Registries {
            tables: tables.into_iter().collect(),
            search: search.transpose()?,
            mode: mode(&self.short_name_mode)?,
            aliases: aliases.collect::<Result<_, _>>()?,
            helpers: self.credential_helpers,
        })
    }
}

impl First {
    fn into_second(self) -> Document {
        let mut tables = BTreeMap::<String, RegistryTable>::new();
        let mut mark = |list: FirstList, set: fn(&mut RegistryTable)| {
            for location in list.registries {
                let new = || RegistryTable { location: location.clone(), ..Default::default() };
                set(tables.entry(location.clone()).or_insert_with(new));
            }
        };
        mark(self.insecure, |table| table.insecure = true);
        mark(self.block, |table| table.blocked = true);
        Document {
            unqualified_search_registries: Some(self.search.registries),
            registry: tables.into_values().collect(),
            ..Document::default()
        }
    }
}

impl RegistryTable {
    /// Its prefix, and the rest of it.
    fn checked(self) -> Result<(String, Table), String> {
        let (prefix, at) = match (self.prefix.as_str(), self.location.as_str()) {
            ("", "") => return Err("a registry has neither a prefix nor a location".into()),
            ("", at) => (location(at)?, location(at)?),
            (prefix, "") if prefix.starts_with("*.") => (location(prefix)?, String::new()),
            (prefix, "") => return Err(format!("registry '{prefix}' has no location")),
            (prefix, at) => (location(prefix)?, location(at)?),
        };
        if !self.pull_from_mirror.is_empty() {
            return Err(format!("registry '{prefix}' is no mirror, but has pull-from-mirror"));
        }
        let only_digests = self.mirror_by_digest_only;
        let mirrors = self.mirror.into_iter().map(|mirror| mirror.checked(only_digests));
        let mirrors = mirrors.collect::<Result<_, _>>()?;
        let table = Table { location: at, insecure: self.insecure, blocked: self.blocked, mirrors };
        Ok((prefix, table))
    }
}

impl MirrorTable {
    fn checked(self, only_digests: bool) -> Result<Mirror, String> {
        let location = location(&self.location)?;
        let pulls = match (self.pull_from_mirror.as_str(), only_digests) {
            ("" | "all", false) => MirrorFor::All,
            ("", true) | ("digest-only", false) => MirrorFor::Digests,
            ("tag-only", false) => MirrorFor::Tags,
            (_, true) => {
                return Err(format!(
                    "mirror '{location}' has pull-from-mirror, its registry mirror-by-digest-only"
                ));
            }
            (other, false) => {
                return Err(format!("pull-from-mirror of '{location}' cannot be '{other}'"));
            }
        };
        Ok(Mirror { location, insecure: self.insecure, pulls })
    }
}

/// One place cannot be insecure, or blocked, by one name and not by another.
fn check_conflicts(tables: &[(String, Table)]) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for (prefix, table) in tables {
        let at = if table.location.is_empty() { prefix } else { &table.location };
        let said = (table.insecure, table.blocked);
        if *seen.entry(at).or_insert(said) != said {
            return Err(format!(
                "registry '{at}' is there twice, and differs in insecure or blocked"
            ));
        }
    }
    Ok(())
}

/// Where something is: a host, maybe with a port, and maybe the beginning of a path there.
fn location(text: &str) -> Result<String, String> {
    let trimmed = text.trim_end_matches('/');
    if trimmed.is_empty() {
        return Err("a location is empty".into());
    }
    if trimmed.starts_with("http://") || trimmed.starts_with("https://") {
        return Err(format!("location '{trimmed}' is a URI: it begins with a host"));
    }
    let is_wild = trimmed.strip_prefix("*.").is_some_and(|domain| !domain.contains('*'));
    if trimmed.contains('*') && !is_wild {
        return Err(format!(
            "'{trimmed}' cannot fit: only '*.' at its beginning stands for others"
        ));
    }
    Ok(with_host_lowered(trimmed))
}

fn search_registry(text: &str) -> Result<String, String> {
    let registry = location(text)?;
    if registry.contains('/') || !is_host(&registry) {
        return Err(format!("'{registry}' of unqualified-search-registries is no host"));
    }
    Ok(registry)
}

fn alias(short: String, full: String) -> Result<(String, String), String> {
    let names_registry = |name: &str| name.split_once('/').is_some_and(|(host, _)| is_host(host));
    let is_whole = |name: &str| {
        let last = name.rsplit('/').next().unwrap_or_default();
        !last.is_empty() && !last.contains([':', '@'])
    };
    if names_registry(&short) || !is_whole(&short) {
        return Err(format!("alias '{short}' is no short name: it has a registry, tag or digest"));
    }
    // An empty one takes back what an earlier file says.
    if full.is_empty() || (names_registry(&full) && is_whole(&full)) {
        Ok((short, full))
    } else {
        Err(format!("alias '{short}' is for '{full}', which is no registry and repository"))
    }
}

fn mode(text: &str) -> Result<Option<Mode>, String> {
    match text {
        "" => Ok(None),
        "enforcing" => Ok(Some(Mode::Enforcing)),
        // They differ in what is asked at a terminal, and a service has none.
        "permissive" | "disabled" => Ok(Some(Mode::All)),
        other => Err(format!("short-name-mode cannot be '{other}'")),
    }
}
