//! A registry of images: Debian's `docker-registry`, on the loopback of the test's host.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::archive::{Picture, oci_archive};
use crate::{Host, run};

/// Where it listens; the network is the test's own.
pub const REGISTRY: &str = "127.0.0.1:5000";

/// Who may pull where anybody has to say who they are.
pub const USER: &str = "me:secret";

/// `USER`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: &'static str,
    root: PathBuf,
    dir: PathBuf,
}

/// Who gets anything from a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// [`USER`].
    Password,
}

impl Registry {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If it does not answer in time.
    pub fn start(host: &Host, access: Access) -> Self {
        Self::start_in(host.path("registry"), access)
    }

    /// Starts one that has all that is its own in a directory, which it makes.
    ///
    /// # Panics
    ///
    /// If it does not answer in time.
    pub fn start_in(dir: PathBuf, access: Access) -> Self {
        Self::start_at(REGISTRY, dir, access)
    }

    /// The same, which listens elsewhere.
    ///
    /// # Panics
    ///
    /// If it does not answer in time.
    pub fn start_at(address: &'static str, dir: PathBuf, access: Access) -> Self {
        let root = dir.join("content");
        fs::create_dir_all(&root).unwrap();
        let (config, passwords) = (dir.join("registry.yml"), dir.join("htpasswd"));
        fs::write(&passwords, HTPASSWD).unwrap();
        let auth = match access {
            Access::Open => String::new(),
            Access::Password => {
                format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", passwords.display())
            }
        };
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}'}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n{auth}",
            root.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().expect("docker-registry is installed");
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "the registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address, root, dir }
    }

    /// Puts an image there, under a name such as `one:1`.
    pub fn put(&self, picture: &Picture, name: &str) {
        let archive = self.root.with_file_name("to-push.tar");
        fs::write(&archive, oci_archive(std::slice::from_ref(picture))).unwrap();
        let from = format!("oci-archive:{}:{}", archive.display(), picture.name);
        let to = format!("docker://{}/{name}", self.address);
        let options = ["--insecure-policy", "copy", "--dest-tls-verify=false"];
        run("skopeo", &[&options[..], &["--dest-creds", USER, &from, &to]].concat());
    }

    /// Changes a byte in the middle of every blob of at least so many bytes.
    pub fn spoil(&self, size: usize) {
        let blobs = self.root.join("docker/registry/v2/blobs/sha256");
        let dirs = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        for blob in dirs(blobs).flat_map(dirs) {
            let path = blob.join("data");
            let mut bytes = fs::read(&path).unwrap();
            if bytes.len() >= size {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
