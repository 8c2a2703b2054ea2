//! Who may do what, as polkit says.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::Value;
use system_tests::Ring::System;
use system_tests::{Client, ERROR, Options, Refused, as_user, in_lab, started};
use zbus::{Fd, OwnedObjectPath, Variant};

const NOBODY: u32 = 65534;
const DAEMON: u32 = 1;
/// It could be allowed after a question, which the caller did not want asked.
const DENIED: &str = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";

/// A rule of the administrator's, while this lives. polkitd sees by itself when rules change.
struct Rule(PathBuf);

impl Rule {
    fn new(name: &str, text: &str) -> Self {
        let path = PathBuf::from("/etc/polkit-1/rules.d").join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// `nobody` may start and stop the one container, and nothing else.
const MAY_MANAGE_WEB: &str = r#"polkit.addRule(function (action, subject) {
    if (action.id == "org.tare.containers1.manage-containers" && subject.user == "nobody" &&
        action.lookup("container") == "web") {
        return polkit.Result.YES;
    }
});
"#;

#[test]
fn lab_polkit_decides_on_what_will_happen() {
    in_lab(System, async |lab| {
        let root = lab.client().await;
        root.import_busybox().await;
        let web = started(&root, "web", "sleep 1000").await;
        let other = started(&root, "other", "sleep 1000").await;
        let kill_as_nobody = |path: &OwnedObjectPath| {
            as_user(NOBODY, async || kill(&lab.client().await, path).await)
        };
        assert_eq!(kill_as_nobody(&web).unwrap_err().name, DENIED, "without a rule");
        let rule = Rule::new("50-web.rules", MAY_MANAGE_WEB);
        wait_for(|| kill_as_nobody(&web).is_ok(), "the rule to hold").await;
        assert_eq!(kill_as_nobody(&other).unwrap_err().name, DENIED, "it is for the other one");
        let create = as_user(NOBODY, async || {
            lab.client().await.create_with("mine", Options::new()).await.map(drop)
        });
        assert_eq!(create.unwrap_err().name, DENIED, "it is for another action");
        drop(rule);
        wait_for(|| kill_as_nobody(&web).is_err(), "the rule to be gone").await;
        for path in [web, other] {
            root.remove(&path).await.done();
        }
    });
}

/// The service is root, and asks nobody before it shows what a container would be.
#[test]
fn lab_a_spec_tells_nobody_what_they_may_not_read() {
    in_lab(System, async |lab| {
        let root = lab.client().await;
        root.import_busybox().await;
        // Others can name it, and not read it.
        let secret = "/etc/tare-test-accounts";
        fs::write(secret, "alice:x:7777:7778::/hidden:/bin/sh\n").unwrap();
        fs::set_permissions(secret, PermissionsExt::from_mode(0o600)).unwrap();
        let spec = async |client: &Client, options: Options<'static>| {
            let body = ("busybox", options, 0_u64);
            let reply: Result<(String, Vec<String>, String), _> =
                client.manager("GenerateSpec", &body).await;
            reply.map(|(spec, ..)| serde_json::from_str::<Value>(&spec).unwrap())
        };
        let as_user_of_it = |user: &'static str| {
            let place = openat(CWD, secret, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let source = Variant::Fd(Fd::from(place.unwrap()));
            let mount = HashMap::from([("Source", source), ("Target", "/etc/passwd".into())]);
            Options::from([("User", user.into()), ("Mounts", vec![mount].into())])
        };
        let shown = spec(&root, as_user_of_it("alice")).await.unwrap();
        assert_eq!(shown["process"]["user"]["uid"], 7777, "root is shown it");
        as_user(NOBODY, async || {
            let client = lab.client().await;
            let refused = spec(&client, as_user_of_it("alice")).await.map(drop).unwrap_err();
            assert_eq!(refused.name, format!("{ERROR}.InvalidSpec"), "{refused:?}");
            let shown = spec(&client, as_user_of_it("7777")).await.unwrap();
            assert_eq!(shown["process"]["user"]["gid"], 0);
            assert!(!shown.to_string().contains("hidden"), "{shown}");
            let base = async |path: &'static str| {
                spec(&client, Options::from([("BaseHosts", path.into())])).await.map(drop)
            };
            let (there, nowhere) = (base("/etc/hosts").await, base("/root/no-such").await);
            assert_eq!(there, nowhere, "nor what is there");
            assert_eq!(there.unwrap_err().short(), "InvalidArgs");
        });
        fs::remove_file(secret).unwrap();
    });
}

/// `nobody` may have containers that see this one directory of the host, if they reach nothing else of it.
const MAY_SEE_SHARED: &str = r#"polkit.addRule(function (action, subject) {
    if (action.id == "org.tare.containers1.create-privileged-container" &&
        subject.user == "nobody" && action.lookup("host_paths") == "/srv/shared" &&
        action.lookup("reasons") == "host path /srv/shared") {
        return polkit.Result.YES;
    }
});
"#;

#[test]
fn lab_polkit_is_told_which_paths_of_the_host_a_container_sees() {
    in_lab(System, async |lab| {
        let root = lab.client().await;
        root.import_busybox().await;
        for dir in ["/srv/shared", "/srv/other"] {
            fs::create_dir_all(dir).unwrap();
            fs::write(format!("{dir}/file"), dir).unwrap();
        }
        let create_as_nobody = |dir: &'static str, more: Options<'static>| {
            as_user(NOBODY, async || {
                let open = std::os::fd::OwnedFd::from(fs::File::open(dir).unwrap());
                let mount = HashMap::from([
                    ("Source", Variant::Fd(Fd::from(open))),
                    ("Target", "/shared".into()),
                ]);
                let mut options = Options::from([
                    ("Mounts", Variant::from(vec![mount])),
                    ("Command", vec!["sleep", "1000"].into()),
                ]);
                options.extend(more);
                lab.client().await.create_with("mine", options).await
            })
        };
        assert_eq!(create_as_nobody("/srv/shared", Options::new()).unwrap_err().name, DENIED);
        let rule = Rule::new("50-shared.rules", MAY_SEE_SHARED);
        let added = Options::from([("CapAdd", vec!["SYS_ADMIN"].into())]);
        wait_for(|| create_as_nobody("/srv/shared", Options::new()).is_ok(), "the rule").await;
        for (about, refused) in [
            ("another path", create_as_nobody("/srv/other", Options::new())),
            ("more than the path", create_as_nobody("/srv/shared", added)),
        ] {
            assert_eq!(refused.unwrap_err().name, DENIED, "{about}");
        }
        drop(rule);
        let mine: OwnedObjectPath = root.manager("GetContainer", &"mine").await.unwrap();
        root.start(&mine).await.done();
        assert_eq!(root.exec(&mine, "cat /shared/file").await.stdout, "/srv/shared");
        root.remove(&mine).await.done();
        for dir in ["/srv/shared", "/srv/other"] {
            fs::remove_dir_all(dir).unwrap();
        }
    });
}

/// Whom the bus does not let through is not asked about.
#[test]
fn lab_everybody_reaches_a_process_and_is_asked_about() {
    in_lab(System, async |lab| {
        let root = lab.client().await;
        root.import_busybox().await;
        let web = started(&root, "web", "sleep 1000").await;
        let argv = (vec!["/bin/busybox", "sleep", "1000"], Options::new());
        let reply = root.call(&web, "Container", "Exec", &argv).await.unwrap();
        let (process, _fds): (OwnedObjectPath, HashMap<String, zbus::OwnedFd>) =
            reply.body().deserialize().unwrap();
        let signal = |signal: i32| {
            as_user(NOBODY, async || {
                let client = lab.client().await;
                client.call(&process, "Process", "Kill", &(signal, 0_u64)).await.map(drop)
            })
        };
        assert_eq!(signal(SIGCONT).unwrap_err().name, DENIED);
        root.remove(&web).await.done();
    });
}

/// It changes nothing.
const SIGCONT: i32 = 18;

/// Sends it.
async fn kill(client: &Client, path: &OwnedObjectPath) -> Result<(), Refused> {
    client.call(path, "Container", "Kill", &("init", SIGCONT, 0_u64)).await.map(drop)
}

async fn wait_for(mut holds: impl FnMut() -> bool, what: &str) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("waited in vain for {what}");
}

/// `nobody` may have the files of the one container.
const MAY_READ_WEB: &str = r#"polkit.addRule(function (action, subject) {
    if (action.id == "org.tare.containers1.transfer-files" && subject.user == "nobody" &&
        action.lookup("container") == "web") {
        return polkit.Result.YES;
    }
});
"#;

#[test]
fn lab_a_root_is_mounted_for_its_user_alone() {
    in_lab(System, async |lab| {
        let root = lab.client().await;
        root.import_busybox().await;
        let web = started(&root, "web", "sleep 1000").await;
        // Read-only, and to be kept.
        let mount = || {
            as_user(NOBODY, async || {
                let client = lab.client().await;
                let reply = client.call(&web, "Container", "MountRootfs", &3_u64).await?;
                Ok::<String, Refused>(reply.body().deserialize().unwrap())
            })
        };
        assert_eq!(mount().unwrap_err().name, DENIED, "without a rule");
        let rule = Rule::new("50-files.rules", MAY_READ_WEB);
        wait_for(|| mount().is_ok(), "the rule to hold").await;
        let place = mount().unwrap();
        let file = format!("{place}/etc/passwd");
        assert!(as_user(NOBODY, async || fs::read_to_string(&file)).unwrap().contains("root:"));
        let denied = [
            as_user(DAEMON, async || fs::read_to_string(&file).map(drop)),
            // Whose it is cannot put something else in its place.
            as_user(NOBODY, async || fs::rename(&place, format!("{place}-else"))),
            as_user(NOBODY, async || fs::write(format!("{place}-else"), "")),
        ];
        for denied in denied {
            assert_eq!(denied.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        }
        drop(rule);
        root.remove(&web).await.done();
        assert!(!std::path::Path::new(&place).exists());
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&place));
    });
}
