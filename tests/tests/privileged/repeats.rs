//! Calls that are made again because nobody heard the answer.

use system_tests::{Client, ERROR, Options, ROOT, Refused, Tared, on_scratch_host};
use zbus::{OwnedObjectPath, Variant};

async fn create(client: &Client, name: &str, id: &str) -> Result<OwnedObjectPath, Refused> {
    client.create_with(name, options(id)).await
}

fn options(id: &str) -> Options<'_> {
    Options::from([
        ("Command", Variant::from(vec!["sleep", "1000"])),
        ("RequestId", Variant::from(id)),
    ])
}

#[test]
fn privileged_a_call_that_is_repeated_is_done_once() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let (client, other) = (tared.client().await, tared.client().await);
        client.import_busybox().await;
        let (one, two, three) = tokio::join!(
            create(&client, "", "a"),
            create(&client, "", "a"),
            create(&other, "", "a")
        );
        let path = one.unwrap();
        assert_eq!(
            (&two.unwrap(), &three.unwrap()),
            (&path, &path),
            "one at a time, or side by side"
        );
        assert_eq!(create(&client, "other", "a").await.unwrap(), path, "it is the id that counts");
        assert_eq!(client.list("ListContainers").await.len(), 1);

        let second = create(&client, "named", "b").await.unwrap();
        assert_ne!(second, path);
        // What failed is tried again.
        let taken = create(&client, "named", "c").await.unwrap_err();
        assert_eq!(taken.name, format!("{ERROR}.NameInUse"));
        client.remove(&second).await.done();
        let third = create(&client, "named", "c").await.unwrap();
        assert_eq!(create(&client, "named", "b").await.unwrap(), second, "also when it is gone");

        let run = async || -> OwnedObjectPath {
            client.manager("RunContainer", &("runs", "busybox", options("a"))).await.unwrap()
        };
        let job = run().await;
        client.ended(&job).await.done();
        assert_eq!(run().await, job, "another method, and a job");
        assert_eq!(client.list("ListContainers").await.len(), 3);

        let fails = async || -> OwnedObjectPath {
            let command = [("Command", Variant::from(vec!["/none"]))];
            let options: Options<'_> = options("f").into_iter().chain(command).collect();
            client.manager("RunContainer", &("fails", "busybox", options)).await.unwrap()
        };
        let failed = fails().await;
        assert!(client.ended(&failed).await.result != "done");
        let again = fails().await;
        assert_ne!(again, failed, "what failed is tried again");
        client.ended(&again).await;

        let wrong = create(&client, "", "not good").await.unwrap_err();
        assert!(wrong.message.contains("'RequestId'"), "{wrong:?}");
        let body = ("busybox", options("a"), 0_u64);
        client.call(ROOT, "Manager", "GenerateSpec", &body).await.unwrap();
        let runs: OwnedObjectPath = client.manager("GetContainer", &"runs").await.unwrap();
        for path in [path, third, runs] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}
