//! A leak of any kind is reported by name, and nothing is when it is gone.

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rusqlite::Connection;
use rustix::event::{EventfdFlags, eventfd};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use system_tests::{Host, Tared, on_scratch_host, run};

/// Takes a planted thing away.
type Remove<'h> = Box<dyn FnOnce() + 'h>;

/// Plants something, looks for `says` among the differences, takes it away, and looks that there
/// are none.
fn is_reported<'h>(host: &'h Host, about: &str, says: &str, plant: impl FnOnce() -> Remove<'h>) {
    let before = host.world();
    let remove = plant();
    let is_seen = || {
        let differences = before.differences(&host.world());
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        if lines.iter().any(|line| line.starts_with(says)) { Ok(()) } else { Err(lines) }
    };
    // A process may take a moment to become what it is to be.
    let mut seen = is_seen();
    for _ in 0..50 {
        if seen.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        seen = is_seen();
    }
    seen.unwrap_or_else(|lines| panic!("{about}: no {says:?} in {lines:#?}"));
    remove();
    host.settles_to(&before);
}

/// The same with commands of one program: what is there first, and what is planted and removed.
fn are_reported(
    host: &Host,
    program: &'static str,
    first: &[&str],
    plants: &[(&str, &'static str, &'static str, &str)],
) {
    let call = |command: &str| run(program, &command.split(' ').collect::<Vec<_>>());
    for command in first {
        call(command);
    }
    for (about, plant, remove, says) in plants {
        is_reported(host, about, says, || {
            call(plant);
            Box::new(move || drop(call(remove)))
        });
    }
}

#[test]
fn privileged_a_planted_link_is_reported() {
    on_scratch_host(async |host| {
        let first = [
            "link add keep type veth peer name peer",
            "link add bridge address 02:00:00:00:00:01 type bridge",
        ];
        let plants = [
            (
                "a pair",
                "link add leak0 type veth peer name leak1",
                "link del leak0",
                "new link: leak1 (down kind veth",
            ),
            ("up", "link set keep up", "link set keep down", "changed link: keep: down"),
            (
                "in a bridge",
                "link set keep master bridge",
                "link set keep nomaster",
                "changed link: keep: down",
            ),
            (
                "a size",
                "link set keep mtu 1400",
                "link set keep mtu 1500",
                "changed link: keep: down kind veth mtu 1500",
            ),
        ];
        are_reported(host, "ip", &first, &plants);
        run("ip", &["link", "del", "keep"]);
        run("ip", &["link", "del", "bridge"]);
    });
}

#[test]
fn privileged_a_planted_address_route_or_rule_is_reported() {
    on_scratch_host(async |host| {
        let plants = [
            (
                "an address",
                "addr add 192.0.2.1/32 dev lo",
                "addr del 192.0.2.1/32 dev lo",
                "new address: 192.0.2.1/32 on lo (scope global)",
            ),
            (
                "of IPv6",
                "-6 addr add 2001:db8::1/128 dev lo",
                "-6 addr del 2001:db8::1/128 dev lo",
                "new address: 2001:db8::1/128 on lo",
            ),
            (
                "a route",
                "route add 192.0.2.0/24 dev lo",
                "route del 192.0.2.0/24 dev lo",
                "new route: unicast 192.0.2.0/24 dev lo table main",
            ),
            (
                "of IPv6",
                "-6 route add 2001:db8::/32 dev lo",
                "-6 route del 2001:db8::/32 dev lo",
                "new route: unicast 2001:db8::/32 dev lo",
            ),
            (
                "in a table",
                "route add blackhole 192.0.2.7 table 7",
                "route del blackhole 192.0.2.7 table 7",
                "new route: blackhole 192.0.2.7 table 7",
            ),
            (
                "a rule",
                "rule add from 192.0.2.1 table 7",
                "rule del from 192.0.2.1 table 7",
                "new rule: IPv4 32765: ",
            ),
            (
                "of IPv6",
                "-6 rule add fwmark 7 table 7",
                "-6 rule del fwmark 7 table 7",
                "new rule: IPv6 32765: ",
            ),
        ];
        are_reported(host, "ip", &[], &plants);
    });
}

#[test]
fn privileged_a_planted_namespace_is_reported() {
    on_scratch_host(async |host| {
        let plants = [(
            "a namespace",
            "netns add leak",
            "netns del leak",
            "new network namespace: leak (inode ",
        )];
        are_reported(host, "ip", &["netns add keep"], &plants);
        let name = Path::new("/run/netns/leak");
        is_reported(host, "its name alone", "new network namespace: leak (an empty name)", || {
            File::create(name).unwrap();
            Box::new(|| fs::remove_file(name).unwrap())
        });
        run("ip", &["netns", "del", "keep"]);
        unmount("/run/netns", UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn privileged_a_planted_piece_of_firewall_is_reported() {
    on_scratch_host(async |host| {
        let first = [
            "add table inet keep",
            "add set inet keep s { type ipv4_addr; }",
            "add element inet keep s { 192.0.2.1 }",
            "add chain inet keep c",
        ];
        let plants = [
            (
                "an element",
                "add element inet keep s { 192.0.2.2 }",
                "delete element inet keep s { 192.0.2.2 }",
                "new firewall: inet keep/set s: 192.0.2.2",
            ),
            (
                "a rule",
                "add rule inet keep c ip saddr 192.0.2.1 counter drop",
                "flush chain inet keep c",
                "new firewall: inet keep/chain c: ip saddr 192.0.2.1 counter drop",
            ),
            (
                "a chain",
                "add chain inet keep leak",
                "delete chain inet keep leak",
                "new firewall: inet keep/chain leak",
            ),
            ("a table", "add table ip leak", "delete table ip leak", "new firewall: ip leak"),
        ];
        are_reported(host, "nft", &first, &plants);
        run("nft", &["delete", "table", "inet", "keep"]);
    });
}

#[test]
fn privileged_a_planted_mount_is_reported() {
    on_scratch_host(async |host| {
        let at = host.path("mount point");
        fs::create_dir(&at).unwrap();
        let tmpfs = || mount("none", &at, "tmpfs", MountFlags::NODEV, None).unwrap();
        let off = || unmount(&at, UnmountFlags::empty()).unwrap();
        let name = at.display().to_string().replace(' ', "\\040");
        is_reported(host, "a mount", &format!("new mount: {name} (tmpfs "), || {
            tmpfs();
            Box::new(off)
        });
        tmpfs();
        is_reported(host, "the same on it", &format!("new mount: {name} (tmpfs "), || {
            tmpfs();
            Box::new(off)
        });
        is_reported(
            host,
            "an option",
            &format!("changed mount: {name}: tmpfs / of none, rw,"),
            || {
                mount_remount(&at, MountFlags::NODEV | MountFlags::RDONLY, "").unwrap();
                Box::new(|| mount_remount(&at, MountFlags::NODEV, "").unwrap())
            },
        );
        off();
        fs::remove_dir(at).unwrap();
    });
}

#[test]
fn privileged_a_planted_group_is_reported() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let leak = own_group(host).join("leak").join("within");
        is_reported(host, "groups", &format!("new control group: {}", leak.display()), || {
            fs::create_dir_all(&leak).unwrap();
            Box::new(|| {
                fs::remove_dir(&leak).unwrap();
                fs::remove_dir(leak.parent().unwrap()).unwrap();
            })
        });
        tared.stop();
    });
}

/// The one of the daemon that runs.
fn own_group(host: &Host) -> PathBuf {
    let groups = host.scope().groups;
    groups[0].parent.join(&groups[0].prefix)
}

#[test]
fn privileged_a_planted_file_is_reported() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let (state, run) = (tared.setup().state.clone(), tared.setup().runtime.clone());
        let keep = state.join("tmp/keep");
        fs::write(&keep, "four").unwrap();
        let named = |change: &str, path: &Path, how: &str| {
            format!("{change} file: {}{how}", path.display())
        };
        for (path, says) in [
            (state.join("containers/leak"), " (file of 4 bytes 0644 0:0)"),
            (run.join("containers/leak"), " (file of 4 bytes 0644 0:0)"),
            (PathBuf::from("/run/leak"), " (file of 4 bytes 0644 0:0)"),
            (state.join("logs/leak"), " (file 0644 0:0)"),
        ] {
            is_reported(host, "a file", &named("new", &path, says), || {
                fs::write(&path, "leak").unwrap();
                Box::new(move || fs::remove_file(&path).unwrap())
            });
        }
        let link = state.join("link");
        is_reported(host, "a link", &named("new", &link, " (link to leak 0777 0:0)"), || {
            symlink("leak", &link).unwrap();
            Box::new(|| fs::remove_file(&link).unwrap())
        });
        is_reported(host, "a socket", &named("new", &link, " (socket 0755 0:0)"), || {
            UnixListener::bind(&link).unwrap();
            Box::new(|| fs::remove_file(&link).unwrap())
        });
        let changed = ": file of 4 bytes 0644 0:0 -> file of 4 bytes 0600 0:0";
        is_reported(host, "a mode", &named("changed", &keep, changed), || {
            fs::set_permissions(&keep, Permissions::from_mode(0o600)).unwrap();
            Box::new(|| fs::set_permissions(&keep, Permissions::from_mode(0o644)).unwrap())
        });
        let changed = ": file of 4 bytes 0644 0:0 -> file of 5 bytes 0644 0:0";
        is_reported(host, "a size", &named("changed", &keep, changed), || {
            fs::write(&keep, "fives").unwrap();
            Box::new(|| fs::write(&keep, "four").unwrap())
        });
        fs::remove_file(keep).unwrap();
        tared.stop();
    });
}

#[test]
fn privileged_a_planted_row_is_reported() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let state = tared.setup().state.join("state.db");
        let run = tared.setup().runtime.join("db/run.db");
        for (file, plant, remove, says) in [
            (
                &state,
                "INSERT INTO meta VALUES ('leak', 'x')",
                "DELETE FROM meta WHERE key = 'leak'",
                "new row: {} meta leak (value=x)",
            ),
            (
                &state,
                "UPDATE networks SET owner_uid = 7",
                "UPDATE networks SET owner_uid = 0",
                "changed row: {} networks tare: ",
            ),
            (
                &run,
                "INSERT INTO records VALUES ('leak', 'x', '{}')",
                "DELETE FROM records",
                "new row: {} records leak x",
            ),
            (
                &run,
                "CREATE TABLE bare (a TEXT, b TEXT); INSERT INTO bare VALUES ('leak', NULL)",
                "DROP TABLE bare",
                "new row: {} bare leak -",
            ),
            (
                &run,
                "INSERT INTO leases VALUES ('tare', '10.88.0.0/24', x'0a580007', 1, 'leak', NULL)",
                "UPDATE leases SET container = NULL",
                "new row: {} leases tare [0a, 58, 00, 07] (subnet=10.88.0.0/24 chosen=1 container=leak",
            ),
        ] {
            let says = says.replace("{}", &file.display().to_string());
            let change = |sql| Connection::open(file).unwrap().execute_batch(sql).unwrap();
            is_reported(host, plant, &says, || {
                change(plant);
                Box::new(move || change(remove))
            });
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_planted_process_is_reported() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let group = own_group(host).join("leak");
        fs::create_dir(&group).unwrap();
        let (mark, procs) = (host.path("mark"), group.join("cgroup.procs"));
        let named = format!("{} 1000", mark.display());
        for (about, script, argument, becomes) in [
            ("by its arguments", "exec -a \"$0\" sleep 1000", &mark, named.as_str()),
            ("by its group", "echo $$ >\"$0\"; exec sleep 1001", &procs, "sleep 1001"),
            (
                "by its mounts",
                "unshare --mount sh -c 'busybox mount --bind \"$0\" /mnt; exec sleep 1002' \"$0\"",
                &tared.setup().state,
                "sleep 1002",
            ),
        ] {
            is_reported(host, about, &format!("new process: {becomes} (process "), || {
                let child = begin(Command::new("bash").args(["-c", script]).arg(argument), becomes);
                Box::new(move || end(child))
            });
        }
        fs::remove_dir(&group).unwrap();
        tared.stop();
    });
}

#[test]
fn privileged_a_process_that_a_daemon_did_not_wait_for_is_reported() {
    on_scratch_host(async |host| {
        let daemon = host.path("tared");
        let says = "new process: sleep of a daemon (has ended, and nobody waits for it)";
        is_reported(host, "a zombie", says, || {
            let mut command = Command::new("bash");
            command.args(["-c", "sleep 0.1 & exec -a \"$0\" sleep 1000"]).arg(&daemon);
            let child = begin(&mut command, &format!("{} 1000", daemon.display()));
            Box::new(move || end(child))
        });
    });
}

#[test]
fn privileged_a_planted_descriptor_is_reported() {
    on_scratch_host(async |host| {
        let (state, gone) = (host.path("state.db"), host.path("gone"));
        fs::write(&state, "").unwrap();
        let deleted = File::create(&gone).unwrap();
        fs::remove_file(&gone).unwrap();
        let own = format!("pidfd of {}, ", std::process::id());
        for (says, fd) in [
            (own.as_str(), pidfd_open(getpid(), PidfdFlags::empty()).unwrap()),
            ("network namespace", File::open("/proc/thread-self/ns/net").unwrap().into()),
            (state.to_str().unwrap(), File::open(&state).unwrap().into()),
            (&format!("{} (deleted)", gone.display()), deleted.into()),
            ("socket", UnixStream::pair().unwrap().0.into()),
            ("pipe", std::io::pipe().unwrap().0.into()),
            ("eventfd", eventfd(0, EventfdFlags::empty()).unwrap()),
        ] {
            is_reported(host, says, &format!("new descriptor: {says}"), || {
                let child = stand_in(host, fd);
                Box::new(move || end(child))
            });
        }
    });
}

/// Something that looks like a daemon, with `fd` open.
fn stand_in(host: &Host, fd: OwnedFd) -> Child {
    let name = host.path("tared");
    let mut command = Command::new("sleep");
    command.arg0(&name).arg("1000");
    command.fd_mappings(vec![FdMapping { parent_fd: fd, child_fd: 3 }]).unwrap();
    begin(&mut command, &format!("{} 1000", name.display()))
}

/// Starts a program and waits until it has become the one with that command line.
fn begin(command: &mut Command, becomes: &str) -> Child {
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let line = || fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap();
    while line().replace('\0', " ").trim_end() != becomes {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
