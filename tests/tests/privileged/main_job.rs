//! One container's whole life.

use system_tests::image::{busybox_tar, file_of};
use system_tests::main_job::{lines, main_job};
use system_tests::{Options, Tared, on_scratch_host, signal};

use super::started;

#[test]
fn privileged_the_main_job() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        main_job(&tared.client().await).await;
        tared.stop();
    });
}

#[test]
fn privileged_a_container_starts_again_with_what_it_wrote() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let script = "echo x >> /count; exit $(wc -l < /count)";
        let path = started(&client, "counter", script).await;
        assert_eq!(client.exit(&path).await.code, 1);
        // Its `Exited` of the first run is remembered, so the property tells of the second.
        client.start(&path).await.done();
        let second = client
            .until("the second exit", |message| {
                let (code, _, _, _) = signal::<(i32, i32, String, u64)>(message, &path, "Exited")?;
                (code != 1).then_some(code)
            })
            .await;
        assert_eq!(second, 2);
        let pristine = started(&client, "pristine", script).await;
        assert_eq!(client.exit(&pristine).await.code, 1, "the image has not changed");
        for path in [path, pristine] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_containers_differ_as_their_options_say() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let options = Options::from([
            ("Reference", "busybox".into()),
            ("Command", vec!["env"].into()),
            ("Env", vec!["FROM=image", "KEPT=yes"].into()),
        ]);
        client.import(&file_of(busybox_tar()), options).await.unwrap().done();
        for (about, key, value, script, wanted) in [
            ("environment", "Env", vec!["FROM=request"].into(), "echo $FROM $KEPT", "request yes"),
            ("user", "User", "www".into(), "id -u; id -g", "33\n33"),
            ("directory", "WorkingDir", "/tmp".into(), "pwd", "/tmp"),
            ("name", "Hostname", "db".into(), "hostname", "db"),
            ("read-only", "ReadOnlyRootfs", true.into(), "touch /x 2>/dev/null || echo no", "no"),
            ("no network", "NetworkMode", "none".into(), "ls /sys/class/net", "lo"),
            (
                "resolvers",
                "DNS",
                vec!["192.0.2.7"].into(),
                "grep -c 192.0.2.7 /etc/resolv.conf",
                "1",
            ),
            (
                "capability",
                "CapDrop",
                vec!["ALL"].into(),
                "grep CapEff /proc/self/status",
                "CapEff:\t0000000000000000",
            ),
            (
                "shm",
                "ShmSize",
                (1_i32 << 20).into(),
                "df -k /dev/shm | awk 'END { print $2 }'",
                "1024",
            ),
        ] {
            let command = ("Command", vec!["sh", "-c", script].into());
            let options = Options::from([command, (key, value)]);
            let path = client.create_with("c", options).await.unwrap();
            client.start(&path).await.done();
            client.exit(&path).await;
            let said: Vec<String> =
                lines(&client.logs(&path, Options::new()).await).into_iter().map(|l| l.1).collect();
            assert_eq!(said.join("\n"), wanted, "{about}");
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}
