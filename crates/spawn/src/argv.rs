//! Which programs are run with which arguments. Pure.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::launch::{Fd, Launch, Stdio};
use crate::{
    After, Checkpoint, Create, Exec, Extras, Force, JournalLog, Layout, Log, Profile, ProfileName,
    Settings, Stdin, Streams, Target,
};

/// Where conmon makes its socket for a terminal.
const TMPDIR: &str = "TMPDIR";
/// For what the runtimes call themselves (hooks have theirs from `config.json`).
const PATH: (&str, &str) = ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
/// conmon stamps its log in local time; UTC has no gaps.
const TZ: (&str, &str) = ("TZ", "UTC0");
/// Where conmon finds the pipes that [`Launch::fds`] of it begins with.
const SYNC_PIPE: (&str, &str) = ("_OCI_SYNCPIPE", "3");
const START_PIPE: (&str, &str) = ("_OCI_STARTPIPE", "4");

/// Where CRIU finds the settings for one checkpoint, in the working directory of who starts it. It
/// reads the host's settings too, and these after them.
const CRIU_CONFIG: (&str, &str) = ("CRIU_CONFIG_FILE", "criu.conf");
/// Where the runtime finds the first of [`Launch::fds`].
const FIRST_FD: &str = "/proc/self/fd/3";
/// Both runtimes put what they restore into the group that its configuration names. CRIU would look for
/// the groups of the checkpoint, and cannot where the host has version 1 of them too.
const CGROUPS: &str = "--manage-cgroups-mode=ignore";

/// What all calls for one container have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Programs<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) layout: Layout<'a>,
    pub(crate) target: &'a Target,
    /// The runtime of the target.
    pub(crate) runtime: &'a Path,
}

impl Programs<'_> {
    /// conmon that creates the container; its pipes are `fds`.
    pub(crate) fn create(&self, request: &Create, fds: [Fd; 2]) -> Launch {
        let layout = &self.layout;
        let mut args = self.conmon_args(&layout.container_pid(), &layout.supervisor_pid());
        push(&mut args, "--exit-dir", layout.exit_dir());
        push(&mut args, "-b", layout.bundle());
        match &request.log {
            Log::File(path) => {
                let mut log = OsString::from("k8s-file:");
                log.push(path);
                push(&mut args, "-l", log);
            }
            Log::Journal(JournalLog { name }) => {
                push(&mut args, "-l", "journald:");
                push(&mut args, "--name", name);
            }
        }
        // Sockets lie in the bundle; without this conmon leaves a symbolic link elsewhere.
        args.push("--full-attach".into());
        let mut env = Vec::new();
        match request.stdin {
            Stdin::Null => {}
            Stdin::Open => args.push("-i".into()),
            Stdin::Terminal => {
                args.push("-t".into());
                // Where the runtime sends the terminal.
                env.push((TMPDIR, layout.console_dir().into()));
            }
        }
        if let Some(extras) = &request.restore {
            push(&mut args, "--restore", layout.images());
            for option in std::iter::once(CGROUPS).chain(extras.options()) {
                push(&mut args, "--runtime-opt", option);
            }
        }
        let launch = self.conmon(args, layout.exit_dir(), Stdio::Captured, fds);
        Launch { env: launch.env.into_iter().chain(env).collect(), ..launch }
    }

    /// conmon that runs one more process in the container; its pipes are `fds`.
    pub(crate) fn exec(&self, request: &Exec, stdio: [Fd; 3], fds: [Fd; 2]) -> Launch {
        let (layout, session) = (&self.layout, request.session);
        let dir = layout.exec(session);
        let mut args = self.conmon_args(&dir.join("container.pid"), &dir.join("conmon.pid"));
        // The runtime's standard error is the process's: errors have to go elsewhere.
        push(&mut args, "--runtime-arg", option("--log=", &exec_log(&dir)));
        args.push("-e".into());
        push(&mut args, "--exec-process-spec", layout.exec_process(session));
        push(&mut args, "--exit-dir", layout.exec_exit_dir(session));
        push(&mut args, "-l", "passthrough");
        if request.streams == Streams::Terminal {
            // Of the runtime itself: conmon would keep the terminal that it is asked for.
            push(
                &mut args,
                "--runtime-opt",
                option("--console-socket=", &layout.terminal_socket(session)),
            );
        }
        self.conmon(args, layout.exec_exit_dir(session), Stdio::Given(stdio), fds)
    }

    /// The runtime lets the container's process run.
    pub(crate) fn start(&self) -> Launch {
        self.call(&["start"])
    }

    /// The runtime forgets the container.
    pub(crate) fn delete(&self, force: Force) -> Launch {
        match force {
            Force::No => self.call(&["delete"]),
            Force::Kill => self.call(&["delete", "--force"]),
        }
    }

    /// The runtime has CRIU write the container into a directory.
    pub(crate) fn checkpoint(&self, request: &Checkpoint, images: Fd) -> Launch {
        let cwd = self.layout.checkpoint();
        let mut work = OsString::from("--work-path=");
        work.push(&cwd);
        let mut args = self.runtime_args();
        args.extend(["checkpoint".into(), format!("--image-path={FIRST_FD}").into(), work]);
        args.push(CGROUPS.into());
        args.extend((request.after == After::GoesOn).then(|| "--leave-running".into()));
        args.extend(request.extras.options().map(Into::into));
        args.push(self.target.id.as_str().into());
        let env = env(&[PATH, CRIU_CONFIG]);
        Launch { env, cwd, fds: vec![images], ..plain(self.runtime, args) }
    }

    fn call(&self, verb: &[&str]) -> Launch {
        let mut args = self.runtime_args();
        args.extend(verb.iter().map(OsString::from));
        args.push(self.target.id.as_str().into());
        plain(self.runtime, args)
    }

    fn runtime_args(&self) -> Vec<OsString> {
        let root = self.layout.runtime_root(self.target.runtime);
        vec![option("--root=", &root), "--log-format=json".into()]
    }

    fn conmon_args(&self, container_pid: &Path, supervisor_pid: &Path) -> Vec<OsString> {
        let id = self.target.id.as_str();
        let mut args: Vec<OsString> =
            ["--api-version", "1", "-c", id, "-u", id].map(Into::into).into();
        push(&mut args, "-r", self.runtime);
        for arg in self.runtime_args() {
            push(&mut args, "--runtime-arg", arg);
        }
        push(&mut args, "-p", container_pid);
        push(&mut args, "--conmon-pidfile", supervisor_pid);
        args
    }

    /// conmon leaves its note of a lack of memory in its working directory.
    fn conmon(&self, args: Vec<OsString>, cwd: PathBuf, stdio: Stdio, fds: [Fd; 2]) -> Launch {
        let env = env(&[PATH, TZ, SYNC_PIPE, START_PIPE]);
        let program = self.settings.conmon.clone();
        Launch { program, args, env, cwd, stdio, fds: fds.into(), group: None }
    }
}

impl Extras {
    /// The runtimes have them by the same names, of a checkpoint and of its restoration.
    fn options(self) -> impl Iterator<Item = &'static str> {
        [
            (self.tcp_established, "--tcp-established"),
            (self.file_locks, "--file-locks"),
            (self.external_unix_sockets, "--ext-unix-sk"),
        ]
        .into_iter()
        .filter_map(|(wanted, option)| wanted.then_some(option))
    }
}

/// `apparmor_parser` puts the profile of a text into the kernel.
pub(crate) fn load_profile(program: &Path, profile: &Profile) -> Launch {
    parser(program, "--replace", profile.as_str().into())
}

/// `apparmor_parser` takes a profile out of it.
pub(crate) fn unload_profile(program: &Path, name: &ProfileName) -> Launch {
    parser(program, "--remove", format!("profile \"{name}\" {{}}\n"))
}

/// What is read from standard input is kept nowhere else.
fn parser(program: &Path, verb: &str, text: String) -> Launch {
    let args = vec![verb.into(), "--skip-cache".into()];
    Launch { stdio: Stdio::Fed(text), ..plain(program, args) }
}

/// The runtime tells its version.
pub(crate) fn version(program: &Path) -> Launch {
    plain(program, vec!["--version".into()])
}

/// Where a runtime's errors go during an exec.
pub(crate) fn exec_log(dir: &Path) -> PathBuf {
    dir.join("runtime.log")
}

fn plain(program: &Path, args: Vec<OsString>) -> Launch {
    let (env, cwd) = (env(&[PATH]), "/".into());
    let (stdio, fds, group) = (Stdio::Captured, vec![], None);
    Launch { program: program.into(), args, env, cwd, stdio, fds, group }
}

fn env(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, OsString)> {
    pairs.iter().map(|(name, value)| (*name, value.into())).collect()
}

fn push(args: &mut Vec<OsString>, name: &str, value: impl Into<OsString>) {
    args.extend([name.into(), value.into()]);
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CgroupPath, CgroupView, Incarnation, OciRuntime};
    use std::sync::Arc;

    fn null() -> Fd {
        Arc::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    fn text(launch: &Launch, id: &str) -> String {
        let args: Vec<_> = launch.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        args.join(" ").replace(id, "ID")
    }

    #[test]
    fn arguments_are_exactly_these() {
        let id = "ab".repeat(32);
        let target = Target {
            id: id.parse().unwrap(),
            incarnation: Incarnation(2),
            runtime: OciRuntime::Runc,
        };
        let settings = Settings {
            run_dir: "/run/tare".into(),
            conmon: "/usr/bin/conmon".into(),
            crun: None,
            runc: Some("/usr/sbin/runc".into()),
            apparmor_parser: None,
            cgroups: CgroupView::Host,
        };
        let layout = Layout::new(&settings.run_dir, &target.id, target.incarnation);
        let runtime = Path::new("/usr/sbin/runc");
        let programs = Programs { settings: &settings, layout, target: &target, runtime };
        let cgroup: CgroupPath = "/tare/x".parse().unwrap();
        let mut request = Create {
            id: target.id.clone(),
            incarnation: target.incarnation,
            runtime: target.runtime,
            cgroup: cgroup.clone(),
            log: Log::File("/var/log/c".into()),
            stdin: Stdin::Null,
            restore: None,
        };

        let create = programs.create(&request, [null(), null()]);
        let bundle = "/run/tare/containers/ID/2";
        let common = "--api-version 1 -c ID -u ID -r /usr/sbin/runc \
                      --runtime-arg --root=/run/tare/oci/runc --runtime-arg --log-format=json";
        let want = format!(
            "{common} -p {bundle}/container.pid --conmon-pidfile {bundle}/conmon.pid \
             --exit-dir {bundle}/exit -b {bundle} -l k8s-file:/var/log/c --full-attach"
        );
        assert_eq!(text(&create, &id), want);
        assert_eq!(create.program, Path::new("/usr/bin/conmon"));
        assert!(create.cwd.ends_with("2/exit"));
        assert_eq!(create.env, env(&[PATH, TZ, SYNC_PIPE, START_PIPE]));

        let journal = JournalLog { name: "web".into() };
        let journaled = Create { log: Log::Journal(journal), ..request.clone() };
        let create = programs.create(&journaled, [null(), null()]);
        let named = "-l journald: --name web";
        assert_eq!(text(&create, &id), want.replace("-l k8s-file:/var/log/c", named));

        request.stdin = Stdin::Open;
        let create = programs.create(&request, [null(), null()]);
        assert_eq!(text(&create, &id), format!("{want} -i"));
        request.stdin = Stdin::Terminal;
        let create = programs.create(&request, [null(), null()]);
        assert_eq!(text(&create, &id), format!("{want} -t"));
        let console = (TMPDIR, "/run/tare/tty-abababababab-2");
        assert_eq!(create.env, env(&[PATH, TZ, SYNC_PIPE, START_PIPE, console]));

        request.stdin = Stdin::Null;
        request.restore = Some(Extras { file_locks: true, ..Extras::default() });
        let restore = programs.create(&request, [null(), null()]);
        let options =
            "--runtime-opt --manage-cgroups-mode=ignore --runtime-opt --file-locks".to_string();
        assert_eq!(text(&restore, &id), format!("{want} --restore {bundle}/images {options}"));

        let mut request =
            Checkpoint { target: target.clone(), after: After::Ends, extras: Extras::default() };
        let checkpoint = programs.checkpoint(&request, null());
        let want = format!(
            "--root=/run/tare/oci/runc --log-format=json checkpoint --image-path=/proc/self/fd/3 \
             --work-path={bundle}/checkpoint --manage-cgroups-mode=ignore"
        );
        assert_eq!(text(&checkpoint, &id), format!("{want} ID"));
        assert_eq!(checkpoint.env, env(&[PATH, ("CRIU_CONFIG_FILE", "criu.conf")]));
        assert!(checkpoint.cwd.ends_with("2/checkpoint"));
        request.after = After::GoesOn;
        request.extras =
            Extras { tcp_established: true, external_unix_sockets: true, file_locks: true };
        let all = "--leave-running --tcp-established --file-locks --ext-unix-sk";
        assert_eq!(text(&programs.checkpoint(&request, null()), &id), format!("{want} {all} ID"));

        let mut request =
            Exec { target: target.clone(), session: 5, cgroup, streams: Streams::Given };
        let exec = programs.exec(&request, [null(), null(), null()], [null(), null()]);
        let dir = format!("{bundle}/exec-5");
        let want = format!(
            "{common} -p {dir}/container.pid --conmon-pidfile {dir}/conmon.pid \
             --runtime-arg --log={dir}/runtime.log -e --exec-process-spec {dir}/process.json \
             --exit-dir {dir}/exit -l passthrough"
        );
        assert_eq!(text(&exec, &id), want);
        request.streams = Streams::Terminal;
        let exec = programs.exec(&request, [null(), null(), null()], [null(), null()]);
        let socket = "--console-socket=/run/tare/tty-abababababab-2-5";
        assert_eq!(text(&exec, &id), format!("{want} --runtime-opt {socket}"));

        let call = "--root=/run/tare/oci/runc --log-format=json";
        assert_eq!(text(&programs.start(), &id), format!("{call} start ID"));
        assert_eq!(text(&programs.delete(Force::No), &id), format!("{call} delete ID"));
        assert_eq!(text(&programs.delete(Force::Kill), &id), format!("{call} delete --force ID"));
    }

    #[test]
    fn profiles_come_by_standard_input() {
        let parser = Path::new("/usr/sbin/apparmor_parser");
        let all = "profile \"tare-default\" flags=(attach_disconnected, mediate_deleted) {\n}\n";
        let profile: Profile = all.to_string().try_into().unwrap();
        for (launch, verb, fed) in [
            (load_profile(parser, &profile), "--replace", all),
            (unload_profile(parser, profile.name()), "--remove", "profile \"tare-default\" {}\n"),
        ] {
            assert_eq!(text(&launch, "no id"), format!("{verb} --skip-cache"));
            assert_eq!(launch.program, parser);
            assert!(matches!(launch.stdio, Stdio::Fed(text) if text == fed));
        }
    }
}
