use std::path::{Path, PathBuf};

use crate::{ContainerId, Incarnation, LiveFile, OciRuntime, Place};

/// What the names of sockets for terminals, and of directories of such, begin with, in the run directory.
pub const TERMINAL_SOCKETS: &str = "tty-";

/// What the names of the directories of sessions begin with.
const SESSIONS: &str = "exec-";

/// Where everything of one start of one container lies, below the run directory.
///
/// ```text
/// <run>/oci/<runtime>/                     state of the OCI runtime
/// <run>/tty-<id12>-<incarnation>/          while the container gets a terminal
/// <run>/tty-<id12>-<incarnation>-<n>       while a session gets one
/// <run>/containers/<id>/<incarnation>/     the bundle
///     config.json.new  files/              written by the caller, before `create`
///     files/<file>.next                    written by the caller, before `swap_file`
///     files/<file>.new                     the same while it is put in its place
///     config.json                          that file, from when conmon is let go on
///     rootfs/  shm/  images/               mount points; mounted in the container's view only
///     restore.log                          what CRIU said when the container was restored
///     checkpoint/                          made by the caller, before `checkpoint`
///     checkpoint/dump.log  stats-dump      what CRIU said then, and how long it took
///     conmon.pid  container.pid  attach  ctl  winsz      made by conmon
///     exit/<id>  exit/oom                  exit code (text); present if memory ran out
///     exec-<n>/process.json                written by the caller, before `exec`
///     exec-<n>/exit/<id>                   exit code of that session
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    run_dir: &'a Path,
    id: &'a ContainerId,
    incarnation: Incarnation,
}

impl<'a> Layout<'a> {
    /// The layout of `incarnation` of the container `id` below `run_dir`.
    pub fn new(run_dir: &'a Path, id: &'a ContainerId, incarnation: Incarnation) -> Self {
        Self { run_dir, id, incarnation }
    }

    /// The directory of all incarnations of the container.
    pub fn container(&self) -> PathBuf {
        self.run_dir.join("containers").join(self.id.as_str())
    }

    /// The bundle directory.
    pub fn bundle(&self) -> PathBuf {
        self.container().join(self.incarnation.to_string())
    }

    /// The configuration, as the caller writes it.
    ///
    /// It gets its name when conmon sits in its control group, just before conmon is let go on: a
    /// conmon that has lost its manager before that goes on by itself, where nobody would look for
    /// it, and finds nothing to make a container from.
    pub fn new_config_json(&self) -> PathBuf {
        self.bundle().join("config.json.new")
    }

    /// The OCI configuration.
    pub fn config_json(&self) -> PathBuf {
        self.bundle().join("config.json")
    }

    /// Where a mount is moved to.
    pub fn place(&self, place: Place) -> PathBuf {
        self.bundle().join(&*place.dir_name())
    }

    /// Where the root file system is mounted, in the container's view.
    pub fn rootfs(&self) -> PathBuf {
        self.place(Place::Rootfs)
    }

    /// Where `/dev/shm` is mounted, in the container's view.
    pub fn shm(&self) -> PathBuf {
        self.place(Place::Shm)
    }

    /// Files that are bound into the container (`resolv.conf` and the like).
    pub fn files(&self) -> PathBuf {
        self.bundle().join("files")
    }

    /// One of those that changes while the container runs, as it is now.
    pub fn live_file(&self, file: LiveFile) -> PathBuf {
        self.files().join(file.name())
    }

    /// What is to be in its place.
    pub fn next_live_file(&self, file: LiveFile) -> PathBuf {
        self.files().join(format!("{}.next", file.name()))
    }

    /// The same while it is put there: the container may have it already.
    pub(crate) fn new_live_file(&self, file: LiveFile) -> PathBuf {
        self.files().join(format!("{}.new", file.name()))
    }

    /// One more name of that, while it is found out whether the container has it.
    pub(crate) fn kept_live_file(&self, file: LiveFile) -> PathBuf {
        self.files().join(format!("{}.kept", file.name()))
    }

    /// Where the images of a checkpoint are mounted, in the view of a container that is restored.
    pub fn images(&self) -> PathBuf {
        self.place(Place::Images)
    }

    /// What CRIU said when the container was restored.
    pub fn restore_log(&self) -> PathBuf {
        self.bundle().join("restore.log")
    }

    /// Where CRIU is at work on a checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.bundle().join("checkpoint")
    }

    /// What CRIU said at that.
    pub fn dump_log(&self) -> PathBuf {
        self.checkpoint().join("dump.log")
    }

    /// How long it took it, and how much it wrote.
    pub fn dump_stats(&self) -> PathBuf {
        self.checkpoint().join("stats-dump")
    }

    /// The directory conmon writes the exit file into.
    pub fn exit_dir(&self) -> PathBuf {
        self.bundle().join("exit")
    }

    /// The exit file.
    pub fn exit_file(&self) -> PathBuf {
        self.exit_dir().join(self.id.as_str())
    }

    /// conmon's pid, as text.
    pub fn supervisor_pid(&self) -> PathBuf {
        self.bundle().join("conmon.pid")
    }

    /// Pid of the container's first process, as text.
    pub fn container_pid(&self) -> PathBuf {
        self.bundle().join("container.pid")
    }

    /// conmon's attach socket; its path may be too long to connect to by name.
    pub fn attach_socket(&self) -> PathBuf {
        self.bundle().join("attach")
    }

    /// The directory in which conmon makes the socket that the runtime sends the container's terminal to.
    /// It is there for as long as that takes, and its path is short enough for a socket's.
    pub fn console_dir(&self) -> PathBuf {
        let Incarnation(number) = self.incarnation;
        self.run_dir.join(format!("{TERMINAL_SOCKETS}{:.12}-{number}", self.id.as_str()))
    }

    /// The directory of one exec session.
    pub fn exec(&self, session: u32) -> PathBuf {
        self.bundle().join(format!("{SESSIONS}{session}"))
    }

    /// The number of the session that a directory of the bundle, of that name, is of.
    pub fn session_of(name: &str) -> Option<u32> {
        name.strip_prefix(SESSIONS)?.parse().ok()
    }

    /// The OCI process of one exec session.
    pub fn exec_process(&self, session: u32) -> PathBuf {
        self.exec(session).join("process.json")
    }

    /// The socket that the runtime sends the terminal of an exec session to. It is there for as long as
    /// that takes, and its path is short enough for a socket's.
    pub fn terminal_socket(&self, session: u32) -> PathBuf {
        let Incarnation(number) = self.incarnation;
        self.run_dir.join(format!("{TERMINAL_SOCKETS}{:.12}-{number}-{session}", self.id.as_str()))
    }

    /// The directory conmon writes the exit file of one exec session into.
    pub fn exec_exit_dir(&self, session: u32) -> PathBuf {
        self.exec(session).join("exit")
    }

    /// The exit file of one exec session.
    pub fn exec_exit_file(&self, session: u32) -> PathBuf {
        self.exec_exit_dir(session).join(self.id.as_str())
    }

    /// The state directory of an OCI runtime, shared by all containers.
    pub fn runtime_root(&self, runtime: OciRuntime) -> PathBuf {
        self.run_dir.join("oci").join(runtime.as_str())
    }

    /// What the OCI runtime knows of this container; absent if it knows nothing.
    pub fn runtime_state(&self, runtime: OciRuntime) -> PathBuf {
        self.runtime_root(runtime).join(self.id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_lies_below_the_bundle_or_the_runtime_root() {
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        let layout = Layout::new(Path::new("/run/tare"), &id, Incarnation(3));
        let bundle = format!("/run/tare/containers/{id}/3");
        assert_eq!(layout.bundle(), Path::new(&bundle));
        assert_eq!(layout.exec(7), Path::new(&format!("{bundle}/exec-7")));
        for (name, session) in [("exec-7", Some(7)), ("exec-", None), ("exit", None), ("7", None)] {
            assert_eq!(Layout::session_of(name), session, "{name}");
        }
        for path in [
            layout.config_json(),
            layout.rootfs(),
            layout.shm(),
            layout.files(),
            layout.live_file(LiveFile::Hosts),
            layout.next_live_file(LiveFile::ResolvConf),
            layout.new_live_file(LiveFile::Hosts),
            layout.exit_file(),
            layout.supervisor_pid(),
            layout.container_pid(),
            layout.attach_socket(),
            layout.exec_process(7),
            layout.exec_exit_file(7),
            layout.images(),
            layout.restore_log(),
            layout.dump_log(),
            layout.dump_stats(),
        ] {
            assert!(path.starts_with(&bundle), "{}", path.display());
        }
        assert_eq!(
            layout.runtime_state(OciRuntime::Runc),
            Path::new(&format!("/run/tare/oci/runc/{id}"))
        );
    }
}
