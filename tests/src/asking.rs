//! Somebody who asks for a name all the time, and counts what is not answered.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::network::in_network;

/// A question whose answer takes longer is lost: resolvers wait 5 s.
const PATIENCE: Duration = Duration::from_secs(4);
/// Who does not answer within this is not there.
const SOON: Duration = Duration::from_millis(500);
/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(2);

/// Asks one server for the address of one name, over and over.
#[derive(Debug)]
pub struct Asking {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Option<Vec<u8>>>>,
}

impl Asking {
    /// From the network namespace of that name.
    ///
    /// # Panics
    ///
    /// If there is no such namespace.
    pub fn from(namespace: &str, server: &str, name: &'static str) -> Self {
        let socket = in_network(namespace, || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect((server, 53)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let thread = {
            let end = end.clone();
            thread::spawn(move || {
                let mut answers = Vec::new();
                while !end.load(Ordering::Relaxed) {
                    let id = u16::try_from(answers.len() % 0xffff).unwrap();
                    answers.push(ask(&socket, id, name));
                    thread::sleep(PAUSE);
                }
                answers
            })
        };
        Self { end, thread }
    }

    /// The last four bytes of each answer, which are the address; `None` for one that did not come.
    ///
    /// # Panics
    ///
    /// If asking failed.
    pub fn stop(self) -> Vec<Option<Vec<u8>>> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Asks once from the network namespace of that name: the address, if it comes soon.
///
/// # Panics
///
/// If there is no such namespace.
pub fn asked_in(namespace: &str, server: &str, name: &str) -> Option<Vec<u8>> {
    let family = if server.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = in_network(namespace, || UdpSocket::bind(family).unwrap());
    socket.connect((server, 53)).ok()?;
    socket.set_read_timeout(Some(SOON)).unwrap();
    ask(&socket, 1, name)
}

/// RFC 1035, 4.1.
fn ask(socket: &UdpSocket, id: u16, name: &str) -> Option<Vec<u8>> {
    // One question, recursion desired; an address, of the Internet.
    let mut question = id.to_be_bytes().to_vec();
    question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, u8::try_from(name.len()).unwrap()]);
    question.extend(name.bytes().chain([0, 0, 1, 0, 1]));
    // Nobody listens: as good as no answer, but known at once.
    socket.send(&question).ok()?;
    let mut answer = [0; 512];
    loop {
        let length = socket.recv(&mut answer).ok()?;
        if answer[..2] == id.to_be_bytes() {
            // An answer, and no error.
            let good = answer[3] % 16 == 0 && answer[7] == 1;
            return good.then(|| answer[length - 4..length].to_vec());
        }
    }
}
