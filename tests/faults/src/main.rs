//! `tared`, but before every effect it asks whoever listens on the socket `$TARE_FAULTS`.
//!
//! It connects, writes `part`, a tab, and the effect in words, and waits for the answer: nothing if
//! the effect shall happen, or the number of the error it shall fail with. As long as there is no
//! answer, the thread hangs there; that is the place to kill the daemon at. Each question has a
//! connection of its own, so that nothing is left open, and one that hangs holds up no other.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::{env, fmt};

static SOCKET: OnceLock<PathBuf> = OnceLock::new();

fn main() -> ExitCode {
    if let Some(socket) = env::var_os("TARE_FAULTS") {
        SOCKET.get_or_init(|| socket.into());
        tare_service::fault::set_hook(ask);
    }
    tare_service::daemon::main()
}

fn ask(part: &'static str, effect: &dyn fmt::Display) -> io::Result<()> {
    let Some(socket) = SOCKET.get() else { return Ok(()) };
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "{part}\t{effect}")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.parse() {
        Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
        Err(_) => Ok(()),
    }
}
