//! Credentials for registries, as `containers-auth.json` has them.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tare_worker::Login;

use super::registries::with_host_lowered;

/// Most bytes of a document.
pub(crate) const MAX_AUTH: usize = 64 << 10;

/// Why a document has no credentials.
#[derive(Debug, thiserror::Error)]
#[error("not as containers-auth.json(5) describes")]
pub struct InvalidCredentials;

/// Credentials by registry, or registry and part of a repository.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, (String, String)>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whose they are for is no secret; they are.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
}

impl Credentials {
    /// No credentials.
    pub(crate) fn none() -> &'static Self {
        static NONE: Credentials = Credentials(BTreeMap::new());
        &NONE
    }

    /// Reads `{"auths": {"registry": {"auth": "base64 of user:password"}}}`.
    ///
    /// The error says nothing of what is in the document.
    ///
    /// # Errors
    ///
    /// [`InvalidCredentials`].
    pub fn parse(json: &[u8]) -> Result<Self, InvalidCredentials> {
        let document: Document = serde_json::from_slice(json).map_err(|_| InvalidCredentials)?;
        let mut all = BTreeMap::new();
        for (scope, entry) in document.auths {
            let Some(auth) = entry.auth else { continue };
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| InvalidCredentials)?;
            let text = String::from_utf8(bytes).map_err(|_| InvalidCredentials)?;
            let (user, password) = text.split_once(':').ok_or(InvalidCredentials)?;
            let scope = scope_of(&scope);
            // docker ends passwords with it.
            let password = password.trim_end_matches('\0');
            all.insert(scope, (user.to_owned(), password.to_owned()));
        }
        Ok(Self(all))
    }

    /// Those for a repository: of all that are for a part of its name, the longest.
    pub(crate) fn of(&self, registry: &str, repository: &str) -> Option<Login> {
        let name = format!("{registry}/{repository}");
        let fits = |scope: &str| {
            name.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let fitting = self.0.iter().filter(|(scope, _)| fits(scope));
        let (_, (user, password)) = fitting.max_by_key(|(scope, _)| scope.len())?;
        Some(Login { user: user.clone(), password: password.clone() })
    }
}

/// The scope that a key stands for: of a URL, as docker writes some, its host, and docker's own registry by
/// its one name.
fn scope_of(key: &str) -> String {
    let url = ["https://", "http://"].into_iter().find_map(|scheme| key.strip_prefix(scheme));
    let scope = url.map_or(key, |url| url.split('/').next().unwrap_or_default());
    match scope {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        _ => with_host_lowered(scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_scope_that_fits_counts() {
        let entry = |text: &str| format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(text));
        let api = |host: &str| format!("https://{host}/v1/");
        let json = format!(
            r#"{{"auths":{{"r.test:5000":{},"r.test:5000/a":{},"{}":{},"none":{{}}}}}}"#,
            entry("all:1:2"),
            entry("a:2"),
            api("index.docker.io"),
            entry("docker:3\0")
        );
        let credentials = Credentials::parse(json.as_bytes()).unwrap();
        let basic = |user: &str, password: &str| {
            Some(Login { user: user.into(), password: password.into() })
        };
        for (registry, repository, wanted) in [
            ("r.test:5000", "b", basic("all", "1:2")),
            ("r.test:5000", "a/x", basic("a", "2")),
            ("r.test:5000", "ab", basic("all", "1:2")),
            ("docker.io", "library/x", basic("docker", "3")),
            ("r.test:50001", "b", None),
        ] {
            assert_eq!(credentials.of(registry, repository), wanted, "{registry}/{repository}");
        }
        assert!(!format!("{credentials:?}").contains("all"), "{credentials:?}");
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for json in
            ["", "7", r#"{"auths":{"a":{"auth":"?"}}}"#, r#"{"auths":{"a":{"auth":"YQ=="}}}"#]
        {
            assert!(Credentials::parse(json.as_bytes()).is_err(), "{json}");
        }
        assert_eq!(Credentials::parse(b"{}").unwrap(), Credentials::default());
    }
}
