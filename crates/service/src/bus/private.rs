//! A `dbus-daemon` of our own, for hosts without a system bus, or without a wish to use it.

use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::sys;
use crate::effects;

/// `sun_path` of unix(7), without the zero at its end.
const LONGEST_SOCKET: usize = 107;

/// Why there is no private bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its directory or configuration cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program is not there, or does not start.
    #[error("cannot start dbus-daemon")]
    Start(#[source] io::Error),
    /// The kernel has no room for the path of its socket.
    #[error("the path {} is longer than the {LONGEST_SOCKET} bytes of a socket's", path.display())]
    TooLong {
        /// Where the socket would be.
        path: PathBuf,
    },
    /// It ended before it said where it listens.
    #[error("dbus-daemon ended before it was ready")]
    NotReady,
}

/// A running `dbus-daemon`; ends when this is dropped, or when the daemon ends in any other way.
#[derive(Debug)]
pub struct PrivateBus {
    daemon: Child,
    address: String,
    dir: PathBuf,
}

impl PrivateBus {
    /// Starts one whose socket and configuration are in `<run>/bus`. Root and `invoker` may
    /// connect, nobody else.
    ///
    /// Call it from the main thread: the bus ends with the thread that started it.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn start(run: &Path, invoker: u32) -> Result<Self, Error> {
        let dir = run.join("bus");
        let (config, socket) = (dir.join("bus.conf"), dir.join("socket"));
        if socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(Error::TooLong { path: socket });
        }
        let write = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Write { path, source }
        };
        effects::make_dir(&dir, 0o711).map_err(write(&dir))?;
        // Whatever the umask of who started it.
        effects::set_mode(&dir, 0o711).map_err(write(&dir))?;
        effects::write_file(&config, &configuration(&socket, invoker)).map_err(write(&config))?;
        // A socket left by a daemon that was killed; its bus ended with it.
        effects::remove_file(&socket).map_err(write(&socket))?;
        let mut daemon = start(&config)?;
        let address = ready(&mut daemon)?;
        Ok(Self { daemon, address, dir })
    }

    /// Where it listens, as a D-Bus address.
    pub fn address(&self) -> String {
        self.address.clone()
    }
}

impl PrivateBus {
    /// Its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        // It has no state; ending is all there is to it.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = effects::remove_dir(&self.dir);
    }
}

fn start(config: &Path) -> Result<Child, Error> {
    let mut command = Command::new("dbus-daemon");
    command
        .arg("--nofork")
        .arg("--nopidfile")
        .arg("--nosyslog")
        .arg("--print-address=1")
        .arg(format!("--config-file={}", config.display()))
        // What is sent to the group of the daemon is not for the bus: the daemon says farewell first.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    effects::start_bus(sys::end_with_parent(&mut command)).map_err(Error::Start)
}

/// Waits until it has said where it listens, in one line.
fn ready(daemon: &mut Child) -> Result<String, Error> {
    let mut line = String::new();
    if let Some(stdout) = daemon.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(Error::Start)?;
    }
    match line.trim() {
        "" => {
            let _ = daemon.wait();
            Err(Error::NotReady)
        }
        address => Ok(address.into()),
    }
}

/// The limits are those of a system bus; nobody but root and `invoker` gets past the handshake.
fn configuration(socket: &Path, invoker: u32) -> String {
    let allowed = if invoker == 0 {
        r#"<allow user="root"/>"#.to_string()
    } else {
        format!(r#"<allow user="root"/><allow user="{invoker}"/>"#)
    };
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <deny user="*"/>
    {allowed}
    <deny own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
  <policy user="root">
    <allow own="org.tare.Containers1"/>
  </policy>
  <limit name="max_message_size">33554432</limit>
  <limit name="max_message_unix_fds">16</limit>
  <limit name="max_replies_per_connection">128</limit>
</busconfig>
"#,
        socket = escape(socket),
    )
}

/// A path in a D-Bus address: all but a few characters by their numbers, so that nothing is left
/// that would mean something in XML.
fn escape(path: &Path) -> String {
    let mut escaped = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'/' | b'\\' | b'.' => {
                escaped.push(char::from(*byte));
            }
            other => escaped.extend(['%', hex(other >> 4), hex(other & 15)]),
        }
    }
    escaped
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0')
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_path_means_nothing_but_itself_in_an_address() {
        for (path, address) in [
            ("/run/tare/bus-1.x_y", "/run/tare/bus-1.x_y"),
            ("/a b,c=d;e%f", "/a%20b%2cc%3dd%3be%25f"),
            ("/<&>\"'", "/%3c%26%3e%22%27"),
            ("/\u{e9}", "/%c3%a9"),
        ] {
            assert_eq!(escape(Path::new(path)), address);
        }
    }

    #[test]
    fn a_socket_that_cannot_be_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("r".repeat(100));
        fs::create_dir(&run).unwrap();
        let refused = PrivateBus::start(&run, 0).unwrap_err();
        assert!(matches!(refused, Error::TooLong { .. }), "{refused:?}");
        assert!(fs::read_dir(&run).unwrap().next().is_none());
    }
}
