//! Programs of the host that run for a container, and devices by name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use system_tests::{Client, ERROR, Host, Options, Tared, failure, on_scratch_host};
use zbus::Variant;

const CDI: &str = r#"{"cdiVersion": "0.6.0", "kind": "example.com/zero", "devices": [{"name": "a",
    "containerEdits": {"env": ["ZERO=a"],
        "deviceNodes": [{"path": "/dev/nothing", "hostPath": "/dev/zero", "permissions": "r"}],
        "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/mnt/of-cdi", "options": ["ro"]}]}}]}"#;

fn with(key: &'static str, value: Vec<&str>) -> Options<'static> {
    let value: Vec<String> = value.into_iter().map(Into::into).collect();
    Options::from([("Command", vec!["sleep", "1000"].into()), (key, Variant::from(value))])
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory with one hook, which writes what it is told of a container, and when.
fn hook(host: &Host, stage: &str) -> String {
    let dir = host.path("hooks");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let (program, said) = (host.path("hook"), host.path("said"));
    write(
        &program,
        &format!("#!/bin/sh\n{{ echo $1; cat; echo; }} >> {}\n", said.display()),
        0o755,
    );
    let of = |stage: &str| {
        format!(
            r#"{{"version": "1.0.0", "hook": {{"path": "{}", "args": ["hook", "{stage}"]}},
                 "when": {{"always": true}}, "stages": ["{stage}"]}}"#,
            program.display()
        )
    };
    for stage in [stage, "poststop"] {
        write(&dir.join(format!("{stage}.json")), &of(stage), 0o644);
    }
    dir.to_str().unwrap().to_owned()
}

async fn start_error(client: &Client, options: Options<'_>) -> String {
    let path = client.create_with("refused", options).await.unwrap();
    let ended = client.start(&path).await;
    let name = failure(&ended).to_owned();
    client.remove(&path).await.done();
    name
}

#[test]
fn privileged_hooks_of_a_directory_run_for_a_container() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let dir = hook(host, "createRuntime");
        let path = client.create_with("c", with("HooksDirs", vec![&dir])).await.unwrap();
        assert!(client.container(&path).await.get::<bool>("Privileged"));
        client.start(&path).await.done();
        let said = fs::read_to_string(host.path("said")).unwrap();
        let id = path.as_str().rsplit('/').next().unwrap();
        assert!(said.starts_with("createRuntime\n") && said.contains(id), "{said}");
        assert!(!said.contains("poststop"), "{said}");
        client.remove(&path).await.done();
        let said = fs::read_to_string(host.path("said")).unwrap();
        assert_eq!(said.matches("poststop\n").count(), 1, "{said}");

        // Nobody else may be able to say what runs as root.
        let file = Path::new(&dir).join("createRuntime.json");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let invalid = format!("{ERROR}.InvalidSpec");
        assert_eq!(start_error(&client, with("HooksDirs", vec![&dir])).await, invalid);
        write(&file, &fs::read_to_string(&file).unwrap(), 0o644);
        // Nor what the program is.
        let program = host.path("hook");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&program, 0o757);
        assert_eq!(start_error(&client, with("HooksDirs", vec![&dir])).await, invalid);
        mode(&program, 0o755);
        let open = host.path("open");
        fs::create_dir(&open).unwrap();
        fs::rename(&program, open.join("hook")).unwrap();
        std::os::unix::fs::symlink(open.join("hook"), &program).unwrap();
        mode(&open, 0o777);
        assert_eq!(start_error(&client, with("HooksDirs", vec![&dir])).await, invalid);
        mode(&open, 0o755);
        let path = client.create_with("c", with("HooksDirs", vec![&dir])).await.unwrap();
        client.start(&path).await.done();
        client.remove(&path).await.done();
        fs::rename(open.join("hook"), &program).unwrap();
        fs::remove_dir(&open).unwrap();
        fs::remove_file(&file).unwrap();
        hook(host, "precreate");
        assert_eq!(start_error(&client, with("HooksDirs", vec![&dir])).await, invalid);
        write(&Path::new(&dir).join("precreate.json"), "{}", 0o644);
        assert_eq!(start_error(&client, with("HooksDirs", vec![&dir])).await, invalid);
        assert_eq!(start_error(&client, with("HooksDirs", vec!["/no/such"])).await, invalid);
        tared.stop();
        fs::remove_dir_all(&dir).unwrap();
    });
}

#[test]
fn privileged_a_device_comes_by_its_name_with_what_belongs_to_it() {
    on_scratch_host(async |host| {
        let dir = Path::new("/run/cdi");
        fs::create_dir_all(dir).unwrap();
        write(&dir.join("zero.json"), CDI, 0o644);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let device = || with("CDIDevices", vec!["example.com/zero=a"]);
        let path = client.create_with("c", device()).await.unwrap();
        client.start(&path).await.done();
        let script = "head -c 4 /dev/nothing | od -An -tx1; tr '\\0' '\\n' < /proc/1/environ | grep ZERO; ls /mnt";
        let seen = client.exec(&path, script).await.stdout;
        assert_eq!(seen, " 00 00 00 00\nZERO=a\nof-cdi\n");
        assert!(client.container(&path).await.get::<bool>("Privileged"));
        client.remove(&path).await.done();
        let invalid = format!("{ERROR}.InvalidSpec");
        let absent = with("CDIDevices", vec!["example.com/zero=b"]);
        assert_eq!(start_error(&client, absent).await, invalid);
        fs::set_permissions(dir.join("zero.json"), fs::Permissions::from_mode(0o664)).unwrap();
        assert_eq!(start_error(&client, device()).await, invalid);
        write(&dir.join("zero.json"), CDI, 0o644);
        let wrong = client.create_with("c", with("CDIDevices", vec!["zero"])).await.unwrap_err();
        assert_eq!(wrong.name, "org.freedesktop.DBus.Error.InvalidArgs");
        tared.stop();
        fs::remove_dir_all(dir).unwrap();
    });
}
