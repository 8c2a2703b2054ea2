//! The messages.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version that is spoken here. Both sides come from one package; only a manager that was not
/// restarted after an upgrade speaks another one.
pub(crate) const VERSION: u32 = 1;

/// Longest text of a failure, in bytes: much of it is what the registry says.
const MAX_TEXT: usize = 1 << 10;

/// What a worker is asked. First of all [`Open`](Self::Open), and that once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Be for this repository. No registry is asked yet.
    Open(Place),
    /// The bytes of a manifest or an index.
    Manifest(By),
    /// The bytes of a blob from this one on. The reply says first from which they are indeed.
    Blob {
        /// Its digest, as in `sha256:...`.
        digest: String,
        /// The first byte that is wanted.
        from: u64,
    },
    /// Tell the registry who asks, to write there.
    SignIn {},
    /// Whether a blob is there: it is done, or it is [unknown](FailureKind::Unknown).
    HasBlob {
        /// Its digest.
        digest: String,
    },
    /// Send a blob; it is in the file beside this.
    PutBlob {
        /// Its digest.
        digest: String,
        /// How many bytes it has.
        size: u64,
    },
    /// Send a manifest, whose blobs are there; it is in the file beside this.
    PutManifest {
        /// What it is to be called.
        tag: String,
        /// Its media type.
        kind: String,
    },
}

/// A repository, and how it is spoken with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Which messages the manager knows.
    version: u32,
    /// Host of the registry, and maybe its port.
    pub registry: String,
    /// Name of the repository there.
    pub repository: String,
    /// Who asks; nobody in particular, if there is none.
    pub login: Option<Login>,
    /// How.
    pub protocol: Protocol,
    /// How long it may take to be connected; as long as it likes, if there is none.
    pub connect: Option<Duration>,
    /// How long it may say nothing; as long as it likes, if there is none.
    pub silence: Option<Duration>,
    /// Media types of manifests that can be read.
    pub kinds: Vec<String>,
}

impl Place {
    /// A repository that is spoken with by nobody in particular, encrypted, and waited for.
    pub fn new(registry: impl Into<String>, repository: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            registry: registry.into(),
            repository: repository.into(),
            login: None,
            protocol: Protocol::Https,
            connect: None,
            silence: None,
            kinds: Vec::new(),
        }
    }

    /// Whether this is said by somebody who speaks as we do.
    #[cfg(feature = "program")]
    pub(crate) fn is_understood(&self) -> bool {
        self.version == VERSION
    }
}

/// How a registry is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// In the clear.
    Http,
    /// Encrypted, and its certificate has to be good.
    Https,
    /// Encrypted, by whoever answers.
    AnyHttps,
}

/// Who asks a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Their name.
    pub user: String,
    /// What only they know.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// That of this name.
    Tag(String),
    /// That of this digest.
    Digest(String),
}

/// What a worker says of something it was asked, beside bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Said {
    /// The bytes that come are those from this one on.
    From(u64),
    /// That was all.
    Done,
    /// It cannot be done, or not to its end.
    Failed(Failure),
}

/// Why a registry does not do what is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What a manager acts on.
    pub kind: FailureKind,
    /// What a person can make something of. A stranger may have written parts of it.
    text: String,
}

/// What a failure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureKind {
    /// It cannot be talked with.
    Unreachable,
    /// The host knows no authorities to check certificates by.
    NoAuthorities,
    /// It wants to know who asks, or does not give it to them.
    Denied,
    /// It has nothing of that name.
    Unknown,
    /// What came is of another digest.
    Digest,
    /// It does not keep to the protocol.
    Answer,
    /// The worker does not understand what it is asked.
    Question,
}

impl Failure {
    /// A failure that can be told in these words.
    pub fn new(kind: FailureKind, text: &str) -> Self {
        Self { kind, text: printable(text) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Who hears it trusts nobody to have kept to that.
        f.write_str(&printable(&self.text))
    }
}

impl std::error::Error for Failure {}

/// The beginning of a text, in one line of characters that do nothing to who sees them.
fn printable(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    let shown = text[..end.unwrap_or_default()].chars();
    shown.map(|it| if it.is_control() { ' ' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_of_bounded_length_whoever_wrote_it() {
        let failure = Failure::new(FailureKind::Denied, "no\n\u{1b}[2Jway");
        assert_eq!(failure.to_string(), "no  [2Jway");
        let long = serde_json::json!({"kind": "answer", "text": "\u{e9}\n".repeat(MAX_TEXT)});
        let forged: Failure = serde_json::from_value(long).unwrap();
        let shown = forged.to_string();
        assert!(shown.len() <= MAX_TEXT && !shown.contains('\n'), "{} bytes", shown.len());
    }

    #[test]
    fn who_asks_is_not_shown() {
        let login = Login { user: "me".into(), password: "secret".into() };
        let mut place = Place::new("r.test", "a");
        place.login = Some(login);
        let shown = format!("{:?}", Ask::Open(place.clone()));
        assert!(!shown.contains("secret") && !shown.contains("me\""), "{shown}");
        let said = serde_json::to_vec(&Ask::Open(place.clone())).unwrap();
        assert_eq!(serde_json::from_slice::<Ask>(&said).unwrap(), Ask::Open(place));
    }
}
