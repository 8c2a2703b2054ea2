//! A `dbus-daemon` of our own, for hosts without a system bus, or without a wish to use it.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::sys;
use crate::effects;

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
        let write = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Write { path, source }
        };
        effects::make_dir(&dir, 0o711).map_err(write(&dir))?;
        let (config, socket) = (dir.join("bus.conf"), dir.join("socket"));
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
        socket = escape(&socket.display().to_string()),
    )
}

/// Text of an XML element; a D-Bus address also knows `%`, which no sane directory has.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
