//! Images into a registry.

use std::collections::HashMap;
use std::fs::File;

use system_tests::archive::oci_archive;
use system_tests::image::file_of;
use system_tests::registry::{Access, REGISTRY, Registry, USER};
use system_tests::{Client, ERROR, Ended, Options, Properties, ROOT, Refused, Tared, failure};
use system_tests::{on_scratch_host, run};
use zbus::{Fd, OwnedObjectPath, OwnedVariant, Variant};

use super::images::pictures;
use super::pull::sealed;

fn options(auth: Option<&File>) -> Options<'static> {
    let mut options = Options::from([("TLSVerify", false.into())]);
    if let Some(file) = auth {
        let file = std::os::fd::OwnedFd::from(file.try_clone().unwrap());
        options.insert("Auth", Variant::Fd(Fd::from(file)));
    }
    options
}

async fn push(
    client: &Client,
    image: &OwnedObjectPath,
    name: &str,
    auth: Option<&File>,
) -> Result<Ended, Refused> {
    let destination = format!("{REGISTRY}/{name}");
    client.job(image, "Image", "Push", &(destination, options(auth))).await
}

async fn digest(client: &Client, ended: &Ended) -> String {
    ended.done();
    let output = client.properties(&ended.job, "Job").await.get::<Variant<'static>>("Output");
    Properties(HashMap::<String, OwnedVariant>::try_from(output).unwrap()).text("Digest")
}

/// What others find there.
fn inspected(name: &str) -> serde_json::Value {
    let place = format!("docker://{REGISTRY}/{name}");
    let text = run("skopeo", &["inspect", "--tls-verify=false", "--creds", USER, &place]);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn privileged_an_image_is_pushed_and_is_the_same_there() {
    on_scratch_host(async |host| {
        let registry = Registry::start(host, Access::Password);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let auth = sealed(USER);
        let archive = file_of(&oci_archive(&pictures()[..1]));
        let named = Options::from([("Reference", "mine".into())]);
        client.import(&archive, named).await.unwrap().done();
        let image: OwnedObjectPath = client.manager("GetImage", &"mine").await.unwrap();
        let known = client.properties(&image, "Image").await.get::<Vec<String>>("Digests");

        for (about, auth) in [("nobody", None), ("a wrong password", Some(sealed("me:wrong")))] {
            let ended = push(&client, &image, "a/mine:1", auth.as_ref()).await.unwrap();
            assert_eq!(failure(&ended), format!("{ERROR}.RegistryDenied"), "{about}: {ended:?}");
        }
        let ended = push(&client, &image, "a/mine:1", Some(&auth)).await.unwrap();
        assert_eq!(digest(&client, &ended).await, known[0], "as it came");
        assert_eq!(inspected("a/mine:1")["Digest"], known[0].as_str());
        // What is there is not sent again.
        let ended = push(&client, &image, "a/mine:2", Some(&auth)).await.unwrap();
        assert_eq!(digest(&client, &ended).await, known[0]);

        // One that has no archives of its layers here gets them.
        let busybox = client.import_busybox().await;
        let ended = push(&client, &busybox, "busybox:1", Some(&auth)).await.unwrap();
        let pushed = digest(&client, &ended).await;
        assert_eq!(inspected("busybox:1")["Digest"], pushed.as_str());
        let remove = async |image: &OwnedObjectPath| {
            client.job(image, "Image", "Remove", &1_u64).await.unwrap().done();
        };
        for image in [&image, &busybox] {
            remove(image).await;
        }
        let name = format!("{REGISTRY}/busybox:1");
        let pulled = (name.as_str(), options(Some(&auth)));
        client.job(ROOT, "Manager", "PullImage", &pulled).await.unwrap().done();
        let made = (name.as_str(), Options::from([("Command", vec!["true"].into())]));
        let made: OwnedObjectPath =
            client.manager("CreateContainer", &("c", made.0, made.1)).await.unwrap();
        client.start(&made).await.done();
        assert_eq!(client.exit(&made).await.code, 0);
        client.remove(&made).await.done();
        let again: OwnedObjectPath = client.manager("GetImage", &name.as_str()).await.unwrap();

        let bad = push(&client, &again, &format!("a@{pushed}"), None).await.unwrap_err();
        assert_eq!(bad.short(), "InvalidReference");
        drop(registry);
        let ended = push(&client, &again, "x:1", Some(&auth)).await.unwrap();
        assert_eq!(failure(&ended), format!("{ERROR}.RegistryUnreachable"), "{ended:?}");
        remove(&again).await;
        assert!(!tared.log().contains("secret"), "no password is in the log");
        tared.stop();
    });
}
