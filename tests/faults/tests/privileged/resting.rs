//! An address that is given to somebody while what was made with it before is still being forgotten.

use std::collections::HashMap;
use std::time::Duration;

use fault_tests::lab::Lab;
use system_tests::faults::{Effect, Fault};
use system_tests::{Options, on_busy_scratch_host};
use zbus::{OwnedObjectPath, Variant};

type Row = HashMap<&'static str, Variant<'static>>;

/// Longer than a start takes.
const A_WHILE: Duration = Duration::from_secs(3);

fn place() -> Row {
    Row::from([("Network", "net".into()), ("Addresses", vec!["10.99.0.9"].into())])
}

/// Whoever asks for an address gets it at once; but what it does with that is not taken for something that
/// another one did before.
#[test]
fn privileged_what_the_next_tenant_of_an_address_begins_is_not_forgotten_with_the_rest() {
    on_busy_scratch_host(async |host| {
        let mut lab = Lab::new(host).await;
        let (client, faults) = (lab.client(), &lab.faults);
        let subnet = vec![Row::from([("Subnet", "10.99.0.0/24".into())])];
        let options = Options::from([("Subnets", subnet.into())]);
        let network: OwnedObjectPath =
            client.manager("CreateNetwork", &("net", options)).await.unwrap();
        let command = ("Command", vec!["/bin/busybox", "sleep", "1000"].into());
        let options = Options::from([command, ("Networks", vec![place()].into())]);
        let tenant = client.create_with("tenant", options).await.unwrap();
        client.start(&tenant).await.done();

        let forget = Effect { part: "netns".into(), text: "forget connections (N)".into(), nth: 1 };
        faults.arm([(&forget, Fault::Hang)]);
        client.stop(&tenant).await.done();
        faults.hit(1).await;
        let made = || faults.seen().iter().any(|it| it.text.starts_with("create veth"));
        let look = async {
            tokio::time::sleep(A_WHILE).await;
            let early = made();
            faults.let_go();
            early
        };
        let (started, early) = tokio::join!(client.start(&tenant), look);
        started.done();
        assert!(
            !early,
            "it has an interface, and what was begun with its address is forgotten then"
        );
        assert!(made(), "it has one once that is over");
        client.remove(&tenant).await.done();
        client.call(&network, "Network", "Remove", &0_u64).await.unwrap();
        lab.end();
    });
}
