//! The host's resolvers, as its `resolv.conf` has them at the moment.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::PORT;

/// No more are asked: libc asks no more either (`MAXNS`).
const MAX: usize = 3;

/// The file is read again for the first question after this long.
const FRESH: Duration = Duration::from_secs(1);

/// A `resolv.conf`, read when somebody asks.
#[derive(Debug)]
pub(crate) struct Resolvers {
    path: PathBuf,
    known: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Resolvers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// Those to ask now, in their order.
    pub(crate) fn now(&self) -> Vec<SocketAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((read, list)) if read.elapsed() < FRESH => list.clone(),
            _ => {
                // Of a file that cannot be read nobody is known, as libc has it.
                let list = self.read().unwrap_or_default();
                *known = Some((Instant::now(), list.clone()));
                list
            }
        }
    }

    fn read(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(listed(&fs::read_to_string(&self.path)?))
    }
}

/// The name servers of a `resolv.conf`. Those on a link, with a zone, are passed over.
fn listed(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next()).flatten()?;
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, PORT))
    };
    text.lines().filter_map(server).take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_three_at_most() {
        let text = "# nameserver 192.0.2.9\nsearch a.org\nnameserver 127.0.0.53 # stub\n\
                    nameserver\nnameserver fe80::1%eth0\nnameserver\t2001:db8::1\n\
                    nameserver 192.0.2.1\nnameserver 192.0.2.2\n";
        let want = ["127.0.0.53:53", "[2001:db8::1]:53", "192.0.2.1:53"];
        assert_eq!(listed(text), want.map(|address| address.parse().unwrap()));
    }

    #[test]
    fn without_a_file_there_are_none() {
        assert_eq!(Resolvers::new("/none/such".into()).now(), []);
    }
}
