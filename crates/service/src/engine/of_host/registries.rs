//! Where images are, and who asks for them, as files of the host say.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use super::trusted;
use crate::engine::Error;
use crate::engine::blocking::unbounded;
use crate::pull::{Credentials, MAX_AUTH, Registries, Text};

/// The file of the administrator, and that of who has put the host together, which counts where there is no other.
const FILES: [&str; 2] =
    ["/etc/containers/registries.conf", "/usr/share/containers/registries.conf"];
/// What is laid over either.
const DROP_INS: &str = "/etc/containers/registries.conf.d";
/// Most bytes of one of them; real ones have a few KiB.
const MAX_CONF: usize = 1 << 20;

/// What the files say now; nothing, if there are none.
///
/// # Errors
///
/// [`Error::Registries`].
pub(in crate::engine) async fn registries() -> Result<Registries, Error> {
    // They may be on a filesystem that never answers.
    unbounded("read registries.conf", || read().map_err(Error::Registries)).await
}

/// What is in a file with credentials; none, if it is not there.
///
/// # Errors
///
/// [`Error::Registries`], also if others than root can read it.
pub(in crate::engine) async fn credentials(file: PathBuf) -> Result<Credentials, Error> {
    unbounded("read credentials", move || {
        if !is_there(&file) {
            return Ok(Credentials::default());
        }
        let json = trusted::secret(&file, MAX_AUTH);
        let json = json.map_err(|source| Error::Registries(source.into()))?;
        let invalid = |fault| Error::Registries(format!("{}: {fault}", file.display()).into());
        Credentials::parse(&json).map_err(invalid)
    })
    .await
}

fn read() -> Result<Registries, Box<dyn StdError + Send + Sync>> {
    let main = match FILES.map(Path::new).into_iter().find(|path| is_there(path)) {
        Some(path) => Some(text(path, trusted::file(path, MAX_CONF)?)?),
        None => None,
    };
    let mut drop_ins = Vec::new();
    if is_there(Path::new(DROP_INS)) {
        for (path, content) in trusted::conf_files(Path::new(DROP_INS), MAX_CONF)? {
            drop_ins.push(text(&path, content)?);
        }
    }
    Ok(Registries::parse(main.as_ref(), &drop_ins)?)
}

/// Whether somebody has put something there, be it a link that leads nowhere: then it is not as if nobody had said
/// anything.
fn is_there(path: &Path) -> bool {
    match path.symlink_metadata() {
        Err(error) => error.kind() != io::ErrorKind::NotFound,
        Ok(_) => true,
    }
}

fn text(path: &Path, content: Vec<u8>) -> Result<Text, String> {
    let path = path.display().to_string();
    match String::from_utf8(content) {
        Ok(toml) => Ok(Text { path, toml }),
        Err(_) => Err(format!("{path} is not UTF-8")),
    }
}
