//! Standing in for a container's terminal, or for its standard files.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

use futures_util::StreamExt;
use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use zbus::{Connection, Fd};

use crate::client::{self, ContainerProxy, ExitedStream, ManagerProxy, Options};
use crate::exec::exit_code;
use crate::terminal::{self, END_OF_INPUT, Raw};
use crate::{Failure, Outcome, job};

/// Ctrl-P and Ctrl-Q after each other: we go, and the container stays.
const DETACH: [u8; 2] = [0x10, 0x11];
/// `Remove`: kill it first, and with the volumes that were made for it alone.
const TAKE_BACK: u64 = 1 | 2;

/// What somebody who stays wants of a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    /// That it reads what we read.
    pub(crate) input: bool,
    /// It has a terminal.
    pub(crate) tty: bool,
}

/// Our ends of its pipes.
struct Ends {
    input: Option<File>,
    output: File,
    errors: File,
}

/// Creates a container, starts it, and ends as it ends.
pub(crate) async fn run(
    bus: &Connection,
    name: &str,
    image: &str,
    options: Options<'_>,
    want: Want,
) -> Outcome {
    let manager = ManagerProxy::new(bus).await?;
    let path = manager.create_container(name, image, options).await?;
    let container = ContainerProxy::builder(bus).path(path).build().await?;
    let exited = container.receive_exited().await?;
    match start(bus, &container, want).await {
        Ok(ends) => stay(&container, ends, want, exited).await,
        Err(failure) => {
            // It may be gone: it was to be removed when it ends.
            let _ = job::run(bus, || container.remove(TAKE_BACK)).await;
            Err(failure)
        }
    }
}

/// Attaches to a container that runs.
pub(crate) async fn attach(bus: &Connection, name: &str, no_stdin: bool) -> Outcome {
    let container = client::container(bus, name).await?;
    let exited = container.receive_exited().await?;
    let want = Want { input: !no_stdin, tty: container.tty().await? };
    let mut pipes = container.attach(Options::from([("Stdin", want.input.into())])).await?;
    let mut pipe = |name| pipes.remove(name).map(|fd| File::from(OwnedFd::from(fd)));
    let missing = || Failure::Usage("the service gave no pipes".into());
    let ends = Ends {
        input: pipe("stdin"),
        output: pipe("stdout").ok_or_else(missing)?,
        errors: pipe("stderr").ok_or_else(missing)?,
    };
    if let Some((rows, columns)) = terminal::own_size().filter(|_| want.tty) {
        container.resize(rows, columns).await?;
    }
    stay(&container, ends, want, exited).await
}

/// Starts it with pipes that are there before it runs, so that nothing of it is missed.
async fn start(
    bus: &Connection,
    container: &ContainerProxy<'_>,
    want: Want,
) -> Result<Ends, Failure> {
    let (their_input, input) = new_pipe()?;
    let (output, their_output) = new_pipe()?;
    let (errors, their_errors) = new_pipe()?;
    let mut options = Options::from([
        ("Stdout", Fd::from(OwnedFd::from(their_output)).into()),
        ("Stderr", Fd::from(OwnedFd::from(their_errors)).into()),
    ]);
    if want.input {
        options.insert("Stdin", Fd::from(OwnedFd::from(their_input)).into());
    }
    if let Some((rows, columns)) = terminal::own_size().filter(|_| want.tty) {
        options.extend([("Rows", rows.into()), ("Columns", columns.into())]);
    }
    job::run(bus, || container.start(0, options)).await?;
    Ok(Ends {
        input: want.input.then(|| OwnedFd::from(input).into()),
        output: OwnedFd::from(output).into(),
        errors: OwnedFd::from(errors).into(),
    })
}

fn new_pipe() -> Result<(PipeReader, PipeWriter), Failure> {
    pipe().map_err(Failure::io("cannot make a pipe"))
}

/// Passes on until the container has ended, or somebody wants to go.
async fn stay(
    container: &ContainerProxy<'_>,
    ends: Ends,
    want: Want,
    mut exited: ExitedStream,
) -> Outcome {
    let Ends { input, output, errors } = ends;
    let raw = if want.tty && want.input { Raw::set()? } else { None };
    let (gone, going) = oneshot::channel();
    if let Some(input) = input {
        let keys = raw.is_some().then(Keys::default);
        // Ends with this program: nothing can wake it.
        thread::spawn(move || type_in(input, want, keys, gone));
    }
    let written = [
        copy(output, std::io::stdout().as_fd().try_clone_to_owned()),
        copy(errors, std::io::stderr().as_fd().try_clone_to_owned()),
    ];
    let written = all_of(written.into_iter().collect::<Result<_, Failure>>()?);
    let end = async {
        // An error means that a thread has panicked, which was shown.
        let _ = written.await;
        exited.next().await
    };
    let ended = tokio::select! {
        ended = end => ended,
        Ok(()) = going => return Ok(ExitCode::SUCCESS),
        result = follow_size(container), if want.tty => {
            result?;
            None
        }
    };
    drop(raw);
    match ended {
        Some(signal) => Ok(exit_code(signal.args()?.exit_code)),
        None => Err(Failure::Usage("the bus went away".into())),
    }
}

/// Threads of the standard library: those of the runtime are waited for at the end, and nothing wakes
/// these if somebody goes.
fn all_of(threads: Vec<JoinHandle<()>>) -> oneshot::Receiver<()> {
    let (done, all) = oneshot::channel();
    thread::spawn(move || {
        if threads.into_iter().all(|thread| thread.join().is_ok()) {
            let _ = done.send(());
        }
    });
    all
}

fn copy(mut from: File, to: std::io::Result<OwnedFd>) -> Result<JoinHandle<()>, Failure> {
    let mut to = File::from(to.map_err(Failure::io("cannot use our own standard files"))?);
    Ok(thread::spawn(move || {
        // The end of either is the end of it, and no error.
        let _ = std::io::copy(&mut from, &mut to);
    }))
}

/// What is typed goes to the container, until it ends or says that we go. What is no terminal ends; a
/// terminal is told so by a key.
fn type_in(mut to: File, want: Want, mut keys: Option<Keys>, gone: oneshot::Sender<()>) {
    let mut stdin = std::io::stdin().lock();
    let mut block = [0; 4096];
    while let Ok(count @ 1..) = stdin.read(&mut block) {
        let (bytes, detaches) = match &mut keys {
            Some(keys) => keys.pass(&block[..count]),
            None => (block[..count].to_vec(), false),
        };
        if to.write_all(&bytes).is_err() {
            return;
        }
        if detaches {
            // Kept open until all is closed at once: closed alone, it would be the end of the input.
            std::mem::forget(to);
            // If nobody waits for it, it has ended.
            let _ = gone.send(());
            return;
        }
    }
    if want.tty {
        // An error means that the container has ended.
        let _ = to.write_all(&[END_OF_INPUT]);
    }
}

/// Finds the keys to go by among all others.
#[derive(Debug, Default)]
struct Keys {
    /// The first of them was the last key, and was kept back.
    begun: bool,
}

impl Keys {
    /// What goes on to the container, and whether somebody wants to go.
    fn pass(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            let begun = std::mem::replace(&mut self.begun, *byte == DETACH[0]);
            if begun && *byte == DETACH[1] {
                return (passed, true);
            }
            passed.extend(begun.then_some(DETACH[0]));
            passed.extend((!self.begun).then_some(*byte));
        }
        (passed, false)
    }
}

async fn follow_size(container: &ContainerProxy<'_>) -> Result<(), Failure> {
    let changes = signal(SignalKind::window_change());
    let mut changes = changes.map_err(Failure::io("cannot follow our own terminal"))?;
    while changes.recv().await.is_some() {
        if let Ok(size) = tcgetwinsize(std::io::stdin()) {
            // It may have ended, which is noticed elsewhere.
            let _ = container.resize(size.ws_row, size.ws_col).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_keys_in_a_row_are_kept_from_the_container() {
        let [p, q] = DETACH;
        for (typed, passed, detaches) in [
            (vec![vec![b'a', p, q, b'b']], vec![b'a'], true),
            (vec![vec![p], vec![q]], vec![], true),
            (vec![vec![p, b'x', q]], vec![p, b'x', q], false),
            (vec![vec![p, p, q]], vec![p], true),
            (vec![vec![q, p], vec![b'x']], vec![q, p, b'x'], false),
        ] {
            let mut keys = Keys::default();
            let mut all = Vec::new();
            let mut gone = false;
            for block in &typed {
                let (bytes, detaches) = keys.pass(block);
                all.extend(bytes);
                gone |= detaches;
            }
            assert_eq!((all, gone), (passed, detaches), "{typed:?}");
        }
    }
}
