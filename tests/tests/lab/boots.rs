//! A whole system in a container.

use std::fs::File;
use std::io::Seek;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use system_tests::Ring::System;
use system_tests::{Options, in_lab};

/// What systemd and its bus need of this system, without what would keep containers in there.
fn this_system() -> File {
    let mut archive = File::from(memfd_create("system", MemfdFlags::CLOEXEC).unwrap());
    let mut tar = Command::new("tar");
    tar.args(["--create", "--one-file-system", "--directory=/"]);
    // Large, and not needed by what is started in there.
    tar.args(
        ["doc", "man", "locale", "podman", "python3", "criu", "tare-lab", "modules", "firmware"]
            .map(|name| format!("--exclude=usr/*/{name}")),
    );
    tar.args([
        "--exclude=*tare*",
        "--exclude=*netavark*",
        "--exclude=*podman*",
        "bin",
        "sbin",
        "lib",
        "lib64",
        "etc",
        "usr",
    ]);
    let done = tar.stdout(archive.try_clone().unwrap()).status().unwrap();
    assert!(done.success(), "{done}");
    archive.rewind().unwrap();
    archive
}

/// Waits until systemd answers and has done all it is to do; what has failed, if anything has.
const IS_UP: &str = "for _ in $(seq 100); do
    state=$(systemctl is-system-running --wait 2>/dev/null)
    case $state in '' | offline | unknown) sleep 0.1 ;; *) break ;; esac
done
echo $state
[ $state = running ] || systemctl --failed --no-legend";

#[test]
fn lab_a_systemd_boots_to_running_in_a_container_and_ends_when_it_is_stopped() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let named =
            Options::from([("Reference", "debian".into()), ("Command", vec!["/sbin/init"].into())]);
        client.import(&this_system(), named).await.unwrap().done();
        let body = ("boots", "debian", Options::new());
        let path = client.manager("CreateContainer", &body).await.unwrap();
        client.start(&path).await.done();

        let up = client.exec(&path, IS_UP).await;
        assert_eq!(up.stdout, "running\n", "{}", client.logs(&path, Options::new()).await);
        let own = "cat /proc/1/comm; systemctl show --property=ControlGroup \
                   --value dbus.service; systemctl is-active systemd-journald.service";
        let seen = client.exec(&path, own).await;
        assert_eq!(seen.stdout, "systemd\n/system.slice/dbus.service\nactive\n");
        let seen = client.messages().len();
        client.job(&path, "Container", "Stop", &(30_000_000_u64, 0_u64)).await.unwrap().done();
        client.exit_after(seen, &path).await;
        let exit = client.exit(&path).await;
        assert_ne!(exit.signal, 9, "it was not patient with it");
        client.remove(&path).await.done();
    });
}
