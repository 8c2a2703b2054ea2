//! Containers in networks that are not their own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use system_tests::{Client, ERROR, Options, Refused, Tared, failure, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

fn in_network(mode: &str) -> Options<'_> {
    Options::from([
        ("Command", Variant::from(vec!["sleep", "1000"])),
        ("NetworkMode", Variant::from(mode)),
    ])
}

async fn read(client: &Client, path: &OwnedObjectPath, script: &str) -> String {
    client.exec(path, script).await.stdout
}

/// Waits until hosts of all of these say the same, and `fits` what they say.
async fn agree(client: &Client, paths: &[&OwnedObjectPath], fits: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let mut texts = Vec::new();
        for path in paths {
            texts.push(read(client, path, "cat /etc/hosts /etc/resolv.conf").await);
        }
        if texts.iter().all(|text| *text == texts[0] && fits(text)) {
            return texts.swap_remove(0);
        }
        assert!(Instant::now() < end, "they do not agree: {texts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn error_of<T: std::fmt::Debug>(refused: Result<T, Refused>) -> String {
    refused.unwrap_err().short().to_owned()
}

#[test]
fn privileged_containers_share_a_network() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let web = client.create("web", "sleep 1000").await;
        let side = client.create_with("side", in_network("container:web")).await.unwrap();
        let third = client.create_with("third", in_network("container:side")).await.unwrap();
        let state =
            async |path: &OwnedObjectPath| client.container(path).await.get::<String>("State");

        client.start(&third).await.done();
        for path in [&web, &side, &third] {
            assert_eq!(state(path).await, "running", "the others come first");
        }
        let namespace = "readlink /proc/self/ns/net; ip -o -4 addr show eth0";
        let first = read(&client, &web, namespace).await;
        for path in [&side, &third] {
            assert_eq!(read(&client, path, namespace).await, first);
        }
        let addresses = async |client: &Client, path: &OwnedObjectPath| -> usize {
            let rows: Variant<'static> = client.container(path).await.get("IPAddresses");
            Vec::<std::collections::HashMap<String, Variant<'static>>>::try_from(rows)
                .unwrap()
                .len()
        };
        for path in [&web, &side, &third] {
            assert_eq!(addresses(&client, path).await, 1, "what is shared is seen of all");
        }
        let all = [&web, &side, &third];
        let known = |text: &str, name: &str| text.contains(&format!("\n127.0.0.1 {name}\n"));
        agree(&client, &all, |text| known(text, "side") && known(text, "third")).await;

        let second: OwnedObjectPath =
            client.manager("CreateNetwork", &("second", Options::new())).await.unwrap();
        let body = (&second, Options::new());
        client.call(&web, "Container", "ConnectNetwork", &body).await.unwrap();
        let text = agree(&client, &all, |text| text.matches(" web\n").count() == 2).await;
        assert_eq!(text.matches("nameserver").count(), 2, "{text}");
        for path in all {
            assert_eq!(addresses(&client, path).await, 2);
        }

        // Whoever shares it keeps it from going, also for the next daemon.
        let refused = async |client: &Client| {
            let ended = client.remove(&web).await;
            assert_eq!(failure(&ended), format!("{ERROR}.InvalidState"));
            assert!(ended.error_message.contains("'side'"), "{ended:?}");
        };
        refused(&client).await;
        assert_eq!(state(&web).await, "running", "it was not even killed");
        client.stop(&third).await.done();
        agree(&client, &[&web, &side], |text| known(text, "side") && !known(text, "third")).await;
        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        refused(&client).await;
        agree(&client, &[&web, &side], |text| known(text, "side") && !known(text, "third")).await;
        let counts = [&web, &side, &third].map(|path| addresses(&client, path));
        let [web_has, side_has, third_has] = counts;
        assert_eq!((web_has.await, side_has.await, third_has.await), (2, 2, 0), "one has ended");
        for path in [&third, &side, &web] {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_what_is_not_there_or_not_its_own_is_not_shared() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let of_host = client.create_with("of-host", in_network("host")).await.unwrap();
        let create = async |options| client.create_with("x", options).await;
        assert_eq!(error_of(create(in_network("container:nobody")).await), "NoSuchContainer");
        for mode in ["container:of-host", "container:"] {
            assert!(create(in_network(mode)).await.is_err(), "{mode}");
        }
        let web = client.create("web", "sleep 1000").await;
        let row = std::collections::HashMap::from([("Network", Variant::from("tare"))]);
        let mut both = in_network("container:web");
        both.insert("Networks", vec![row].into());
        assert!(create(both).await.is_err(), "a network of its own, too");
        let mut own = in_network("container:web");
        own.insert("DNS", vec!["192.0.2.1"].into());
        assert!(create(own).await.is_err(), "resolvers of its own, too");
        // Its files are those of the other one: what would be in its own is not dropped without a word.
        let line = std::collections::HashMap::from([("db", "192.0.2.1")]);
        for (option, value) in [
            ("Hosts", line.into()),
            ("BaseHosts", "host".into()),
            ("DNSSearch", vec!["of.example"].into()),
            ("DNSOptions", vec!["ndots:2"].into()),
        ] {
            let mut own = in_network("container:web");
            own.insert(option, value);
            assert_eq!(error_of(create(own).await), "InvalidSpec", "{option}");
        }
        for mode in ["ns:/nowhere", "ns:/dev/null", "ns:/proc/1/ns/mnt"] {
            assert_eq!(error_of(create(in_network(mode)).await), "InvalidSpec", "{mode}");
        }
        for path in [of_host, web] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_container_is_in_the_namespace_at_a_path_or_does_not_start() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        run("ip", &["netns", "add", "mine"]);
        run("ip", &["netns", "add", "other"]);
        let inside = client.create_with("inside", in_network("ns:/run/netns/mine")).await.unwrap();
        client.start(&inside).await.done();
        let inode = fs::metadata("/run/netns/mine").unwrap().ino();
        let seen = read(&client, &inside, "readlink /proc/self/ns/net").await;
        assert_eq!(seen, format!("net:[{inode}]\n"));
        client.stop(&inside).await.done();

        rustix::mount::mount_bind("/run/netns/other", "/run/netns/mine").unwrap();
        let ended = client.start(&inside).await;
        assert_eq!(failure(&ended), format!("{ERROR}.NetworkFailed"));
        rustix::mount::unmount("/run/netns/mine", rustix::mount::UnmountFlags::DETACH).unwrap();
        client.start(&inside).await.done();
        client.stop(&inside).await.done();
        // One of the same name, and sometimes of the same number, is another one.
        run("ip", &["netns", "del", "mine"]);
        run("ip", &["netns", "add", "mine"]);
        let ended = client.start(&inside).await;
        assert_eq!(failure(&ended), format!("{ERROR}.NetworkFailed"));
        client.remove(&inside).await.done();
        for name in ["mine", "other"] {
            run("ip", &["netns", "del", name]);
        }
        rustix::mount::unmount("/run/netns", rustix::mount::UnmountFlags::empty()).unwrap();
        tared.stop();
    });
}
