//! A namespace that an OCI runtime makes, in the user namespace of a container: nobody else can make one that
//! is that container's own, so its network is made in it between creation and start.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::statfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use tare_netns::{configure, enter, teardown};

use crate::common::{bridge, command, container, ensure, on_scratch_host, world};

/// See `linux/magic.h`.
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
const BUNDLE: &str = "/run/bundle";
const ID: &str = "tare-netns-test";
/// Who root of the container is on the host.
const ROOT: u32 = 100_000;
/// What the container does: only the owner of a network may change an interface of it.
const SCRIPT: &str = "b=/bin/busybox; $b ip link set eth0 mtu 1300; \
                      echo hello | $b nc 10.88.0.1 5000; exec $b sleep 1000";

/// A container that one of these runtimes has made; it is gone when this is.
struct Container {
    runtime: &'static [&'static str],
    pid: i32,
}

impl Container {
    fn create(runtime: &'static [&'static str]) -> Self {
        fs::create_dir(BUNDLE).unwrap();
        fs::set_permissions(BUNDLE, fs::Permissions::from_mode(0o755)).unwrap();
        // Its own root makes devices there.
        for directory in ["", "/bin", "/dev", "/proc"] {
            let directory = format!("{BUNDLE}/rootfs{directory}");
            fs::create_dir(&directory).unwrap();
            chown(&directory, Some(ROOT), Some(ROOT)).unwrap();
        }
        fs::copy("/usr/bin/busybox", format!("{BUNDLE}/rootfs/bin/busybox")).unwrap();
        let config = config(&format!("/{ID}-{}-{}", runtime[0], std::process::id()));
        fs::write(format!("{BUNDLE}/config.json"), config.to_string()).unwrap();
        let pid = format!("{BUNDLE}/pid");
        let mut made = Self { runtime, pid: 0 };
        made.run(&["create", "--bundle", BUNDLE, "--pid-file", &pid, ID]);
        made.pid = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        made
    }

    /// What is made keeps what the runtime has to write to: no pipe of the test's.
    fn run(&self, arguments: &[&str]) {
        let said = format!("{BUNDLE}/said");
        let file = File::options().create(true).append(true).open(&said).unwrap();
        let mut runtime = Command::new(self.runtime[0]);
        runtime.args(&self.runtime[1..]).args(arguments).stdin(Stdio::null());
        runtime.stdout(file.try_clone().unwrap()).stderr(file);
        let status = runtime.status().unwrap();
        assert!(status.success(), "{runtime:?}: {}", fs::read_to_string(said).unwrap());
    }

    fn pidfd(&self) -> OwnedFd {
        pidfd_open(Pid::from_raw(self.pid).unwrap(), PidfdFlags::empty()).unwrap()
    }

    fn remove(self) {
        self.run(&["delete", "--force", ID]);
        for directory in [BUNDLE, "/run/runtime"] {
            fs::remove_dir_all(directory).unwrap();
        }
    }
}

/// A network namespace that the runtime makes has no path. Control groups are everybody's.
fn config(group: &str) -> Value {
    let namespaces = ["user", "network", "pid", "mount", "ipc", "uts"];
    let map = json!([{"containerID": 0, "hostID": ROOT, "size": 65_536}]);
    let capabilities = json!(["CAP_NET_ADMIN"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/busybox", "sh", "-c", SCRIPT],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": namespaces.map(|kind| json!({"type": kind})),
            "uidMappings": map,
            "gidMappings": map,
            "cgroupsPath": group,
        },
    })
}

/// What the first caller says, if one comes.
fn heard(listener: &TcpListener) -> String {
    listener.set_nonblocking(true).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let mut caller = loop {
        match listener.accept() {
            Ok((caller, _)) => break caller,
            Err(error) => assert!(Instant::now() < end, "nobody calls: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    caller.set_nonblocking(false).unwrap();
    let mut said = [0; 6];
    caller.read_exact(&mut said).unwrap();
    String::from_utf8(said.to_vec()).unwrap()
}

const GROUPS: &str = "/sys/fs/cgroup";

/// Where the host has both versions of control groups, a runtime may take neither: it sees the second alone.
struct Groups {
    is_mounted: bool,
}

impl Groups {
    fn unified() -> Self {
        let is_unified = statfs(GROUPS).unwrap().f_type == CGROUP2_SUPER_MAGIC;
        if !is_unified {
            mount("cgroup2", GROUPS, "cgroup2", MountFlags::empty(), None).unwrap();
        }
        Self { is_mounted: !is_unified }
    }

    fn leave(self) {
        if self.is_mounted {
            unmount(GROUPS, UnmountFlags::empty()).unwrap();
        }
    }
}

fn is_configured(runtime: &'static [&'static str]) {
    on_scratch_host(|| {
        let groups = Groups::unified();
        ensure(&bridge());
        let before = world();
        let made = Container::create(runtime);
        let wanted = container(&bridge(), 2);
        let namespace = configure(&wanted, made.pidfd().as_fd()).unwrap();
        let link = fs::read_link(format!("/proc/{}/ns/net", made.pid)).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("net:[{}]", namespace.inode));
        let listener = TcpListener::bind("10.88.0.1:5000").unwrap();
        made.run(&["start", ID]);
        assert_eq!(heard(&listener), "hello\n");
        let shown = enter(namespace.as_fd(), || command("ip", &["link", "show", "eth0"])).unwrap();
        assert!(shown.contains("mtu 1300"), "it is the container's own: {shown}");
        drop((listener, namespace));
        made.remove();
        teardown(&wanted).unwrap();
        assert_eq!(world(), before);
        groups.leave();
    });
}

#[test]
fn privileged_a_namespace_that_crun_made_is_configured_before_the_container_starts() {
    is_configured(&["crun", "--cgroup-manager", "cgroupfs", "--root", "/run/runtime"]);
}

#[test]
fn privileged_a_namespace_that_runc_made_is_configured_before_the_container_starts() {
    is_configured(&["runc", "--root", "/run/runtime"]);
}
