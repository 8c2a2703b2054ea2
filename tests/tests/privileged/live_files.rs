//! Files of containers that change while they run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use system_tests::{Client, ERROR, Options, RESOLV_CONF, Tared, failure, on_scratch_host};
use zbus::{OwnedObjectPath, Variant};

use super::started;

/// Reads its hosts all the time; complains if that is not all of it.
const READER: &str = r#"while :; do
    f=$(cat /etc/hosts)
    case $f in "127.0.0.1 localhost"*"host.tare.internal"*) ;; *) echo "$f" >> /torn;; esac
    echo >> /reads
done"#;

async fn network(client: &Client, name: &str, options: Options<'_>) -> OwnedObjectPath {
    client.manager("CreateNetwork", &(name, options)).await.unwrap()
}

async fn connect(client: &Client, path: &OwnedObjectPath, network: &OwnedObjectPath) {
    let body = (network, Options::new());
    client.call(path, "Container", "ConnectNetwork", &body).await.unwrap();
}

async fn disconnect(client: &Client, path: &OwnedObjectPath, network: &OwnedObjectPath) {
    let body = (network, 0_u64);
    client.call(path, "Container", "DisconnectNetwork", &body).await.unwrap();
}

async fn read(client: &Client, path: &OwnedObjectPath, file: &str) -> String {
    client.exec(path, &format!("cat {file}")).await.stdout
}

async fn addresses(client: &Client, path: &OwnedObjectPath) -> Vec<String> {
    let found = client.exec(path, "ip -o -4 addr show scope global").await.stdout;
    let address = |line: &str| line.split_whitespace().nth(3)?.split('/').next().map(Into::into);
    found.lines().filter_map(address).collect()
}

#[test]
fn privileged_hosts_and_resolv_conf_follow_the_networks_of_a_container_that_runs() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let second = network(&client, "second", Options::new()).await;
        let web = started(&client, "web", READER).await;
        let hosts = async || read(&client, &web, "/etc/hosts").await;
        let resolv_conf = async || read(&client, &web, "/etc/resolv.conf").await;
        let before = (hosts().await, resolv_conf().await);
        for _ in 0..10 {
            connect(&client, &web, &second).await;
            let (now, addresses) = (hosts().await, addresses(&client, &web).await);
            assert_eq!(addresses.len(), 2);
            for address in addresses {
                assert!(
                    now.lines()
                        .any(|it| it.starts_with(&format!("{address} ")) && it.ends_with(" web")),
                    "{now}"
                );
            }
            assert_eq!(resolv_conf().await.matches("nameserver").count(), 2);
            disconnect(&client, &web, &second).await;
            assert_eq!((hosts().await, resolv_conf().await), before);
        }
        let mounts = client.exec(&web, "grep -c ' /etc/hosts ' /proc/self/mountinfo").await.stdout;
        assert_eq!(mounts, "1\n", "none is left over another");
        assert_eq!(client.exec(&web, "cat /torn").await.stdout, "", "a part was read");
        let reads = client.exec(&web, "wc -l < /reads").await.stdout;
        assert!(reads.trim().parse::<u32>().unwrap() > 100, "{reads} reads tell nothing");
        client.remove(&web).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_what_a_container_writes_into_its_files_stays() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let second = network(&client, "second", Options::new()).await;
        let web = started(&client, "web", "sleep 1000").await;
        let write =
            "echo 192.0.2.1 mine >> /etc/hosts; echo nameserver 192.0.2.9 > /etc/resolv.conf";
        client.exec(&web, write).await;
        let before = read(&client, &web, "/etc/hosts").await;
        assert!(before.ends_with("host.tare.internal\n192.0.2.1 mine\n"), "{before}");
        connect(&client, &web, &second).await;
        let hosts = read(&client, &web, "/etc/hosts").await;
        assert!(hosts.ends_with("host.tare.internal\n192.0.2.1 mine\n"), "{hosts}");
        assert_eq!(hosts.lines().count(), before.lines().count() + 1, "{hosts}");
        assert_eq!(read(&client, &web, "/etc/resolv.conf").await, "nameserver 192.0.2.9\n");
        // What a new daemon finds is no change, and what was changed meanwhile is made up for.
        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(read(&client, &web, "/etc/hosts").await, hosts);
        assert_eq!(read(&client, &web, "/etc/resolv.conf").await, "nameserver 192.0.2.9\n");
        disconnect(&client, &web, &second).await;
        assert_eq!(read(&client, &web, "/etc/hosts").await, before);
        // What is mounted over it is left alone, and so is what is below.
        client.remove(&web).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_hosts_begin_with_a_file_of_roots_as_it_was_at_the_start() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let second = network(&client, "second", Options::new()).await;
        let base = host.path("base-hosts");
        fs::write(&base, "192.0.2.5 of-path localhost\n").unwrap();
        let mode = |mode| fs::set_permissions(&base, Permissions::from_mode(mode)).unwrap();
        let options = || {
            Options::from([
                ("Command", vec!["sleep", "1000"].into()),
                ("BaseHosts", base.display().to_string().into()),
            ])
        };
        let asked = ("busybox", options(), 0_u64);
        let (_, _, action): (String, Vec<String>, String) =
            client.manager("GenerateSpec", &asked).await.unwrap();
        assert!(action.ends_with(".create-privileged-container"), "{action}");
        let web = client.create_with("web", options()).await.unwrap();
        mode(0o666);
        assert_eq!(failure(&client.start(&web).await), format!("{ERROR}.InvalidSpec"));
        mode(0o644);
        client.start(&web).await.done();
        let has_it = async |client: &Client| {
            let hosts = read(client, &web, "/etc/hosts").await;
            hosts.lines().any(|line| line == "192.0.2.5 of-path") && hosts.contains(" web\n")
        };
        assert!(has_it(&client).await);
        fs::remove_file(&base).unwrap();
        connect(&client, &web, &second).await;
        assert!(has_it(&client).await);
        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        disconnect(&client, &web, &second).await;
        assert!(has_it(&client).await);
        client.remove(&web).await.done();
        tared.stop();
    });
}

/// Waits until a file of a container says this.
async fn says(client: &Client, path: &OwnedObjectPath, wanted: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let now = read(client, path, "/etc/resolv.conf").await;
        if now == wanted {
            return;
        }
        assert!(Instant::now() < end, "it says {now:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn privileged_containers_follow_the_resolvers_of_the_host() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "mute", Options::from([("DNS", false.into())])).await;
        let sleeps = || ("Command", Variant::from(vec!["sleep", "1000"]));
        let on_mute = || {
            let row = std::collections::HashMap::from([("Network", Variant::from("mute"))]);
            ("Networks", Variant::from(vec![row]))
        };
        let run = async |name: &str, options: Options<'_>| {
            let path = client.create_with(name, options).await.unwrap();
            client.start(&path).await.done();
            path
        };
        let follows = run("follows", Options::from([sleeps(), on_mute()])).await;
        let of_host =
            run("of-host", Options::from([sleeps(), ("NetworkMode", "host".into())])).await;
        let own = Options::from([sleeps(), on_mute(), ("DNS", vec!["192.0.2.44"].into())]);
        let own = run("own", own).await;
        let named = run("named", Options::from([sleeps()])).await;
        let (before_own, before_named) = (
            read(&client, &own, "/etc/resolv.conf").await,
            read(&client, &named, "/etc/resolv.conf").await,
        );
        says(&client, &follows, RESOLV_CONF).await;

        let other = "nameserver 203.0.113.9\n";
        let begun = Instant::now();
        fs::write("/etc/resolv.conf", other).unwrap();
        says(&client, &follows, other).await;
        let took = begun.elapsed();
        says(&client, &of_host, other).await;
        // Ten times what is promised, for machines that are slow.
        assert!(took < Duration::from_secs(10), "{took:?}");

        // A stub resolver, and the file of what is behind it, as systemd-resolved makes it.
        let stub = "nameserver 127.0.0.53\n";
        fs::write("/etc/resolv.conf", stub).unwrap();
        says(&client, &of_host, stub).await;
        says(&client, &follows, "").await;
        fs::create_dir_all("/run/systemd/resolve").unwrap();
        let behind = "nameserver 203.0.113.10\nsearch example.org\n";
        fs::write("/run/systemd/resolve/new", behind).unwrap();
        fs::rename("/run/systemd/resolve/new", "/run/systemd/resolve/resolv.conf").unwrap();
        says(&client, &follows, "search example.org\nnameserver 203.0.113.10\n").await;
        // It stands for nobody else: neither for a resolver of the host's own, nor for none.
        for own in ["nameserver 127.0.0.1\n", ""] {
            fs::write("/etc/resolv.conf", own).unwrap();
            says(&client, &of_host, own).await;
            says(&client, &follows, "").await;
        }
        fs::create_dir_all("/run/NetworkManager").unwrap();
        fs::write("/run/NetworkManager/no-stub-resolv.conf", "nameserver 203.0.113.11\n").unwrap();
        fs::write("/etc/resolv.conf", "nameserver 127.0.0.1\n").unwrap();
        says(&client, &follows, "nameserver 203.0.113.11\n").await;
        fs::remove_dir_all("/run/NetworkManager").unwrap();
        says(&client, &follows, "").await;
        fs::remove_dir_all("/run/systemd").unwrap();
        fs::write("/etc/resolv.conf", stub).unwrap();
        says(&client, &of_host, stub).await;
        says(&client, &follows, "").await;

        // While nobody looked.
        drop(client);
        tared.kill9();
        fs::write("/etc/resolv.conf", RESOLV_CONF).unwrap();
        let mut tared = tared.restart();
        let client = tared.client().await;
        says(&client, &follows, RESOLV_CONF).await;
        assert_eq!(read(&client, &own, "/etc/resolv.conf").await, before_own);
        assert_eq!(read(&client, &named, "/etc/resolv.conf").await, before_named);
        for path in [follows, of_host, own, named] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}
