//! The users of a container that its image does not know.

use system_tests::{Client, ERROR, Options, Tared, on_scratch_host};
use zbus::{OwnedObjectPath, Variant};

fn as_user(user: &str) -> Options<'_> {
    Options::from([
        ("Command", Variant::from(vec!["sleep", "1000"])),
        ("User", Variant::from(user)),
        ("WorkingDir", Variant::from("/tmp")),
    ])
}

async fn running(client: &Client, name: &str, options: Options<'_>) -> OwnedObjectPath {
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

/// As root, who may see and do what the user may not.
async fn see(client: &Client, path: &OwnedObjectPath, script: &str) -> String {
    let root = Options::from([("User", "0".into())]);
    client.exec_argv(path, &["sh", "-c", script], root, b"").await.unwrap().stdout
}

#[test]
fn privileged_a_user_that_the_image_does_not_know_has_a_name() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = running(&client, "c", as_user("1234:4321")).await;
        let who = client.exec(&path, "whoami; id -gn").await;
        assert_eq!(who.stdout, "1234\n4321\n", "{who:?}");
        let lines = "tail -n 1 /etc/passwd; tail -n 1 /etc/group; stat -c %a:%u:%g /etc/passwd";
        let want = "1234:*:1234:4321:container user:/tmp:/bin/sh\n4321:x:4321:1234\n644:0:0\n";
        assert_eq!(see(&client, &path, lines).await, want);
        // It is the container's own file: others can be added, and stay.
        let added =
            see(&client, &path, "echo new:x:5:5::/:/bin/sh >> /etc/passwd; grep -c . /etc/passwd")
                .await;
        assert_eq!(added, "4\n");
        client.stop(&path).await.done();
        client.start(&path).await.done();
        let twice = see(&client, &path, "grep -c . /etc/passwd; ls -a /etc | grep -c tare").await;
        assert_eq!(twice, "4\n0\n", "once is enough, and nothing is left beside it");
        client.remove(&path).await.done();

        // The image knows this one.
        let path = running(&client, "c", as_user("33")).await;
        assert_eq!(
            see(&client, &path, "grep -c . /etc/passwd /etc/group").await,
            "/etc/passwd:2\n/etc/group:2\n"
        );
        client.remove(&path).await.done();
        tared.stop();
    });
}

/// A container may do to its files what it likes, and is seen into nevertheless, also by who checks whether it is well.
#[test]
fn privileged_account_files_that_nobody_asks_for_keep_nobody_out() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create("c", "sleep 1000").await;
        client.start(&path).await.done();
        let grow = "yes a:x:5:5::/: | head -c 2000000 > /etc/passwd; wc -c < /etc/passwd";
        assert_eq!(client.exec(&path, grow).await.stdout, "2000000\n");
        assert_eq!(client.exec(&path, "echo in").await.stdout, "in\n");
        let as_a = Options::from([("User", "a".into())]);
        let refused = client.exec_argv(&path, &["true"], as_a, b"").await.unwrap_err();
        assert!(refused.name.starts_with(ERROR), "{refused:?}");
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_account_files_are_left_alone_where_they_are_not_ours() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        // Not wanted.
        let mut options = as_user("1234");
        options.insert("PasswdEntry", false.into());
        let path = running(&client, "c", options).await;
        assert_eq!(see(&client, &path, "grep -c . /etc/passwd").await, "2\n");
        client.remove(&path).await.done();
        // The root cannot be written to: the files are bound.
        let mut options = as_user("1234");
        options.insert("ReadOnlyRootfs", true.into());
        let path = running(&client, "c", options).await;
        assert_eq!(client.exec(&path, "whoami").await.stdout, "1234\n");
        assert!(see(&client, &path, "cat /proc/mounts").await.contains(" /etc/passwd "));
        client.remove(&path).await.done();
        // A link is somebody's: it and what it leads to stay as they are, and the container runs.
        let path = client
            .create("first", "ln -sf /tmp/mine /etc/passwd; echo a:x:1:1::/: > /tmp/mine")
            .await;
        client.start(&path).await.done();
        client.exit(&path).await;
        let body = ("linked", Options::new());
        client.job(&path, "Container", "Commit", &body).await.unwrap().done();
        client.remove(&path).await.done();
        let made: OwnedObjectPath =
            client.manager("CreateContainer", &("c", "linked", as_user("1234"))).await.unwrap();
        client.start(&made).await.done();
        let seen = see(&client, &made, "readlink /etc/passwd; cat /tmp/mine").await;
        assert_eq!(seen, "/tmp/mine\na:x:1:1::/:\n");
        client.remove(&made).await.done();
        tared.stop();
    });
}
