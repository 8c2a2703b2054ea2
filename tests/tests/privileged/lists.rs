//! Many objects.

use std::collections::HashMap;

use system_tests::{Options, ROOT, Tared, on_scratch_host};
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

const MANY: usize = 50;

type Managed = HashMap<OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>>;

#[test]
fn privileged_many_containers_are_listed_whole_and_introspected_shallowly() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let image = client.import_busybox().await;
        let mut paths = Vec::new();
        for number in 0..MANY {
            paths.push(client.create(&format!("c{number}"), "true").await);
        }
        let introspected = client.introspect(ROOT).await;
        assert!(introspected.len() < 20_000, "{} bytes", introspected.len());
        let containers = client.introspect(&format!("{ROOT}/container")).await;
        assert!(containers.len() < 20_000, "{} bytes", containers.len());
        assert_eq!(containers.matches("<node name=").count(), MANY, "each is named");

        let interface = "org.freedesktop.DBus.ObjectManager";
        let reply = client.call(ROOT, interface, "GetManagedObjects", &()).await.unwrap();
        let managed: Managed = reply.body().deserialize().unwrap();
        for path in &paths {
            let container = &managed[path]["org.tare.Containers1.Container"];
            assert_eq!(*container["State"], Variant::from("configured"));
        }
        assert!(managed.contains_key(&image));
        let jobs: Vec<_> = managed.keys().filter(|it| it.as_str().contains("/job/")).collect();
        assert_eq!(jobs, Vec::<&OwnedObjectPath>::new(), "there was one, and it lingers");
        // The image and the default network are there, too.
        assert_eq!(managed.len(), MANY + 2);
        assert_eq!(client.properties(ROOT, "Manager").await.get::<u32>("NContainers"), 50);

        for (filter, number) in [
            (Options::new(), MANY),
            (Options::from([("Name", "c1?".into())]), 10),
            (Options::from([("Limit", 7_i32.into())]), 7),
            (Options::from([("State", vec!["running"].into())]), 0),
        ] {
            let (rows, _): (Vec<HashMap<String, OwnedVariant>>, u64) =
                client.manager("ListContainers", &filter).await.unwrap();
            assert_eq!(rows.len(), number, "{filter:?}");
        }
        for path in &paths {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}
