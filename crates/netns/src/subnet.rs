//! Choosing a subnet that nothing else on the host uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::network::overlap;

/// The lowest subnet of `prefix_len` bits in `pool` that overlaps nothing in `avoid`.
///
/// `None` if there is none, or if `prefix_len` is not within the pool's and 32.
/// Pure; see [`host_prefixes`](crate::host_prefixes) for what to avoid.
pub fn choose_subnet(pool: Ipv4Net, prefix_len: u8, avoid: &[IpNet]) -> Option<Ipv4Net> {
    match choose(pool.into(), prefix_len, avoid)? {
        IpNet::V4(subnet) => Some(subnet),
        IpNet::V6(_) => None,
    }
}

/// The same for IPv6, where `prefix_len` goes up to 128; see [`unique_local`] for a pool.
pub fn choose_subnet6(pool: Ipv6Net, prefix_len: u8, avoid: &[IpNet]) -> Option<Ipv6Net> {
    match choose(pool.into(), prefix_len, avoid)? {
        IpNet::V6(subnet) => Some(subnet),
        IpNet::V4(_) => None,
    }
}

/// The site of that number among the unique local addresses (RFC 4193): `fd`, the 40 bits, and
/// 65,536 subnets of 64 bits.
///
/// The RFC wants the 40 bits to be random, so that two sites can be joined one day.
pub fn unique_local(global_id: [u8; 5]) -> Ipv6Net {
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&global_id);
    Ipv6Net::new_assert(bytes.into(), 48)
}

fn choose(pool: IpNet, prefix_len: u8, avoid: &[IpNet]) -> Option<IpNet> {
    if prefix_len < pool.prefix_len() {
        return None;
    }
    let mut start = pool.network();
    // Every turn leaves a network of `avoid` behind for good, so this ends.
    while pool.contains(&start) {
        let candidate = IpNet::new(start, prefix_len).ok()?;
        match avoid.iter().find(|used| overlap(used, &candidate)) {
            None => return Some(candidate),
            Some(used) => start = after(used.broadcast().max(candidate.broadcast()))?,
        }
    }
    None
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| Ipv4Addr::from(next).into()),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| Ipv6Addr::from(next).into()),
    }
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
    fn chooses_for_ipv6_too() {
        let pool = unique_local([0x12, 0x34, 0x56, 0x78, 0x9a]);
        assert_eq!(pool.to_string(), "fd12:3456:789a::/48");
        let cases: &[(&[&str], u8, Option<&str>)] = &[
            (&[], 64, Some("fd12:3456:789a::/64")),
            (&["fd12:3456:789a::1/128"], 64, Some("fd12:3456:789a:1::/64")),
            (&["fd12:3456:789a::/49", "10.0.0.0/8"], 64, Some("fd12:3456:789a:8000::/64")),
            (&["fd00::/8"], 64, None),
            (&[], 47, None),
            (&[], 129, None),
        ];
        for &(avoid, prefix_len, want) in cases {
            let avoid: Vec<_> = avoid.iter().map(|text| net(text)).collect();
            let got = choose_subnet6(pool, prefix_len, &avoid);
            assert_eq!(got, want.map(|text| text.parse().unwrap()), "{avoid:?}");
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
