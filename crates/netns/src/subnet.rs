//! Choosing a subnet that nothing else on the host uses.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

/// The lowest subnet of `prefix_len` bits in `pool` that overlaps nothing in `avoid`.
///
/// `None` if there is none, or if `prefix_len` is not within the pool's and 32.
/// Pure; see [`host_prefixes`](crate::host_prefixes) for what to avoid.
pub fn choose_subnet(pool: Ipv4Net, prefix_len: u8, avoid: &[IpNet]) -> Option<Ipv4Net> {
    let avoid: Vec<Ipv4Net> = avoid.iter().filter_map(v4).collect();
    if prefix_len < pool.prefix_len() {
        return None;
    }
    let mut start = pool.network();
    // Every turn leaves a network of `avoid` behind for good, so this ends.
    while pool.contains(&start) {
        let candidate = Ipv4Net::new(start, prefix_len).ok()?;
        match avoid.iter().find(|&&used| overlap(used, candidate)) {
            None => return Some(candidate),
            Some(used) => start = after(used.broadcast().max(candidate.broadcast()))?,
        }
    }
    None
}

fn v4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(v4) => Some(*v4),
        IpNet::V6(_) => None,
    }
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn after(address: Ipv4Addr) -> Option<Ipv4Addr> {
    u32::from(address).checked_add(1).map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn chooses_the_first_free_one() {
        let cases: &[(&str, &[&str], u8, Option<&str>)] = &[
            ("nothing used", &[], 24, Some("10.88.0.0/24")),
            ("first used", &["10.88.0.0/24"], 24, Some("10.88.1.0/24")),
            ("smaller one inside", &["10.88.0.128/30"], 24, Some("10.88.1.0/24")),
            ("host bits set", &["10.88.0.7/24"], 24, Some("10.88.1.0/24")),
            ("wider one", &["10.88.0.0/17"], 24, Some("10.88.128.0/24")),
            ("given in any order", &["10.88.1.0/24", "10.88.0.0/24"], 24, Some("10.88.2.0/24")),
            ("all used", &["10.0.0.0/8"], 24, None),
            ("IPv6 is no matter", &["::/0"], 24, Some("10.88.0.0/24")),
            ("whole pool", &[], 16, Some("10.88.0.0/16")),
            ("wider than the pool", &[], 15, None),
            ("no such prefix", &[], 33, None),
        ];
        for &(about, avoid, prefix_len, want) in cases {
            let avoid: Vec<_> = avoid.iter().map(|text| net(text)).collect();
            let got = choose_subnet("10.88.0.0/16".parse().unwrap(), prefix_len, &avoid);
            assert_eq!(got, want.map(|text| text.parse().unwrap()), "{about}");
        }
    }

    #[test]
    fn the_end_of_the_address_space_is_an_end() {
        let pool = "255.255.255.0/24".parse().unwrap();
        assert_eq!(choose_subnet(pool, 24, &[net("255.255.255.0/25")]), None);
    }

    proptest! {
        #[test]
        fn agrees_with_trying_one_after_the_other(
            used in proptest::collection::vec((any::<u16>(), 12_u8..=32), 0..12),
            prefix_len in 16_u8..=22,
        ) {
            let pool: Ipv4Net = "10.88.0.0/16".parse().unwrap();
            let avoid: Vec<IpNet> = used
                .into_iter()
                .map(|(low, len)| {
                    let [high, low] = low.to_be_bytes();
                    IpNet::new(Ipv4Addr::new(10, 88, high, low).into(), len).unwrap()
                })
                .collect();
            let free = |subnet: &Ipv4Net| avoid.iter().all(|used| {
                let IpNet::V4(used) = used else { return true };
                used.broadcast() < subnet.network() || subnet.broadcast() < used.network()
            });
            let want = pool.subnets(prefix_len).unwrap().find(free);
            prop_assert_eq!(choose_subnet(pool, prefix_len, &avoid), want);
        }
    }
}
