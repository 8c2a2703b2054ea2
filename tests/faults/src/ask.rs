//! What is asked before an effect, by the programs whose effects can be made to fail.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::{env, fmt, fs, thread};

/// Whom a connection is given to.
type Caller = Sender<io::Result<UnixStream>>;

static CONNECTOR: OnceLock<Option<Sender<Caller>>> = OnceLock::new();

/// Asks whoever listens on the socket `$TARE_FAULTS` whether an effect of `part` is to happen; without
/// that it is.
///
/// Connects, writes the part, a tab, and the effect in words, and waits for the answer: nothing if the
/// effect shall happen, or the number of the error it shall fail with. As long as there is no answer,
/// the thread hangs there; that is the place to kill the program at. Each question has a connection of
/// its own, so that nothing is left open, and one that hangs holds up no other. All are opened by the
/// thread that the first question starts, which stays where the socket has a name: others go into
/// containers.
///
/// # Errors
///
/// The one that was answered; or if nobody listens.
pub fn ask_whoever_listens(part: &str, effect: &dyn fmt::Display) -> io::Result<()> {
    ask(part, effect)?;
    match NEW_STEP.get_or_init(NewStep::wanted) {
        Some(step) if effect.to_string().contains(&step.before) => step.take(),
        _ => Ok(()),
    }
}

/// A step that nobody knows of, as if it had just been added to the code.
#[derive(Debug)]
struct NewStep {
    /// What is said in the effect that it comes before.
    before: String,
    /// The file that it makes, and nothing takes away again; empty if it makes none.
    makes: PathBuf,
}

static NEW_STEP: OnceLock<Option<NewStep>> = OnceLock::new();

/// Where a test says which: the two fields, with a tab between them.
pub const NEW_STEP_VARIABLE: &str = "TARE_FAULTS_NEW_STEP";

impl NewStep {
    /// As it is asked about.
    const TEXT: &str = "take a new step";

    fn wanted() -> Option<Self> {
        let text = env::var(NEW_STEP_VARIABLE).ok()?;
        let (before, makes) = text.split_once('\t')?;
        Some(Self { before: before.into(), makes: makes.into() })
    }

    fn take(&self) -> io::Result<()> {
        ask("service", &Self::TEXT)?;
        if self.makes.as_os_str().is_empty() { Ok(()) } else { fs::write(&self.makes, "left") }
    }
}

fn ask(part: &str, effect: &dyn fmt::Display) -> io::Result<()> {
    let connector =
        CONNECTOR.get_or_init(|| env::var_os("TARE_FAULTS").map(|socket| connector(socket.into())));
    let Some(connector) = connector else { return Ok(()) };
    let mut stream = connect(connector)?;
    write!(stream, "{part}\t{effect}")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.parse() {
        Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
        Err(_) => Ok(()),
    }
}

fn connector(socket: PathBuf) -> Sender<Caller> {
    let (connector, callers) = channel::<Caller>();
    thread::spawn(move || {
        for caller in callers {
            // It waits for it.
            let _ = caller.send(UnixStream::connect(&socket));
        }
    });
    connector
}

fn connect(connector: &Sender<Caller>) -> io::Result<UnixStream> {
    let (caller, connection) = channel();
    connector.send(caller).map_err(io::Error::other)?;
    connection.recv().map_err(io::Error::other)?
}
