//! Secrets, as files or in the environment.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BoundFile, Maker};
use crate::effective::Effective;
use crate::error::Error;
use crate::facts::Placement;
use crate::mount::MountTarget;
use crate::text::{EnvVar, MAX_ARGUMENT, check_bytes, text_type};
use crate::user::MAX_ID;

text_type! {
    /// Name of a secret: 1 to 253 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    SecretName, "secret name", |text| check_bytes(text, 253, |at, byte| {
        byte.is_ascii_alphanumeric() || at > 0 && matches!(byte, b'_' | b'.' | b'-')
    })
}

text_type! {
    /// Name of an environment variable: at least one byte, no `=`, white space or control character.
    EnvName, "name of a variable", |text| {
        check_bytes(text, MAX_ARGUMENT / 2, |_, byte| {
            byte > b' ' && byte != 0x7f && byte != b'='
        })
    }
}

/// A secret that the container is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct SecretUse {
    /// Which.
    pub name: SecretName,
    /// How.
    pub target: SecretTarget,
}

/// How a container sees a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub enum SecretTarget {
    /// As a file.
    File {
        /// Where.
        #[serde(rename = "Path")]
        path: MountTarget,
        /// Its mode bits; podman's are 0444.
        #[serde(rename = "Mode")]
        mode: u32,
        /// Its owner, in the terms of the container.
        #[serde(rename = "UID")]
        uid: u32,
        /// Its group, in the terms of the container.
        #[serde(rename = "GID")]
        gid: u32,
    },
    /// As a variable.
    Env(EnvName),
}

impl SecretUse {
    /// A file in `/run/secrets` that everybody in the container may read, as in podman.
    pub fn file(name: SecretName) -> Self {
        let path = MountTarget::known(&format!("/run/secrets/{name}"));
        Self { name, target: SecretTarget::File { path, mode: 0o444, uid: 0, gid: 0 } }
    }

    /// A variable.
    pub const fn env(name: SecretName, variable: EnvName) -> Self {
        Self { name, target: SecretTarget::Env(variable) }
    }
}

/// Whether these make sense together.
pub(crate) fn check(secrets: &[SecretUse]) -> Result<(), Error> {
    let wrong = |rule| Err(Error::Option { option: "Secrets", rule });
    let mut paths = std::collections::BTreeSet::new();
    for secret in secrets {
        if let SecretTarget::File { path, mode, uid, gid } = &secret.target {
            if *mode > 0o777 || *uid > MAX_ID || *gid > MAX_ID {
                return wrong("has a mode above 0777, or an owner above 2147483647");
            }
            if !paths.insert(path) {
                return wrong("has two on one path");
            }
        }
    }
    Ok(())
}

/// What a secret says; `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// A value.
    pub const fn new(value: Vec<u8>) -> Self {
        Self(value)
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({} bytes)", self.0.len())
    }
}

fn value<'a>(name: &SecretName, placement: &'a Placement) -> Result<&'a [u8], Error> {
    match placement.secrets.get(name) {
        Some(value) => Ok(&value.0),
        None => Err(Error::Placement { what: format!("the secret {name}") }),
    }
}

/// The files, named by number: a name of its own could be that of another file of ours.
pub(crate) fn files(effective: &Effective, placement: &Placement) -> Result<Vec<BoundFile>, Error> {
    let make = Maker::new(effective, placement);
    let mut files = Vec::new();
    for (number, secret) in effective.request.secrets.iter().enumerate() {
        if let SecretTarget::File { path, mode, uid, gid } = &secret.target {
            let content = value(&secret.name, placement)?.to_vec();
            let name = format!("secret-{number}");
            let mut file = make.owned(&name, path.clone(), content, (*mode, *uid, *gid));
            file.read_only = true;
            files.push(file);
        }
    }
    Ok(files)
}

/// The variables.
pub(crate) fn env(effective: &Effective, placement: &Placement) -> Result<Vec<EnvVar>, Error> {
    let mut env = Vec::new();
    for secret in &effective.request.secrets {
        if let SecretTarget::Env(name) = &secret.target {
            let text = std::str::from_utf8(value(&secret.name, placement)?).ok();
            let entry = text.and_then(|text| format!("{name}={text}").parse().ok());
            env.push(entry.ok_or_else(|| Error::Secret { name: secret.name.to_string() })?);
        }
    }
    Ok(env)
}
