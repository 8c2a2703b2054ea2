//! What people type, on the service as it is shipped: each of these needs something of the host that
//! the sandbox of its unit could keep from it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use system_tests::Ring::System;
use system_tests::registry::{Access, REGISTRY, Registry, USER};
use system_tests::{in_lab, run};

fn tarectl(arguments: &[&str]) -> String {
    run("tarectl", arguments)
}

fn page(url: &str) -> String {
    run("busybox", &["wget", "-Y", "off", "-q", "-O", "-", url])
}

#[test]
fn lab_networks_and_ports_work_as_shipped() {
    in_lab(System, async |lab| {
        lab.client().await.import_busybox().await;
        tarectl(&["network", "create", "--ipv6", "back"]);
        tarectl(&["run", "--name", "db", "--network", "back", "busybox", "sleep", "1000"]);
        let serve = ["httpd", "-f", "-p", "80", "-h", "/etc"];
        let web = ["run", "--name", "web", "--publish", "8080:80", "busybox"];
        tarectl(&[&web[..], &serve].concat());
        for at in ["127.0.0.1", "[::1]"] {
            assert!(page(&format!("http://{at}:8080/hosts")).contains("localhost"), "{at}");
        }

        tarectl(&["network", "connect", "--alias", "pages", "back", "web"]);
        let asked = ["wget", "-q", "-O", "-", "http://pages/hosts"];
        let seen = tarectl(&[&["exec", "db"][..], &asked].concat());
        assert_eq!(seen.matches(" web").count(), 3, "it knows itself at all its addresses: {seen}");
        tarectl(&["network", "disconnect", "back", "web"]);
        let seen = tarectl(&["exec", "web", "cat", "/etc/hosts"]);
        assert_eq!(seen.matches(" web").count(), 1, "{seen}");

        let sidecar = ["run", "--name", "sidecar", "--network", "container:web", "busybox"];
        tarectl(&[&sidecar[..], &["sleep", "1000"]].concat());
        tarectl(&["exec", "sidecar", "wget", "-q", "-O", "-", "http://127.0.0.1/hosts"]);
        tarectl(&["rm", "--force", "sidecar", "web", "db"]);
        tarectl(&["network", "rm", "back"]);
    });
}

#[test]
fn lab_files_volumes_and_images_work_as_shipped() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("sent"), "sent\n").unwrap();

        tarectl(&["volume", "create", "data"]);
        let host = format!("{}:/host:ro", dir.path().display());
        let create = ["run", "--name", "c", "--volume", "data:/data", "--volume", &host];
        tarectl(&[&create[..], &["busybox", "sleep", "1000"]].concat());
        tarectl(&["exec", "c", "sh", "-c", "echo kept > /data/file; cat /host/sent > /etc/new"]);
        assert!(tarectl(&["diff", "c"]).contains("A /etc/new"));
        tarectl(&["cp", &at("sent"), "c:/tmp"]);
        assert_eq!(tarectl(&["exec", "c", "cat", "/tmp/sent"]), "sent\n");
        tarectl(&["cp", "c:/etc/new", dir.path().to_str().unwrap()]);
        assert_eq!(fs::read_to_string(at("new")).unwrap(), "sent\n");
        tarectl(&["pause", "c"]);
        tarectl(&["commit", "c", "mine"]);
        tarectl(&["unpause", "c"]);
        tarectl(&["container", "export", "--output", &at("c.tar"), "c"]);
        tarectl(&["volume", "export", "--output", &at("data.tar"), "data"]);
        for (archive, member) in [("c.tar", "etc/new"), ("data.tar", "file")] {
            let list = run("tar", &["-tf", &at(archive)]);
            assert!(list.contains(member), "{archive}: {list}");
        }
        tarectl(&["stats", "c"]);
        tarectl(&["top", "c"]);
        tarectl(&["rm", "--force", "c"]);

        tarectl(&["create", "--name", "d", "mine", "cat", "/etc/new"]);
        tarectl(&["start", "d"]);
        assert_eq!(tarectl(&["wait", "d"]).trim(), "0");
        assert_eq!(tarectl(&["logs", "d"]), "sent\n");
        tarectl(&["rm", "d"]);
        tarectl(&["rmi", "mine"]);
        tarectl(&["volume", "import", "--replace", "data", &at("data.tar")]);
        tarectl(&["volume", "rm", "data"]);
    });
}

#[test]
fn lab_registries_work_as_shipped() {
    in_lab(System, async |lab| {
        lab.client().await.import_busybox().await;
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let _registry = Registry::start_in(dir.path().join("registry"), Access::Open);
        let there = format!("{REGISTRY}/busybox:1");
        tarectl(&["push", "--insecure", "busybox", &there]);
        tarectl(&["pull", "--insecure", &there]);
        tarectl(&["run", "--name", "pulled", &there, "sleep", "1000"]);
        assert_eq!(tarectl(&["exec", "pulled", "echo", "hello"]), "hello\n");
        tarectl(&["rm", "--force", "pulled"]);
        tarectl(&["rmi", &there]);
    });
}

/// Files of the host's, for as long as this is there.
struct Placed(Vec<&'static str>);

impl Placed {
    fn new(files: &[(&'static str, &str)]) -> Self {
        for (path, text) in files {
            fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }
        Self(files.iter().map(|(path, _)| *path).collect())
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

#[test]
fn lab_memory_is_shared_as_shipped() {
    in_lab(System, async |lab| {
        lab.client().await.import_busybox().await;
        tarectl(&["run", "--name", "owner", "busybox", "sleep", "1000"]);
        tarectl(&["run", "--name", "side", "--ipc", "container:owner", "busybox", "sleep", "1000"]);
        tarectl(&["exec", "side", "sh", "-c", "echo hello >/dev/shm/note"]);
        assert_eq!(tarectl(&["exec", "owner", "cat", "/dev/shm/note"]), "hello\n");
        for name in ["side", "owner"] {
            tarectl(&["rm", "--force", name]);
        }
    });
}

#[test]
fn lab_what_the_host_says_of_registries_counts_as_shipped() {
    in_lab(System, async |lab| {
        lab.client().await.import_busybox().await;
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let _registry = Registry::start_in(dir.path().join("registry"), Access::Password);
        let conf = format!(
            "[[registry]]\nlocation = '{REGISTRY}'\ninsecure = true\n\
             [[registry]]\nprefix = 'images.test'\nlocation = '{REGISTRY}/mine'\ninsecure = true\n\
             [aliases]\napp = 'images.test/app'\n"
        );
        let encoded = run("sh", &["-c", &format!("printf %s '{USER}' | base64")]);
        let auth = format!(r#"{{"auths":{{"{REGISTRY}":{{"auth":"{}"}}}}}}"#, encoded.trim());
        let _placed = Placed::new(&[
            ("/etc/containers/registries.conf.d/50-tare.conf", &conf),
            ("/etc/tare/auth.json", &auth),
        ]);
        tarectl(&["push", "busybox", &format!("{REGISTRY}/mine/app:1")]);
        tarectl(&["pull", "app:1"]);
        let app = ["run", "--name", "pulled", "images.test/app:1", "sleep", "1000"];
        tarectl(&app);
        assert_eq!(tarectl(&["exec", "pulled", "echo", "hello"]), "hello\n");
        tarectl(&["rm", "--force", "pulled"]);
        tarectl(&["rmi", "images.test/app:1"]);
    });
}
