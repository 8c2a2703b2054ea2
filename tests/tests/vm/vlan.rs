//! Networks that this machine's kernel has what it takes for, as others may not.

use std::time::Duration;

use system_tests::Ring::Machine;
use system_tests::network::make_outside;
use system_tests::vlan::Vlan;
use system_tests::{in_lab, run};

#[test]
fn vm_containers_of_a_vlan_are_apart() {
    in_lab(Machine, async |lab| {
        make_outside();
        run("ip", &["-n", "outside", "route", "add", "default", "via", "203.0.113.1"]);
        let client = lab.client().await;
        client.import_busybox().await;
        let vlan = Vlan::make(&client).await;
        vlan.start(&client).await.done();
        vlan.all_reach(&client).await;
        vlan.remove(&client).await;
        run("ip", &["netns", "del", "outside"]);
        // A veth pair goes a moment after its namespace.
        while run("ip", &["-o", "link"]).contains("out0") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
