//! What containers may know, and nobody is told again.

use std::collections::HashMap;
use std::os::fd::AsFd;

use system_tests::image::file_of;
use system_tests::{Client, ERROR, Options, ROOT, Tared, failure, on_scratch_host};
use zbus::{Fd, OwnedObjectPath, Variant};

/// It is looked for wherever it must not be.
const VALUE: &str = "hunter2-hush";
const WRONG: &str = "org.freedesktop.DBus.Error.InvalidArgs";
/// `Inspect`: the configuration.
const CONFIG: u64 = 1;

type Entry = HashMap<&'static str, Variant<'static>>;

pub(crate) async fn create(
    client: &Client,
    name: &str,
    value: &str,
) -> Result<OwnedObjectPath, String> {
    let file = file_of(value.as_bytes());
    let body = (name, Fd::from(file.as_fd()), Options::new());
    client.manager("CreateSecret", &body).await.map_err(|refused| refused.name)
}

fn with(secrets: Vec<Entry>) -> Options<'static> {
    Options::from([("Command", vec!["sleep", "1000"].into()), ("Secrets", secrets.into())])
}

fn as_variable() -> Entry {
    Entry::from([("Name", "key".into()), ("Env", "KEY".into())])
}

fn all() -> Vec<Entry> {
    vec![
        Entry::from([("Name", "key".into())]),
        Entry::from([
            ("Name", "key".into()),
            ("Target", "/etc/my-key".into()),
            ("Mode", 0o400_u32.into()),
            ("UID", 33_u32.into()),
        ]),
        as_variable(),
    ]
}

async fn inspect(client: &Client, path: &OwnedObjectPath, flags: u64) -> String {
    let reply = client.call(path, "Container", "Inspect", &flags).await.unwrap();
    reply.body().deserialize().unwrap()
}

#[test]
fn privileged_a_container_knows_its_secrets_and_nobody_is_told() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let secret = create(&client, "key", VALUE).await.unwrap();
        let path = client.create_with("c", with(all())).await.unwrap();
        client.start(&path).await.done();
        let script = "cat /run/secrets/key; echo; cat /etc/my-key; echo; \
            stat -c %a:%u:%g /run/secrets/key /etc/my-key; \
            tr '\\0' '\\n' < /proc/1/environ | grep ^KEY=; echo $KEY; \
            echo x > /run/secrets/key || echo refused";
        let seen = client.exec(&path, script).await.stdout;
        let want = format!("{VALUE}\n{VALUE}\n444:0:0\n400:33:0\nKEY={VALUE}\n{VALUE}\nrefused\n");
        assert_eq!(seen, want);

        // Nobody outside hears of it: not of whom may see all, in no image, in no change, in no log.
        for flags in [0, CONFIG] {
            let json = inspect(&client, &path, flags).await;
            assert!(!json.contains(VALUE), "{json}");
            assert!(flags != CONFIG || json.contains("\"KEY=\""), "{json}");
        }
        let body = ("busybox", with(all()), 0_u64);
        let reply = client.call(ROOT, "Manager", "GenerateSpec", &body).await.unwrap();
        let (spec, _, _): (String, Vec<String>, String) = reply.body().deserialize().unwrap();
        assert!(spec.contains("\"KEY=\"") && !spec.contains(VALUE), "{spec}");
        client.job(&path, "Container", "Commit", &("made:1", Options::new())).await.unwrap().done();
        let image: OwnedObjectPath = client.manager("GetImage", &"made:1").await.unwrap();
        let reply = client.call(&image, "Image", "Inspect", &0_u64).await.unwrap();
        let json: String = reply.body().deserialize().unwrap();
        assert!(!json.contains(VALUE), "{json}");
        assert!(!tared.log().contains(VALUE));
        let told = format!("{:?}", client.messages());
        assert!(!told.contains(VALUE));
        client.job(&image, "Image", "Remove", &0_u64).await.unwrap().done();

        // What runs keeps what it knows; the next start has the new value.
        let other = file_of(b"other");
        let body = (Fd::from(other.as_fd()), 0_u64);
        client.call(&secret, "Secret", "Replace", &body).await.unwrap();
        let read = "cat /run/secrets/key";
        assert_eq!(client.exec(&path, read).await.stdout, VALUE);
        client.stop(&path).await.done();
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        client.start(&path).await.done();
        assert_eq!(client.exec(&path, read).await.stdout, "other");

        let used = client.call(&secret, "Secret", "Remove", &0_u64).await.unwrap_err();
        assert_eq!(used.name, format!("{ERROR}.SecretInUse"));
        assert!(used.message.contains("'key'") && used.message.contains('c'), "{used:?}");
        let users: Vec<OwnedObjectPath> =
            client.properties(&secret, "Secret").await.get("Containers");
        assert_eq!(users, std::slice::from_ref(&path));
        client.remove(&path).await.done();
        client.call(&secret, "Secret", "Remove", &0_u64).await.unwrap();
        assert!(client.list("ListSecrets").await.is_empty());
        tared.stop();
    });
}

#[test]
fn privileged_secrets_that_cannot_be_are_refused() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let taints =
            async || -> Vec<String> { client.properties(ROOT, "Manager").await.get("Tainted") };
        assert!(!taints().await.contains(&"secrets-plain".into()));
        let secret = create(&client, "key", VALUE).await.unwrap();
        assert!(taints().await.contains(&"secrets-plain".into()));
        assert_eq!(create(&client, "key", "x").await.unwrap_err(), format!("{ERROR}.NameInUse"));
        assert_eq!(create(&client, "a/b", "x").await.unwrap_err(), format!("{ERROR}.InvalidName"));
        assert_eq!(create(&client, "empty", "").await.unwrap_err(), WRONG);
        let most = "x".repeat(512 << 10);
        assert_eq!(create(&client, "large", &format!("{most}x")).await.unwrap_err(), WRONG);
        let large = create(&client, "large", &most).await.unwrap();
        let (pipe, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"through a pipe").unwrap();
        drop(writer);
        let body = ("piped", Fd::from(pipe.as_fd()), Options::new());
        let piped: OwnedObjectPath = client.manager("CreateSecret", &body).await.unwrap();

        let refused = async |secrets: Vec<Entry>| {
            client.create_with("c", with(secrets)).await.unwrap_err().name
        };
        let absent = vec![Entry::from([("Name", "absent".into())])];
        assert_eq!(refused(absent).await, format!("{ERROR}.NoSuchSecret"));
        let twice = vec![Entry::from([("Name", "key".into())]); 2];
        assert_eq!(refused(twice).await, WRONG, "two on one path");
        // A variable cannot be anything: that is seen when the value is.
        let body = (
            "nul",
            Fd::from(file_of(b"a\0b").as_fd().try_clone_to_owned().unwrap()),
            Options::new(),
        );
        let nul: OwnedObjectPath = client.manager("CreateSecret", &body).await.unwrap();
        let variable = Entry::from([("Name", "nul".into()), ("Env", "NUL".into())]);
        let path = client.create_with("c", with(vec![variable])).await.unwrap();
        assert_eq!(failure(&client.start(&path).await), format!("{ERROR}.InvalidSpec"));
        client.remove(&path).await.done();
        for secret in [secret, large, piped, nul] {
            client.call(&secret, "Secret", "Remove", &0_u64).await.unwrap();
        }
        tared.stop();
    });
}
