//! What this whole suite is run with.

use system_tests::network::Netfilter;
use system_tests::on_scratch_host;

/// Most hosts pass bridged packets to the firewall or do not; `make` runs all of these tests with either.
#[test]
fn privileged_bridged_packets_meet_the_firewall_where_that_was_asked_for() {
    on_scratch_host(async |_| {
        let asked = Netfilter::asked().unwrap_or_else(|| "1".into());
        assert!(["0", "1"].contains(&asked.as_str()), "{asked}");
        assert_eq!(Netfilter::now(), asked);
    });
}
