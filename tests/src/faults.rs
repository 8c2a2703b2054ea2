//! Faults: what a `tared-faulty` asks before each of its effects, and what it is answered.

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::sync::watch;

/// One effect of a daemon, among those of one operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Effect {
    /// Whose it is: that of a crate, as in `netns` or `service`; `tare-names` of that program, `names` of
    /// whoever tells it.
    pub part: String,
    /// What it does, without what is different each time.
    pub text: String,
    /// Which of those that are the same so far, from 1.
    pub nth: usize,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.text)?;
        if self.nth > 1 { write!(f, " ({})", self.nth) } else { Ok(()) }
    }
}

/// What becomes of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails.
    Fail(Errno),
    /// It hangs, until it is let go.
    Hang,
    /// It does not happen, whichever of the same it is, and nobody is told: as if the code for it was
    /// broken. Where something would be made by it, it fails.
    LeaveOut,
}

/// By what an effect knows that it is to be left out: the `LEFT_OUT` of the crates.
const LEFT_OUT: i32 = 512;

/// Whoever a `tared-faulty` asks: a socket, and a thread that answers.
#[derive(Debug)]
pub struct Faults {
    socket: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    hits: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    /// What is different for each test.
    scratch: String,
    /// Those that came by since the counting began.
    seen: Vec<Effect>,
    counts: HashMap<(String, String), usize>,
    last: Option<Instant>,
    faults: Vec<(Effect, Fault)>,
    hanging: Option<UnixStream>,
}

impl Faults {
    /// Listens in a directory. What is to ask gets [`variable`](Self::variable) in its environment.
    pub fn listen(scratch: &Path) -> Self {
        let socket = scratch.join("faults");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = State { scratch: scratch.display().to_string(), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), hits: watch::Sender::new(0) });
        let answering = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                answering.answer(stream.unwrap());
            }
        });
        Self { socket, shared }
    }

    /// For the environment of the daemon.
    pub fn variable(&self) -> (String, String) {
        ("TARE_FAULTS".into(), self.socket.display().to_string())
    }

    /// Begins to count anew, without a fault.
    pub fn count(&self) {
        self.arm([]);
    }

    /// Begins to count anew, and makes these effects fail or hang when they come by.
    pub fn arm<'e>(&self, faults: impl IntoIterator<Item = (&'e Effect, Fault)>) {
        let mut state = self.shared.lock();
        state.seen.clear();
        state.counts.clear();
        state.faults = faults.into_iter().map(|(effect, fault)| (effect.clone(), fault)).collect();
        state.hanging = None;
        self.shared.hits.send_replace(0);
    }

    /// The effects since the counting began.
    pub fn seen(&self) -> Vec<Effect> {
        self.shared.lock().seen.clone()
    }

    /// The same, once there were none for a while.
    pub async fn all_seen(&self, quiet: Duration) -> Vec<Effect> {
        loop {
            let last = self.shared.lock().last;
            let rest = last.map_or(Duration::ZERO, |last| quiet.saturating_sub(last.elapsed()));
            if rest.is_zero() {
                return self.seen();
            }
            tokio::time::sleep(rest).await;
        }
    }

    /// Returns when so many of the effects that were armed have come by.
    pub async fn hit(&self, number: usize) {
        let mut hits = self.shared.hits.subscribe();
        hits.wait_for(|hits| *hits >= number).await.expect("the sender is ours");
    }

    /// Lets an effect that hangs happen after all.
    pub fn let_go(&self) {
        self.shared.lock().hanging = None;
    }
}

impl Shared {
    fn answer(&self, mut stream: UnixStream) {
        let mut question = String::new();
        let _ = stream.read_to_string(&mut question);
        // One that was killed before it had asked has written nothing, or not all.
        let Some((part, text)) = question.split_once('\t') else { return };
        let fault = self.lock().next(part, text);
        match fault {
            None => {}
            Some(Fault::Fail(errno)) => {
                let _ = write!(stream, "{}", errno.raw_os_error());
            }
            Some(Fault::LeaveOut) => {
                let _ = write!(stream, "{LEFT_OUT}");
            }
            Some(Fault::Hang) => self.lock().hanging = Some(stream),
        }
        self.hits.send_modify(|hits| *hits += usize::from(fault.is_some()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes an effect, and says what is to become of it.
    fn next(&mut self, part: &str, text: &str) -> Option<Fault> {
        let (part, text) = (part.to_string(), plain(&text.replace(&self.scratch, "")));
        let nth = self.counts.entry((part.clone(), text.clone())).or_default();
        *nth += 1;
        let effect = Effect { part, text, nth: *nth };
        self.last = Some(Instant::now());
        let fault = self.faults.iter().find(|(armed, fault)| {
            let same = (&armed.part, &armed.text) == (&effect.part, &effect.text);
            same && (*fault == Fault::LeaveOut || armed.nth == effect.nth)
        });
        let fault = fault.map(|it| it.1);
        self.seen.push(effect);
        fault
    }
}

/// Text without what is different each time: ids become `*`, numbers and addresses `N`. Names of
/// functions lose what the compiler adds to them.
fn plain(text: &str) -> String {
    let words: Vec<String> = text.split(' ').map(without_address_of_ipv6).collect();
    let text = words.join(" ");
    let text = text.replace("::{{closure}}", "").replace("tare_service::", "");
    let text = text.split("<impl ").map(|part| part.split_once(">::").map_or(part, |it| it.1));
    let text: String = text.collect();
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let hex = run_of(rest, |c| matches!(c, '0'..='9' | 'a'..='f'));
        let digits = run_of(rest, |c| c.is_ascii_digit());
        // A digit that follows a letter is part of a name: `eth0`.
        let in_name = plain.ends_with(|c: char| c.is_ascii_alphabetic());
        let (sign, length) = match (hex, digits) {
            (12.., _) => ("*", hex),
            (_, 1..) if in_name => (&rest[..digits], digits),
            (_, 1..) => ("N", digits),
            _ => (&rest[..first.len_utf8()], first.len_utf8()),
        };
        plain.push_str(sign);
        rest = &rest[length..];
    }
    plain
}

/// A word that is such an address becomes `N::N`, whatever its digits are: some are letters.
fn without_address_of_ipv6(word: &str) -> String {
    let address = word.split('/').next().unwrap_or(word);
    match address.parse::<Ipv6Addr>() {
        Ok(_) => word.replacen(address, "N::N", 1),
        Err(_) => word.into(),
    }
}

/// How many bytes at the beginning of a text are such.
fn run_of(text: &str, is_such: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_such(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_different_each_time_does_not_count() {
        let id = "0123456789abcdef".repeat(4);
        for (text, wanted) in [
            (format!("make directory /r/{id}/1"), "make directory /r/*/N"),
            (format!("create veth ve{}", &id[..12]), "create veth v*"),
            ("add 10.88.0.2/24 to eth0 as process 77".into(), "add N.N.N.N/N to eth0 as process N"),
            ("add address fd12::b3:2a/64 to eth1".into(), "add address N::N/N to eth1"),
            ("write 39 bytes".into(), "write N bytes"),
            (
                "use run.db in tare_service::engine::end::<impl tare_service::engine::Engine>\
                 ::write_end::{{closure}}::{{closure}}"
                    .into(),
                "use run.db in engine::end::write_end",
            ),
        ] {
            assert_eq!(plain(&text), wanted);
        }
    }
}
