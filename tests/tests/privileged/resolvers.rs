//! A host whose `resolv.conf` is not there, or says nothing that helps, and who is asked then.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use system_tests::network::{in_network, make_outside};
use system_tests::{
    Client, Host, Options, RESOLV_CONF, Resolver, Setup, Tared, on_scratch_host, run,
};
use zbus::OwnedObjectPath;

use crate::names::{lookup, network, on, running};

const RESOLV: &str = "/etc/resolv.conf";

/// An `/etc` of the test's own, where names come and go.
struct Etc(PathBuf);

impl Etc {
    fn of(host: &Host) -> Self {
        let own = host.path("etc");
        fs::create_dir(&own).unwrap();
        mount("tmpfs", &own, "tmpfs", MountFlags::empty(), None).unwrap();
        let [upper, work] = ["upper", "work"].map(|name| own.join(name));
        for dir in [&upper, &work] {
            fs::create_dir(dir).unwrap();
        }
        let (upper, work) = (upper.display(), work.display());
        let options = format!("lowerdir=/etc,upperdir={upper},workdir={work}");
        let options = std::ffi::CString::new(options).unwrap();
        mount("overlay", "/etc", "overlay", MountFlags::empty(), options.as_c_str()).unwrap();
        Self(own)
    }

    fn leave(self) {
        unmount("/etc", UnmountFlags::empty()).unwrap();
        unmount(&self.0, UnmountFlags::empty()).unwrap();
        fs::remove_dir(self.0).unwrap();
    }
}

fn take_away() {
    let path = Path::new(RESOLV);
    if path.is_dir() {
        fs::remove_dir(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
}

async fn resolv_conf(client: &Client, path: &OwnedObjectPath) -> String {
    client.exec(path, "cat /etc/resolv.conf").await.stdout
}

/// Ten times as long as it may take.
async fn says(client: &Client, path: &OwnedObjectPath, want: &str, about: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let now = resolv_conf(client, path).await;
        if now == want {
            return;
        }
        assert!(Instant::now() < end, "{about}: {now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Once a container could not start there.
#[test]
fn privileged_b12_containers_start_whatever_the_hosts_resolv_conf_is() {
    on_scratch_host(async |host| {
        let etc = Etc::of(host);
        fs::write(RESOLV, RESOLV_CONF).unwrap();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "mute", Options::from([("DNS", false.into())])).await;
        let stays = running(&client, "stays", vec![on("mute", &[])]).await;
        says(&client, &stays, RESOLV_CONF, "as the host has it").await;
        let kinds: [(&str, fn()); 7] = [
            ("missing", || {}),
            ("dangling", || symlink("/run/none/resolv.conf", RESOLV).unwrap()),
            ("a circle", || symlink("resolv.conf", RESOLV).unwrap()),
            ("empty", || fs::write(RESOLV, "").unwrap()),
            ("comments", || fs::write(RESOLV, "# nameserver 192.0.2.1\n;\n\n").unwrap()),
            ("a directory", || fs::create_dir(RESOLV).unwrap()),
            ("no text", || fs::write(RESOLV, b"nameserver \xff\xfe\n").unwrap()),
        ];
        for (about, make) in kinds {
            take_away();
            make();
            says(&client, &stays, "", about).await;
            let mute = running(&client, "mute", vec![on("mute", &[])]).await;
            assert_eq!(resolv_conf(&client, &mute).await, "", "{about}");
            let named = running(&client, "named", vec![on("tare", &[])]).await;
            assert_eq!(lookup(&client, &named, "-type=a named.").await.len(), 1, "{about}");
            assert_eq!(lookup(&client, &named, "example.org").await, ["SERVFAIL"], "{about}");
            let of_host = Options::from([
                ("Command", vec!["sleep", "1000"].into()),
                ("NetworkMode", "host".into()),
            ]);
            let of_host = client.create_with("of-host", of_host).await.unwrap();
            client.start(&of_host).await.done();
            for path in [mute, named, of_host] {
                client.remove(&path).await.done();
            }
            // It comes again, in the place of what was there.
            take_away();
            fs::write("/etc/resolv.conf.new", RESOLV_CONF).unwrap();
            fs::rename("/etc/resolv.conf.new", RESOLV).unwrap();
            says(&client, &stays, RESOLV_CONF, about).await;
        }
        // And a daemon that begins where there is none.
        drop(client);
        tared.kill9();
        take_away();
        let mut tared = tared.restart();
        let client = tared.client().await;
        says(&client, &stays, "", "for a new daemon").await;
        client.remove(&stays).await.done();
        tared.stop();
        etc.leave();
    });
}

/// As `ip netns exec` has it for whoever it puts there.
#[test]
fn privileged_a_namespace_that_somebody_made_may_have_resolvers_of_its_own() {
    on_scratch_host(async |host| {
        let etc = Etc::of(host);
        fs::write(RESOLV, RESOLV_CONF).unwrap();
        run("ip", &["netns", "add", "mine"]);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let in_mine = || {
            Options::from([
                ("Command", vec!["sleep", "1000"].into()),
                ("NetworkMode", "ns:/run/netns/mine".into()),
            ])
        };
        let says_there = async |want: &str| {
            let path = client.create_with("there", in_mine()).await.unwrap();
            client.start(&path).await.done();
            assert_eq!(resolv_conf(&client, &path).await, want);
            client.remove(&path).await.done();
        };
        says_there(RESOLV_CONF).await;
        fs::create_dir_all("/etc/netns/mine").unwrap();
        let own = "nameserver 127.0.0.9\n";
        fs::write("/etc/netns/mine/resolv.conf", own).unwrap();
        says_there(own).await;

        // One that runs there follows what is written down there, and what the host has where nothing is.
        fs::remove_dir_all("/etc/netns").unwrap();
        let there = client.create_with("stays", in_mine()).await.unwrap();
        client.start(&there).await.done();
        assert_eq!(resolv_conf(&client, &there).await, RESOLV_CONF);
        fs::create_dir_all("/etc/netns/mine").unwrap();
        fs::write("/etc/netns/mine/resolv.conf", own).unwrap();
        says(&client, &there, own, "written down").await;
        let other = "nameserver 127.0.0.10\n";
        fs::write("/etc/netns/mine/new", other).unwrap();
        fs::rename("/etc/netns/mine/new", "/etc/netns/mine/resolv.conf").unwrap();
        says(&client, &there, other, "replaced").await;
        // Also for the next daemon, which was away meanwhile.
        drop(client);
        tared.kill9();
        fs::write("/etc/netns/mine/resolv.conf", own).unwrap();
        let mut tared = tared.restart();
        let client = tared.client().await;
        says(&client, &there, own, "meanwhile").await;
        fs::write("/etc/netns/mine/resolv.conf", other).unwrap();
        says(&client, &there, other, "to the next one").await;
        fs::remove_file("/etc/netns/mine/resolv.conf").unwrap();
        says(&client, &there, RESOLV_CONF, "not there").await;
        client.remove(&there).await.done();
        tared.stop();
        run("ip", &["netns", "del", "mine"]);
        unmount("/run/netns", UnmountFlags::empty()).unwrap();
        etc.leave();
    });
}

/// Domains and options of its own are beside whoever is asked; only servers of its own are in their place.
#[test]
fn privileged_a_container_with_domains_of_its_own_follows_whom_the_host_asks() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "mute", Options::from([("DNS", false.into())])).await;
        let own = async |name: &str, options: &[(&'static str, &'static str)]| {
            let networks = ("Networks", vec![on("mute", &[])].into());
            let command = ("Command", vec!["sleep", "1000"].into());
            let options = options.iter().map(|(key, value)| (*key, vec![*value].into()));
            let options: Options<'static> = options.chain([networks, command]).collect();
            let path = client.create_with(name, options).await.unwrap();
            client.start(&path).await.done();
            path
        };
        let domain = own("domain", &[("DNSSearch", "of.example")]).await;
        let option = own("option", &[("DNSOptions", "ndots:3")]).await;
        let servers = own("servers", &[("DNS", "192.0.2.9"), ("DNSSearch", "of.example")]).await;
        let before = resolv_conf(&client, &servers).await;
        for server in ["203.0.113.9", "203.0.113.10"] {
            fs::write(RESOLV, format!("nameserver {server}\n")).unwrap();
            let want = format!("search of.example\nnameserver {server}\n");
            says(&client, &domain, &want, "its domain stays").await;
            let want = format!("nameserver {server}\noptions ndots:3\n");
            says(&client, &option, &want, "its option stays").await;
            assert_eq!(resolv_conf(&client, &servers).await, before, "it asks its own");
        }
        fs::write(RESOLV, RESOLV_CONF).unwrap();
        for path in [domain, option, servers] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

/// That the host has again what it had does not say that everybody has.
#[test]
fn privileged_who_starts_between_two_changes_gets_the_second() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "mute", Options::from([("DNS", false.into())])).await;
        let stays = running(&client, "stays", vec![on("mute", &[])]).await;
        let (first, second) = ("nameserver 203.0.113.9\n", "nameserver 203.0.113.10\n");
        // More than one may come before the service looks: not each of them is the one that counts.
        for turn in 0..8 {
            fs::write(RESOLV, first).unwrap();
            says(&client, &stays, first, "it follows").await;
            fs::write(RESOLV, second).unwrap();
            let between = running(&client, &format!("between{turn}"), vec![on("mute", &[])]).await;
            fs::write(RESOLV, first).unwrap();
            says(&client, &between, first, "it has started between two changes").await;
            client.remove(&between).await.done();
        }
        fs::write(RESOLV, RESOLV_CONF).unwrap();
        client.remove(&stays).await.done();
        tared.stop();
    });
}

/// Whoever has made an image may have put into it what it is to have.
#[test]
fn privileged_a_container_has_the_files_of_its_image_if_it_asks_for_them() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let second = network(&client, "second", Options::new()).await;
        let with = |pairs: &[(&'static str, &'static str)]| {
            let command = ("Command", vec!["sleep", "1000"].into());
            let pairs = pairs.iter().map(|(key, value)| (*key, (*value).into()));
            pairs.chain([command]).collect::<Options<'static>>()
        };
        let of_image = [("ResolvConf", "image"), ("HostsFile", "image"), ("HostnameFile", "image")];
        let theirs = client.create_with("theirs", with(&of_image)).await.unwrap();
        client.start(&theirs).await.done();
        let files = "cat /etc/resolv.conf /etc/hosts /etc/hostname 2>/dev/null";
        let mounts = "grep -c ' /etc/' /proc/self/mountinfo";
        assert_eq!(client.exec(&theirs, files).await.stdout, "", "the image has none");
        assert_eq!(client.exec(&theirs, mounts).await.stdout, "0\n");
        let own = "echo nameserver 192.0.2.7 > /etc/resolv.conf; echo 192.0.2.8 db > /etc/hosts";
        client.exec(&theirs, own).await;
        let before = client.exec(&theirs, files).await.stdout;
        let connect = (&second, Options::new());
        client.call(&theirs, "Container", "ConnectNetwork", &connect).await.unwrap();
        fs::write(RESOLV, "nameserver 203.0.113.9\n").unwrap();
        // It can share its network, and whoever does has what would be made.
        let sharing = client.create_with("sharing", with(&[("NetworkMode", "container:theirs")]));
        let sharing = sharing.await.unwrap();
        client.start(&sharing).await.done();
        assert_eq!(client.exec(&theirs, files).await.stdout, before, "nobody changes them");
        assert_eq!(client.exec(&theirs, "hostname").await.stdout.trim().len(), 12);
        let one = client.create_with("one", with(&[("HostsFile", "image")])).await.unwrap();
        client.start(&one).await.done();
        assert!(client.exec(&one, files).await.stdout.contains("nameserver"), "only those");
        for (key, value, other) in [
            ("ResolvConf", "host", None),
            ("ResolvConf", "image", Some(("DNS", vec!["192.0.2.1"]))),
            ("HostsFile", "/etc/hosts", None),
        ] {
            let mut options = with(&[(key, value)]);
            options.extend(other.map(|(key, value)| (key, value.into())));
            let refused = client.create_with("refused", options).await.unwrap_err();
            assert_eq!(refused.short(), "InvalidArgs", "{key} {value}: {refused:?}");
        }
        fs::write(RESOLV, RESOLV_CONF).unwrap();
        for path in [sharing, theirs, one] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

fn asked_for(resolver: &Resolver, name: &str) -> usize {
    resolver.asked().iter().filter(|it| *it == name).count()
}

/// Whom the administrator has named is asked where the host asks nobody: off, unless it is set.
#[test]
fn privileged_b13_who_is_named_for_that_is_asked_where_the_host_asks_nobody() {
    on_scratch_host(async |host| {
        make_outside();
        let fallback = in_network("outside", || UdpSocket::bind("203.0.113.2:53").unwrap());
        let fallback = Resolver::on(fallback);
        fs::write(RESOLV, "").unwrap();
        let config = host.path("tared.toml");
        fs::write(&config, "[network]\nfallback-dns = [\"203.0.113.2\"]\n").unwrap();
        let mut tared = Tared::with(Setup { config: Some(config.clone()), ..Setup::private(host) });
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "mute", Options::from([("DNS", false.into())])).await;
        network(&client, "inside", Options::from([("Internal", true.into())])).await;
        let mute = running(&client, "mute", vec![on("mute", &[])]).await;
        let named = running(&client, "named", vec![on("tare", &[])]).await;
        let inside = running(&client, "inside", vec![on("inside", &[])]).await;
        let of_fallback = "nameserver 203.0.113.2\n";
        says(&client, &mute, of_fallback, "in its file").await;
        let found = async |path: &OwnedObjectPath, name: &str| {
            lookup(&client, path, &format!("-type=a {name}")).await
        };
        assert_eq!(found(&named, "first.example").await, ["198.51.100.7"]);
        assert_eq!(asked_for(&fallback, "first.example"), 1);
        assert_eq!(found(&inside, "secret.example").await, ["REFUSED"]);

        // As soon as the host asks somebody, nobody else is asked: there it is one that does not answer.
        fs::write(RESOLV, "nameserver 203.0.113.77\n").unwrap();
        says(&client, &mute, "nameserver 203.0.113.77\n", "the host's").await;
        assert_ne!(found(&named, "second.example").await, ["198.51.100.7"]);
        fs::write(RESOLV, "").unwrap();
        says(&client, &mute, of_fallback, "again").await;
        let end = Instant::now() + Duration::from_secs(10);
        while found(&named, "third.example").await != ["198.51.100.7"] {
            assert!(Instant::now() < end);
        }
        // It is a setting, and counts at once.
        fs::write(&config, "").unwrap();
        kill_process(Pid::from_raw(tared.pid().cast_signed()).unwrap(), Signal::HUP).unwrap();
        says(&client, &mute, "", "off").await;
        assert_eq!(found(&named, "fourth.example").await, ["SERVFAIL"]);
        for name in ["second.example", "fourth.example", "secret.example"] {
            assert_eq!(asked_for(&fallback, name), 0, "{name} is told to nobody");
        }
        for path in [mute, named, inside] {
            client.remove(&path).await.done();
        }
        tared.stop();
        run("ip", &["link", "del", "out0"]);
        run("ip", &["netns", "del", "outside"]);
        unmount("/run/netns", UnmountFlags::empty()).unwrap();
        fs::write(RESOLV, RESOLV_CONF).unwrap();
    });
}
