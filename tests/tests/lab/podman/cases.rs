//! The same options, as podman and as Tare take them.

use std::collections::HashMap;

use system_tests::Options;
use zbus::Variant;

/// A container, in the words of both.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Arguments of `podman create`, before the image.
    pub(crate) podman: &'static [&'static str],
    /// Options of `CreateContainer`.
    pub(crate) tare: Options<'static>,
}

fn texts(list: &[&'static str]) -> Variant<'static> {
    list.to_vec().into()
}

fn table(pairs: &[(&'static str, &'static str)]) -> Variant<'static> {
    pairs.iter().copied().collect::<HashMap<_, _>>().into()
}

/// One row of an `aa{sv}`.
fn row<const N: usize>(pairs: [(&'static str, Variant<'static>); N]) -> Variant<'static> {
    vec![HashMap::from(pairs)].into()
}

fn case(
    name: &'static str,
    podman: &'static [&'static str],
    tare: &[(&'static str, Variant<'static>)],
) -> Case {
    Case { name, podman, tare: tare.iter().cloned().collect() }
}

/// What none of them says, both take from the same image and the same command.
pub(crate) fn cases() -> Vec<Case> {
    [process(), rights(), surroundings(), mounts()].into_iter().flatten().collect()
}

/// What runs.
fn process() -> Vec<Case> {
    vec![
        case("plain", &[], &[]),
        case("env", &["--env", "A=b", "--env", "C=d e=f"], &[("Env", texts(&["A=b", "C=d e=f"]))]),
        case("env-over", &["--env", "PATH=/bin:/x"], &[("Env", texts(&["PATH=/bin:/x"]))]),
        case("workdir", &["--workdir", "/etc"], &[("WorkingDir", "/etc".into())]),
        case("user-number", &["--user", "1000:1001"], &[("User", "1000:1001".into())]),
        case("user-name", &["--user", "www"], &[("User", "www".into())]),
        case("group-add", &["--group-add", "7"], &[("GroupAdd", texts(&["7"]))]),
        case("hostname", &["--hostname", "web"], &[("Hostname", "web".into())]),
        case(
            "entrypoint",
            &["--entrypoint", "[\"cat\",\"-\"]"],
            &[("Entrypoint", texts(&["cat", "-"]))],
        ),
        case("terminal", &["--tty"], &[("TTY", true.into())]),
        case("stdin", &["--interactive"], &[("OpenStdin", true.into())]),
        case("stop-signal", &["--stop-signal", "SIGUSR1"], &[("StopSignal", 10_i32.into())]),
        case("annotation", &["--annotation", "a=b"], &[("Annotations", table(&[("a", "b")]))]),
        case("labels", &["--label", "a=b"], &[("Labels", table(&[("a", "b")]))]),
    ]
}

/// What it may do.
fn rights() -> Vec<Case> {
    vec![
        case("read-only", &["--read-only"], &[("ReadOnlyRootfs", true.into())]),
        case(
            "read-only-all",
            &["--read-only", "--read-only-tmpfs=false"],
            &[("ReadOnlyRootfs", true.into()), ("ReadOnlyTmpfs", false.into())],
        ),
        case(
            "cap-add",
            &["--cap-add", "NET_RAW,SYS_TIME"],
            &[("CapAdd", texts(&["NET_RAW", "SYS_TIME"]))],
        ),
        case("cap-drop", &["--cap-drop", "CHOWN"], &[("CapDrop", texts(&["CHOWN"]))]),
        case("cap-drop-all", &["--cap-drop", "ALL"], &[("CapDrop", texts(&["ALL"]))]),
        case(
            "cap-few",
            &["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"],
            &[("CapDrop", texts(&["ALL"])), ("CapAdd", texts(&["NET_BIND_SERVICE"]))],
        ),
        case(
            "cap-of-user",
            &["--user", "1000", "--cap-add", "SYS_TIME"],
            &[("User", "1000".into()), ("CapAdd", texts(&["SYS_TIME"]))],
        ),
        case(
            "no-new-privileges",
            &["--security-opt", "no-new-privileges"],
            &[("NoNewPrivileges", true.into())],
        ),
        case(
            "no-seccomp",
            &["--security-opt", "seccomp=unconfined"],
            &[("Seccomp", "unconfined".into())],
        ),
        case("privileged", &["--privileged"], &[("Privileged", true.into())]),
    ]
}

/// Where it runs.
fn surroundings() -> Vec<Case> {
    vec![
        case("pid-host", &["--pid", "host"], &[("PIDMode", "host".into())]),
        case("ipc-host", &["--ipc", "host"], &[("IPCMode", "host".into())]),
        case("uts-host", &["--uts", "host"], &[("UTSMode", "host".into())]),
        case("cgroup-host", &["--cgroupns", "host"], &[("CgroupMode", "host".into())]),
        case("network-host", &["--network", "host"], &[("NetworkMode", "host".into())]),
        case(
            "sysctls",
            &[
                "--sysctl",
                "kernel.shmmax=1000000",
                "--sysctl",
                "net.ipv4.ip_unprivileged_port_start=0",
            ],
            &[(
                "Sysctls",
                table(&[
                    ("kernel.shmmax", "1000000"),
                    ("net.ipv4.ip_unprivileged_port_start", "0"),
                ]),
            )],
        ),
        case(
            "ulimits",
            &["--ulimit", "nofile=512:1024", "--ulimit", "core=0:0"],
            &[("Ulimits", vec![("nofile", 512_u64, 1024_u64), ("core", 0, 0)].into())],
        ),
        case("umask", &["--umask", "077"], &[("Umask", 0o077_u32.into())]),
        case("oom-score", &["--oom-score-adj", "100"], &[("OOMScoreAdjust", 100_i32.into())]),
    ]
}

/// What it sees.
fn mounts() -> Vec<Case> {
    vec![
        case("shm-size", &["--shm-size", "32m"], &[("ShmSize", (32_u64 << 20).into())]),
        case("tmpfs", &["--tmpfs", "/mem"], &[("Tmpfs", row([("Target", "/mem".into())]))]),
        case(
            "tmpfs-options",
            &["--tmpfs", "/mem:size=16m,mode=1770,exec"],
            &[(
                "Tmpfs",
                row([
                    ("Target", "/mem".into()),
                    ("Options", texts(&["size=16m", "mode=1770", "exec"])),
                ]),
            )],
        ),
        case(
            "bind-read-only",
            &["--volume", "/srv:/data:ro"],
            &[(
                "Mounts",
                row([
                    ("Source", "/srv".into()),
                    ("Target", "/data".into()),
                    ("ReadOnly", true.into()),
                ]),
            )],
        ),
        case(
            "bind-slave",
            &["--volume", "/srv:/data:rslave,noexec"],
            &[(
                "Mounts",
                row([
                    ("Source", "/srv".into()),
                    ("Target", "/data".into()),
                    ("Options", texts(&["rslave", "noexec"])),
                ]),
            )],
        ),
        case(
            "volume",
            &["--volume", "podmans:/data"],
            &[("Volumes", row([("Name", "tares".into()), ("Target", "/data".into())]))],
        ),
        case(
            "volume-read-only",
            &["--volume", "podmans:/data:ro,noexec"],
            &[(
                "Volumes",
                row([
                    ("Name", "tares".into()),
                    ("Target", "/data".into()),
                    ("ReadOnly", true.into()),
                    ("Options", texts(&["noexec"])),
                ]),
            )],
        ),
        case(
            "device",
            &["--device", "/dev/fuse"],
            &[("Devices", row([("Path", "/dev/fuse".into())]))],
        ),
        case(
            "device-read",
            &["--device", "/dev/fuse:/dev/other:r"],
            &[(
                "Devices",
                row([
                    ("Path", "/dev/fuse".into()),
                    ("Target", "/dev/other".into()),
                    ("Access", "r".into()),
                ]),
            )],
        ),
        case(
            "device-rule",
            &["--device-cgroup-rule", "c 189:* rwm"],
            &[("DeviceCgroupRules", texts(&["c 189:* rwm"]))],
        ),
        case("no-systemd", &["--systemd", "false"], &[("Systemd", "off".into())]),
        case("systemd", &["--systemd", "always"], &[("Systemd", "always".into())]),
    ]
}
