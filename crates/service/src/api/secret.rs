//! Secrets, and what containers are given of them.

use std::os::fd::OwnedFd;

use tare_specgen::{EnvName, MountTarget, SecretName, SecretTarget, SecretUse};

use super::error::ApiError;
use super::options::{Options, Values, no_options};
use super::text::{text, wrong};
use crate::engine::CreateSecret;

/// Where a secret is that is asked for with no path, or one that does not begin with `/`.
const DIRECTORY: &str = "/run/secrets";
/// Who may read it if nobody says.
const USUAL_MODE: u32 = 0o444;

/// Arguments of `CreateSecret`.
pub(crate) fn create(
    name: &str,
    value: OwnedFd,
    options: Values,
) -> Result<CreateSecret, ApiError> {
    let name = self::name(name)?;
    no_options(options)?;
    Ok(CreateSecret { name, value })
}

/// The name of a secret.
pub(crate) fn name(name: &str) -> Result<SecretName, ApiError> {
    name.parse().map_err(|error| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
        ApiError::own("InvalidName", format!("'{shown}' is not a name for a secret: {error}"))
    })
}

/// Option `Secrets` of `CreateContainer`.
pub(super) fn secrets(o: &mut Options) -> Result<Vec<SecretUse>, ApiError> {
    o.dictionaries("Secrets")?.into_iter().map(one).collect()
}

fn one(mut o: Options) -> Result<SecretUse, ApiError> {
    let key = o.name("Name");
    let name: SecretName = text(&mut o, "Name")?.ok_or_else(|| wrong(&key, &"is needed"))?;
    let (env, target) = (text::<EnvName>(&mut o, "Env")?, o.string("Target")?);
    let key = o.name("Env");
    let (mode, uid, gid) = (o.number("Mode")?, o.number("UID")?, o.number("GID")?);
    let of_file = target.is_some() || mode.is_some() || uid.is_some() || gid.is_some();
    let of_target = o.name("Target");
    o.finish()?;
    match env {
        Some(_) if of_file => Err(wrong(&key, &"a variable has neither path, mode nor owner")),
        Some(variable) => Ok(SecretUse::env(name, variable)),
        None => {
            let path = path(&of_target, &name, target.as_deref())?;
            let mut file = SecretUse::file(name);
            file.target = SecretTarget::File {
                path,
                mode: mode.unwrap_or(USUAL_MODE),
                uid: uid.unwrap_or_default(),
                gid: gid.unwrap_or_default(),
            };
            Ok(file)
        }
    }
}

/// As in podman, a relative one is below the usual directory.
fn path(key: &str, name: &SecretName, target: Option<&str>) -> Result<MountTarget, ApiError> {
    let path = match target {
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(below) => format!("{DIRECTORY}/{below}"),
        None => format!("{DIRECTORY}/{name}"),
    };
    path.parse().map_err(|error| wrong(key, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::value::Value;
    use std::collections::BTreeMap;

    fn read(pairs: &[(&str, &str)], mode: Option<i128>) -> Result<Vec<SecretUse>, ApiError> {
        let texts = pairs.iter().map(|(key, text)| ((*key).to_owned(), Value::from(*text)));
        let mode = mode.map(|mode| ("Mode".to_owned(), Value::from(mode)));
        let map: BTreeMap<_, _> = texts.chain(mode).collect();
        let list = Value::List(vec![Value::Map(map)]);
        secrets(&mut Options::new(Values::from([("Secrets".to_owned(), list)])))
    }

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let key = ("Name", "key");
        for (pairs, mode, want) in [
            (vec![key], None, ("/run/secrets/key", 0o444)),
            (vec![key, ("Target", "other")], Some(0o400), ("/run/secrets/other", 0o400)),
            (vec![key, ("Target", "/etc/key")], None, ("/etc/key", 0o444)),
        ] {
            let SecretTarget::File { path, mode, .. } = &read(&pairs, mode).unwrap()[0].target
            else {
                panic!("{pairs:?}")
            };
            assert_eq!((path.as_str(), *mode), want);
        }
        let env = &read(&[key, ("Env", "KEY")], None).unwrap()[0].target;
        assert_eq!(*env, SecretTarget::Env("KEY".parse().unwrap()));
        for (pairs, mode, at) in [
            (vec![], None, "Secrets[0].Name"),
            (vec![("Name", "../x")], None, "Secrets[0].Name"),
            (vec![key, ("Env", "A=b")], None, "Secrets[0].Env"),
            (vec![key, ("Env", "A"), ("Target", "x")], None, "Secrets[0].Env"),
            (vec![key, ("Env", "A")], Some(0o400), "Secrets[0].Env"),
            (vec![key, ("Target", "../../etc/passwd")], None, "Secrets[0].Target"),
            (vec![key, ("Target", "/proc/1/x")], None, "Secrets[0].Target"),
        ] {
            let error = read(&pairs, mode).unwrap_err();
            assert!(error.message().contains(at), "{pairs:?}: {error:?}");
        }
    }
}
