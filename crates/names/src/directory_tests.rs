use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(names: &[&str], aliases: &[&str], addresses: &[&str]) -> Host {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Host {
        names: owned(names),
        aliases: owned(aliases),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
    }
}

fn places<const N: usize>(places: [(&str, Host); N]) -> Vec<(String, Host)> {
    places.map(|(network, host)| (network.to_owned(), host)).to_vec()
}

/// `web` and `db` on network `a`, `db` on `b` as well, where `far` is alone with it; nothing leaves
/// `b`.
fn directory() -> Directory {
    let mut directory = Directory::new("tare.internal");
    let subnets = ["10.88.0.0/24", "fd00:88::/64"].map(|net| net.parse().unwrap());
    directory.set_network("a", subnets.to_vec(), Foreign::Forwarded);
    directory.set_network("b", vec!["10.88.1.0/24".parse().unwrap()], Foreign::Refused);
    let web = host(&["Web", "aaaaaaaaaaaa"], &["www", "db"], &["10.88.0.2", "fd00:88::2"]);
    directory.set_host("aaaaaaaaaaaa", places([("a", web)]));
    let db = |address| host(&["db", "bbbbbbbbbbbb"], &["sql.example"], &[address]);
    directory.set_host("bbbbbbbbbbbb", places([("a", db("10.88.0.3")), ("b", db("10.88.1.3"))]));
    let far = host(&["far", "cccccccccccc"], &[], &["10.88.1.4"]);
    directory.set_host("cccccccccccc", places([("b", far)]));
    directory
}

#[test]
fn who_asks_decides_who_is_found() {
    use Answer::{Name, Nothing, Refused, Unknown};
    use Question::{Addresses as Where, Name as Who, Other};
    let at = |list: &[&str]| Answer::Addresses(list.iter().map(|address| ip(address)).collect());
    let (web, db, far) = ("10.88.0.2", "10.88.0.3", "10.88.1.4");
    let reverse = |text| Who(ip(text));
    let elsewhere = || Answer::Elsewhere(Vec::new());
    let cases = [
        ("a", web, Where("web"), at(&["10.88.0.2", "fd00:88::2"])),
        ("a", web, Where("aaaaaaaaaaaa"), at(&["10.88.0.2", "fd00:88::2"])),
        ("a", web, Where("www"), at(&["10.88.0.2", "fd00:88::2"])),
        ("a", web, Where("web.tare.internal"), at(&["10.88.0.2", "fd00:88::2"])),
        ("a", web, Where("sql.example"), at(&["10.88.0.3"])),
        // Who is called so is it, and not who would like to be.
        ("a", web, Where("db"), at(&["10.88.0.3"])),
        // On networks that who asks is not on, nobody is found.
        ("a", web, Where("far"), Unknown),
        ("a", web, reverse("10.88.1.4"), Unknown),
        ("b", far, Where("web"), Unknown),
        // But on all it is on, whichever server it asks.
        ("a", db, Where("far"), at(&["10.88.1.4"])),
        ("a", db, reverse("10.88.1.4"), Name("far".into())),
        ("b", "10.88.1.3", Where("web"), at(&["10.88.0.2", "fd00:88::2"])),
        ("b", "10.88.1.3", Where("example.org"), elsewhere()),
        // Some address that is nobody's asks.
        ("a", "10.88.0.99", Where("web"), at(&["10.88.0.2", "fd00:88::2"])),
        ("a", "10.88.0.99", Where("far"), Unknown),
        ("a", web, reverse("10.88.0.2"), Name("Web".into())),
        ("a", web, reverse("fd00:88::2"), Name("Web".into())),
        ("a", web, reverse("10.88.0.77"), Unknown),
        ("a", web, reverse("192.0.2.1"), elsewhere()),
        ("a", web, Other("web"), Nothing),
        ("a", web, Other("x.tare.internal"), Unknown),
        ("a", web, Other("com"), elsewhere()),
        ("a", web, Where("example.org"), elsewhere()),
        ("a", web, Where("x.tare.internal"), Unknown),
        ("a", web, Where("tare.internal"), Unknown),
        ("a", web, Where("xtare.internal"), elsewhere()),
        ("a", web, Where("nobody"), Unknown),
        ("b", far, Where("example.org"), Refused),
        ("b", far, reverse("192.0.2.1"), Refused),
        ("no such network", web, Where("web"), Unknown),
    ];
    let directory = directory();
    for (network, from, question, want) in cases {
        let got = directory.answer(network, ip(from), question);
        assert_eq!(got, want, "{from} on {network} asks {question:?}");
    }
}

#[test]
fn a_network_says_whom_else_to_ask() {
    let mut directory = directory();
    let resolver = ip("192.0.2.53");
    let asks = |directory: &Directory, network, from| {
        directory.answer(network, ip(from), Question::Addresses("example.org"))
    };
    directory.set_network("a", Vec::new(), Foreign::Asked(vec![resolver]));
    let named = Answer::Elsewhere(vec![resolver]);
    assert_eq!(asks(&directory, "a", "10.88.0.2"), named);
    // Who is on it as well, on whichever network it asks.
    assert_eq!(asks(&directory, "b", "10.88.1.3"), named);
    assert_eq!(asks(&directory, "b", "10.88.1.4"), Answer::Refused);
    directory.set_network("b", Vec::new(), Foreign::Forwarded);
    assert_eq!(asks(&directory, "b", "10.88.1.3"), Answer::Elsewhere(Vec::new()), "its own first");
}

#[test]
fn what_changes_is_answered_by() {
    let mut directory = directory();
    let web = |directory: &Directory, name| {
        directory.answer("a", ip("10.88.0.3"), Question::Addresses(name))
    };
    directory.set_host("aaaaaaaaaaaa", places([("a", host(&["new"], &[], &["10.88.0.9"]))]));
    assert_eq!(web(&directory, "web"), Answer::Unknown);
    assert_eq!(web(&directory, "new"), Answer::Addresses(vec![ip("10.88.0.9")]));
    directory.set_host("bbbbbbbbbbbb", Vec::new());
    assert_eq!(web(&directory, "db"), Answer::Unknown);
    directory.remove_network("a");
    assert_eq!(web(&directory, "new"), Answer::Unknown);
    // Who is on a network that comes later is told again.
    directory.set_network("a", Vec::new(), Foreign::Refused);
    assert_eq!(web(&directory, "new"), Answer::Unknown);
}

#[test]
fn what_is_handed_over_answers_the_same() {
    let directory = directory();
    let whole = directory.whole(vec!["a".into()]);
    let text = serde_json::to_vec(&whole).unwrap();
    let whole: handover::Whole = serde_json::from_slice(&text).unwrap();
    let other = Directory::from_whole(&whole.domain, whole.networks);
    for name in ["web", "db", "far", "sql.example", "web.tare.internal", "nobody", "example.org"] {
        for (network, from) in [("a", "10.88.0.2"), ("a", "10.88.0.3"), ("b", "10.88.1.4")] {
            let answer = |it: &Directory| it.answer(network, ip(from), Question::Addresses(name));
            assert_eq!(answer(&other), answer(&directory), "{from} asks for {name}");
        }
    }
}

#[test]
fn a_name_no_question_can_have_is_not_given() {
    let mut directory = directory();
    let long = "x".repeat(64);
    let named = host(&[&long, "dddddddddddd"], &[], &["10.88.0.9"]);
    directory.set_host("dddddddddddd", places([("a", named)]));
    let name = directory.answer("a", ip("10.88.0.2"), Question::Name(ip("10.88.0.9")));
    assert_eq!(name, Answer::Name("dddddddddddd".into()));
}

proptest! {
    #[test]
    fn nothing_is_left_of_who_is_gone(hosts in proptest::collection::vec(
        ("[a-c]{1,2}", proptest::collection::vec("[a-d]{1}", 0..3), 2_u8..6), 1..8,
    )) {
        let mut directory = directory();
        let before = format!("{directory:?}").len();
        for (key, names, last) in &hosts {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let address = format!("10.88.0.{last}0");
            directory.set_host(key, places([("a", host(&names, &["z"], &[&address]))]));
        }
        for (key, ..) in &hosts {
            directory.set_host(key, Vec::new());
        }
        prop_assert_eq!(format!("{directory:?}").len(), before);
    }
}
