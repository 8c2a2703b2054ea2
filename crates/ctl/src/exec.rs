//! Running a command in a container, with our own standard files as its own.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

use futures_util::StreamExt;
use zbus::{Connection, Fd, Variant, proxy};

use crate::cli::Exec;
use crate::client::{self, Options};
use crate::{Failure, Outcome, terminal};

#[proxy(interface = "org.tare.Containers1.Process", default_service = "org.tare.Containers1")]
trait Process {
    #[zbus(signal)]
    fn exited(&self, exit_code: i32, signal: i32, timestamp: u64) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn exit_code(&self) -> zbus::Result<i32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self) -> zbus::Result<String>;
}

/// Runs it and ends as it ends.
pub(crate) async fn exec(connection: &Connection, command: Exec) -> Outcome {
    let container = client::container(connection, &command.container).await?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let own = [("Stdin", stdin.as_fd()), ("Stdout", stdout.as_fd()), ("Stderr", stderr.as_fd())];
    let mut options = Options::new();
    for (key, fd) in own {
        if !command.tty && is_stream(fd) {
            options.insert(key, Variant::from(Fd::from(fd)));
        }
    }
    if command.tty {
        let (rows, columns) = terminal::own_size().unwrap_or_default();
        options.extend([("TTY", true.into()), ("Rows", rows.into()), ("Columns", columns.into())]);
    }
    if !command.env.is_empty() {
        options.insert("Env", command.env.into());
    }
    if let Some(user) = command.user {
        options.insert("User", user.into());
    }
    if let Some(dir) = command.workdir {
        options.insert("WorkingDir", dir.into());
    }
    let argv: Vec<&str> = command.command.iter().map(String::as_str).collect();
    let (process, mut pipes) = container.exec(&argv, options).await?;
    // What is a file here is a pipe there.
    if let Some(pipe) = pipes.remove("stdin") {
        copy(stdin.as_fd().try_clone_to_owned(), Ok(pipe.into()))?;
    }
    let mut written = Vec::new();
    for (name, fd) in [("stdout", stdout.as_fd()), ("stderr", stderr.as_fd())] {
        if let Some(pipe) = pipes.remove(name) {
            written.push(copy(Ok(pipe.into()), fd.try_clone_to_owned())?);
        }
    }
    if let Some(pty) = pipes.remove("pty") {
        terminal::pass_on(pty.into()).await?;
    }
    let process = ProcessProxy::builder(connection).path(process).build().await?;
    let mut exited = process.receive_exited().await?;
    // It may have ended before we listened.
    let code = if process.state().await? == "exited" {
        process.exit_code().await?
    } else {
        match exited.next().await {
            Some(signal) => signal.args()?.exit_code,
            None => return Err(Failure::Usage("the bus went away".into())),
        }
    };
    for thread in written {
        // A panic of it has been shown.
        let _ = thread.join();
    }
    Ok(exit_code(code))
}

/// Whether the service takes it as it is; files stay with us.
fn is_stream(fd: BorrowedFd<'_>) -> bool {
    use rustix::fs::{FileType, fstat};
    let kind = fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::Socket | FileType::CharacterDevice))
}

/// Copies from the one to the other until either ends.
fn copy(
    from: std::io::Result<OwnedFd>,
    to: std::io::Result<OwnedFd>,
) -> Result<JoinHandle<()>, Failure> {
    let failed = |source| Failure::io("cannot use our own standard files")(source);
    let (mut from, mut to) = (File::from(from.map_err(failed)?), File::from(to.map_err(failed)?));
    Ok(thread::spawn(move || {
        // The end of either is the end of it, and no error.
        let _ = std::io::copy(&mut from, &mut to);
    }))
}

/// An exit code of a container as one of ours; what nobody knows is 255.
pub(crate) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}
