//! Secrets.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use zbus::{Connection, Fd};

use crate::cli::Secret;
use crate::client::{self, ManagerProxy, Options};
use crate::memory::memory;
use crate::mount::Entry;
use crate::output::{number, say, text};
use crate::{Failure, Outcome};

/// More is no secret to the service; it says so.
const MAX: u64 = 1 << 20;

pub(crate) async fn run(bus: &Connection, command: Secret) -> Outcome {
    match command {
        Secret::Ls => list(bus).await,
        Secret::Create { replace, name, file } => create(bus, replace, &name, &file).await,
        Secret::Rm { secrets } => {
            for name in secrets {
                client::secret(bus, &name).await?.remove(0).await?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(bus: &Connection) -> Outcome {
    let (rows, _) = ManagerProxy::new(bus).await?.list_secrets(Options::new()).await?;
    say(&format!("{:<32}  {:>6}  CONTAINERS", "NAME", "OWNER"))?;
    for row in &rows {
        let (owner, containers) = (number(row, "OwnerUID"), number(row, "NContainers"));
        say(&format!("{:<32}  {owner:>6}  {containers}", text(row, "Name")))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(bus: &Connection, replace: bool, name: &str, file: &Path) -> Outcome {
    let manager = ManagerProxy::new(bus).await?;
    let value = value(file).map_err(Failure::io(format!("cannot read {}", file.display())))?;
    if replace && manager.get_secret(name).await.is_ok() {
        client::secret(bus, name).await?.replace(Fd::from(value), 0).await?;
    } else {
        manager.create_secret(name, Fd::from(value), Options::new()).await?;
    }
    say(name)?;
    Ok(ExitCode::SUCCESS)
}

/// In memory, whatever it comes from: the service waits for nobody then.
fn value(file: &Path) -> std::io::Result<OwnedFd> {
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX).read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.take(MAX).read_to_end(&mut bytes)?;
    }
    memory("secret", &bytes)
}

/// What `--secret` says: NAME[,type=mount|env][,target=TARGET][,uid=UID][,gid=GID][,mode=MODE].
pub(crate) fn option(said: &str) -> Result<Entry, Failure> {
    let wrong = |what: &str| Failure::Usage(format!("--secret {said}: {what}"));
    let mut words = said.split(',');
    let name = words.next().unwrap_or_default();
    let mut entry = Entry::from([("Name", name.to_owned().into())]);
    let (mut target, mut is_variable) = (None, false);
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| wrong(word))?;
        let number = |radix| u32::from_str_radix(value, radix).map_err(|_| wrong(word));
        match key {
            "type" => match value {
                "env" => is_variable = true,
                "mount" => is_variable = false,
                _ => return Err(wrong("type is mount or env")),
            },
            "target" => target = Some(value.to_owned()),
            "uid" => drop(entry.insert("UID", number(10)?.into())),
            "gid" => drop(entry.insert("GID", number(10)?.into())),
            "mode" => drop(entry.insert("Mode", number(8)?.into())),
            _ => return Err(wrong(word)),
        }
    }
    match (is_variable, target) {
        (true, target) => {
            entry.insert("Env", target.unwrap_or_else(|| name.to_owned()).into());
        }
        (false, Some(target)) => drop(entry.insert("Target", target.into())),
        (false, None) => {}
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_secret_is_as_in_podman() {
        let said = |text: &str| {
            let mut words: Vec<_> =
                option(text)?.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            words.sort();
            Ok::<_, Failure>(words.join(" "))
        };
        for (text, want) in [
            ("key", "Name=\"key\""),
            ("key,type=env", "Env=\"key\" Name=\"key\""),
            ("key,type=env,target=K", "Env=\"K\" Name=\"key\""),
            (
                "key,target=/x,mode=0400,uid=7",
                "Mode=uint32 256 Name=\"key\" Target=\"/x\" UID=uint32 7",
            ),
        ] {
            assert_eq!(said(text).unwrap(), want, "{text}");
        }
        for wrong in ["key,type=x", "key,mode=9", "key,nonsense", "key,a=b"] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }
}
