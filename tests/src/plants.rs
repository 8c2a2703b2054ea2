//! A leak of each kind, planted beside a service that runs: the guards that end each case have to tell
//! it by its name.

use std::any::Any;
use std::fs::{self, Permissions};
use std::io::PipeWriter;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::Connection;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use zbus::{Fd, OwnedObjectPath};

use crate::{Client, Options, run};

/// What was planted; it stays until it is [removed](Plants::remove).
#[derive(Debug)]
pub struct Plants {
    state: PathBuf,
    group: PathBuf,
    process: Child,
    /// While nothing is written into it the service has the other end open.
    import: Option<PipeWriter>,
}

impl Plants {
    /// Plants one of each kind where the service has its state, in a group that counts, with a process
    /// whose command line bears `mark`.
    pub fn plant(state: &Path, group: &Path, mark: &str) -> Self {
        run("ip", &["link", "add", "leak0", "type", "veth", "peer", "name", "leak1"]);
        run("ip", &["netns", "add", "leak"]);
        run("nft", &["add table inet leak; add set inet leak s { type ipv4_addr; }"]);
        run("nft", &["add element inet leak s { 192.0.2.1 }"]);
        fs::write(state.join("containers/leak"), "leak").unwrap();
        fs::create_dir(state.join("tmp/leak")).unwrap();
        mount("none", state.join("tmp/leak"), "tmpfs", MountFlags::NODEV, None).unwrap();
        fs::set_permissions(state.join("volumes"), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(group).unwrap();
        let database = Connection::open(state.join("state.db")).unwrap();
        database.execute("INSERT INTO meta VALUES ('leak', 'x')", []).unwrap();
        let mut sleep = Command::new("sleep");
        let process = sleep.arg0(mark).arg("1000").stdin(Stdio::null()).spawn().unwrap();
        Self { state: state.into(), group: group.into(), process, import: None }
    }

    /// Has the service wait for an archive that never comes, which it has open meanwhile.
    pub async fn leave_a_descriptor(&mut self, client: &Client) {
        let (archive, writer) = std::io::pipe().unwrap();
        let body = (Fd::from(archive.as_fd()), Options::new());
        client.manager::<_, OwnedObjectPath>("ImportImage", &body).await.unwrap();
        self.import = Some(writer);
    }

    /// Takes all of it away.
    pub fn remove(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let database = Connection::open(self.state.join("state.db")).unwrap();
        database.execute("DELETE FROM meta WHERE key = 'leak'", []).unwrap();
        fs::remove_dir(&self.group).unwrap();
        fs::set_permissions(self.state.join("volumes"), Permissions::from_mode(0o700)).unwrap();
        unmount(self.state.join("tmp/leak"), UnmountFlags::empty()).unwrap();
        fs::remove_dir(self.state.join("tmp/leak")).unwrap();
        fs::remove_file(self.state.join("containers/leak")).unwrap();
        run("nft", &["delete", "table", "inet", "leak"]);
        run("ip", &["netns", "del", "leak"]);
        run("ip", &["link", "del", "leak0"]);
        drop(self.import);
    }

    /// How each is told of, but for the descriptor.
    pub fn told(&self, mark: &str) -> Vec<String> {
        let state = self.state.display();
        vec![
            "new link: leak0 (down kind veth ".into(),
            "new link: leak1 (down kind veth ".into(),
            "new network namespace: leak (inode ".into(),
            format!("new mount: {state}/tmp/leak (tmpfs "),
            "new firewall: inet leak/set s: 192.0.2.1".into(),
            format!("new control group: {}", self.group.display()),
            format!("new file: {state}/containers/leak (file of 4 bytes 0644 0:0)"),
            format!("new row: {state}/state.db meta leak (value=x)"),
            format!("new process: {mark} 1000 (process {})", self.process.id()),
        ]
    }
}

/// How a descriptor is told of that the service keeps of an import.
pub const OPEN_PIPE: &str = "new descriptor: pipe";

/// What a case fails with that leaves something, a line each.
///
/// # Panics
///
/// If it does not fail.
pub fn complaint(case: impl FnOnce()) -> Vec<String> {
    let panic =
        catch_unwind(AssertUnwindSafe(case)).expect_err("something was left, and nobody saw it");
    text(&*panic).lines().map(Into::into).collect()
}

fn text(panic: &dyn Any) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// What is said of a case that was planted in this program of tests to fail: alone, with that limit in seconds.
///
/// # Panics
///
/// If it passes.
pub fn planted(name: &str, limit: u64) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", name])
        .env("TARE_CASE_LIMIT", limit.to_string())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
    assert_eq!(output.status.code(), Some(101), "{said}");
    said
}

/// That each of these is told of.
///
/// # Panics
///
/// If one is not.
pub fn are_told(complaint: &[String], wanted: &[String]) {
    for wanted in wanted {
        let is_told = complaint.iter().any(|line| line.starts_with(wanted));
        assert!(is_told, "nobody said {wanted:?}, but:\n{}", complaint.join("\n"));
    }
}
