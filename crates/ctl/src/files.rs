//! Files of containers.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use zbus::{Connection, Fd, OwnedObjectPath};

use crate::cli::Commit;
use crate::client::{self, JobProxy, Options};
use crate::images::output_file;
use crate::output::say;
use crate::{Failure, Outcome, job};

/// `MountRootfs`: to be read; the mount stays when the caller leaves.
const READ_ONLY: u64 = 1;
const KEEP: u64 = 2;

/// Changes that are shown at most.
const MOST: u32 = 1_000_000;

pub(crate) async fn changes(bus: &Connection, container: &str) -> Outcome {
    let (changes, truncated) =
        client::container(bus, container).await?.get_changes(MOST, 0).await?;
    for (kind, path) in changes {
        let letter = match &*kind {
            "added" => "A",
            "deleted" => "D",
            _ => "C",
        };
        let path = String::from_utf8_lossy(&path);
        say(&format!("{letter} {}", path.replace(|c: char| c.is_control(), "?")))?;
    }
    if truncated {
        return Err(Failure::Usage("there are more changes than fit into an answer".into()));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn commit(bus: &Connection, command: Commit) -> Outcome {
    let mut options = Options::new();
    for (key, value) in [("Author", command.author), ("Message", command.message)] {
        if let Some(value) = value {
            options.insert(key, value.into());
        }
    }
    if !command.change.is_empty() {
        options.insert("Changes", command.change.into());
    }
    if command.pause {
        options.insert("Pause", true.into());
    }
    let container = client::container(bus, &command.container).await?;
    let name = command.image.unwrap_or_default();
    let job = job::run(bus, || container.commit(&name, options)).await?;
    let mut output = JobProxy::builder(bus).path(job).build().await?.output().await?;
    let image = output.remove("Image").map(OwnedObjectPath::try_from).transpose()?;
    let image = image.ok_or_else(|| Failure::Usage("the job has no image".into()))?;
    say(&image.as_str().rsplit('/').next().unwrap_or_default().replacen('_', ":", 1))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn export(bus: &Connection, output: Option<PathBuf>, container: &str) -> Outcome {
    let archive = output_file(output.as_deref())?;
    let container = client::container(bus, container).await?;
    job::run(bus, || container.export(Fd::from(archive.as_fd()), Options::new())).await?;
    Ok(ExitCode::SUCCESS)
}

/// This connection is gone in a moment, and the mount is not.
pub(crate) async fn mount(bus: &Connection, container: &str) -> Outcome {
    say(&client::container(bus, container).await?.mount_rootfs(READ_ONLY | KEEP).await?)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn unmount(bus: &Connection, container: &str) -> Outcome {
    client::container(bus, container).await?.unmount_rootfs(0).await?;
    Ok(ExitCode::SUCCESS)
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Inside(&'a str, &'a str),
    Stream,
    Local(&'a str),
}

impl<'a> Side<'a> {
    /// `-`, `CONTAINER:PATH`, or a path, which begins with a slash or point if there is a colon in it.
    fn of(text: &'a str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((container, path)) if !text.starts_with(['/', '.']) => {
                Self::Inside(container, path)
            }
            _ => Self::Local(text),
        }
    }
}

pub(crate) async fn copy(bus: &Connection, from: &str, to: &str) -> Outcome {
    match (Side::of(from), Side::of(to)) {
        (Side::Inside(container, path), Side::Stream) => {
            copy_out(bus, container, path, &output_file(None)?).await
        }
        (Side::Inside(container, path), Side::Local(dir)) => {
            let (archive, tar) = unpacker(Path::new(dir))?;
            let copied = copy_out(bus, container, path, &archive).await;
            drop(archive);
            ended(tar)?;
            copied
        }
        (Side::Stream, Side::Inside(container, path)) => {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned();
            let stdin = stdin.map_err(Failure::io("standard input"))?;
            copy_in(bus, &stdin, container, path).await
        }
        (Side::Local(file), Side::Inside(container, path)) => {
            let (archive, tar) = packer(Path::new(file))?;
            let copied = copy_in(bus, &archive, container, path).await;
            drop(archive);
            // If the service read no further, tar says so, too, and that is not the reason.
            let packed = ended(tar);
            copied.and_then(|code| packed.map(|()| code))
        }
        _ => Err(Failure::Usage("one side must be CONTAINER:PATH, and the other not".into())),
    }
}

async fn copy_out(bus: &Connection, container: &str, path: &str, to: &impl AsFd) -> Outcome {
    let container = client::container(bus, container).await?;
    let archive = Fd::from(to.as_fd());
    job::run(bus, || container.copy_out(path, archive, Options::new())).await?;
    Ok(ExitCode::SUCCESS)
}

async fn copy_in(bus: &Connection, from: &impl AsFd, container: &str, path: &str) -> Outcome {
    let container = client::container(bus, container).await?;
    let archive = Fd::from(from.as_fd());
    job::run(bus, || container.copy_in(archive, path, Options::new())).await?;
    Ok(ExitCode::SUCCESS)
}

/// GNU tar, unpacking what is written to the pipe.
fn unpacker(dir: &Path) -> Result<(PipeWriter, Child), Failure> {
    let (reader, writer) = std::io::pipe().map_err(Failure::io("cannot make a pipe"))?;
    let tar = Command::new("tar").arg("-x").arg("-C").arg(dir).stdin(reader).spawn();
    Ok((writer, tar.map_err(Failure::io("cannot run tar"))?))
}

/// GNU tar, packing something by its own name.
fn packer(file: &Path) -> Result<(PipeReader, Child), Failure> {
    let file = file.canonicalize().map_err(Failure::io(file.display().to_string()))?;
    let (dir, name) = match (file.parent(), file.file_name()) {
        (Some(dir), Some(name)) => (dir.to_owned(), name.to_owned()),
        _ => (file.clone(), ".".into()),
    };
    let (reader, writer) = std::io::pipe().map_err(Failure::io("cannot make a pipe"))?;
    let mut tar = Command::new("tar");
    tar.arg("-c").arg("-C").arg(dir).arg("--").arg(name).stdout(writer);
    Ok((reader, tar.spawn().map_err(Failure::io("cannot run tar"))?))
}

fn ended(mut tar: Child) -> Result<(), Failure> {
    let status = tar.wait().map_err(Failure::io("cannot wait for tar"))?;
    if status.success() { Ok(()) } else { Err(Failure::Usage(format!("tar ended with {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        for (text, side) in [
            ("-", Side::Stream),
            ("web:/etc", Side::Inside("web", "/etc")),
            ("web:/a:b", Side::Inside("web", "/a:b")),
            ("file", Side::Local("file")),
            ("./a:b", Side::Local("./a:b")),
            ("/a:b", Side::Local("/a:b")),
        ] {
            assert_eq!(Side::of(text), side, "{text}");
        }
    }
}
