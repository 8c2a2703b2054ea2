//! What is asked before an effect, by the programs whose effects can be made to fail.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fmt};

static SOCKET: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Asks whoever listens on the socket `$TARE_FAULTS` whether an effect of `part` is to happen; without
/// that it is.
///
/// Connects, writes the part, a tab, and the effect in words, and waits for the answer: nothing if the
/// effect shall happen, or the number of the error it shall fail with. As long as there is no answer,
/// the thread hangs there; that is the place to kill the program at. Each question has a connection of
/// its own, so that nothing is left open, and one that hangs holds up no other.
///
/// # Errors
///
/// The one that was answered; or if nobody listens.
pub fn ask_whoever_listens(part: &str, effect: &dyn fmt::Display) -> io::Result<()> {
    let socket = SOCKET.get_or_init(|| env::var_os("TARE_FAULTS").map(Into::into));
    let Some(socket) = socket else { return Ok(()) };
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
