//! Creating and starting in one.

use system_tests::{ERROR, Options, Properties, ROOT, Tared, failure, on_scratch_host};
use zbus::OwnedObjectPath;

#[test]
fn privileged_a_container_is_run_or_there_is_none() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let run = async |name: &str, image: &str, argv: &[&str]| {
            let options = Options::from([("Command", argv.to_vec().into())]);
            client.job(ROOT, "Manager", "RunContainer", &(name, image, options)).await
        };
        let ended = run("web", "busybox", &["sleep", "1000"]).await.unwrap();
        assert_eq!(ended.kind, "run-container");
        let job = ended.job.clone();
        ended.done();
        let output: std::collections::HashMap<String, zbus::OwnedVariant> =
            client.properties(&job, "Job").await.0["Output"]
                .try_clone()
                .unwrap()
                .try_into()
                .unwrap();
        let container = Properties(output).get::<zbus::ObjectPath<'static>>("Container");
        let web: OwnedObjectPath = client.manager("GetContainer", &"web").await.unwrap();
        assert_eq!(container.as_str(), web.as_str());
        assert_eq!(client.container(&web).await.text("State"), "running");

        let absent = run("other", "absent", &["true"]).await.unwrap_err();
        assert_eq!(absent.name, format!("{ERROR}.NoSuchImage"));
        let taken = run("web", "busybox", &["true"]).await.unwrap();
        assert_eq!(failure(&taken), format!("{ERROR}.NameInUse"));
        let none = run("none", "busybox", &["/no/such/program"]).await.unwrap();
        assert_eq!(failure(&none), format!("{ERROR}.CommandNotFound"));
        assert_eq!(client.list("ListContainers").await.len(), 1, "what failed is taken back");
        run("none", "busybox", &["sleep", "1000"]).await.unwrap().done();
        for name in ["web", "none"] {
            let remove = client.job(ROOT, "Manager", "RemoveContainer", &(name, 1_u64)).await;
            remove.unwrap().done();
        }
        tared.stop();
    });
}
