//! A resolver, as hosts have one: it knows one address for everything, and remembers who was asked for.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Where everything is.
const EVERYTHING: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// A resolver; it goes on until the test ends.
#[derive(Clone, Debug, Default)]
pub struct Resolver(Arc<Mutex<Vec<String>>>);

impl Resolver {
    /// Answers on a socket.
    pub fn on(socket: UdpSocket) -> Self {
        let resolver = Self::default();
        let asked = resolver.clone();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let (name, answer) = answer(&buffer[..length]);
                asked.names().push(name);
                let _ = socket.send_to(&answer, from);
            }
        });
        resolver
    }

    /// The names it was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.names().clone()
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name in a question, and an answer of one address; RFC 1035, 4.1.
fn answer(question: &[u8]) -> (String, Vec<u8>) {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).into_owned());
        at += length + 1;
    }
    let end = at + 5;
    let mut answer = question[..end].to_vec();
    // A response, recursion wanted and had; one question, one answer.
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    // The name above, an address, for 60 s, of four bytes.
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    answer.extend(EVERYTHING.octets());
    (labels.join("."), answer)
}
