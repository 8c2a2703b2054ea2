use super::*;
use crate::{Foreign, Host};
use proptest::prelude::*;

fn directory(addresses: usize) -> Directory {
    let mut directory = Directory::new("tare.internal");
    directory.set_network("n", vec!["10.88.0.0/16".parse().unwrap()], Foreign::Forwarded);
    let host = Host {
        names: vec!["Web".into(), "0123456789ab".into()],
        aliases: vec![],
        addresses: (1..=addresses)
            .map(|at| IpAddr::from([10, 88, 0, u8::try_from(at).unwrap()]))
            .chain(["fd00::1".parse().unwrap()])
            .collect(),
    };
    directory.set_host("0123456789ab", vec![("n".into(), host)]);
    directory
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(message: &Message, transport: Transport, addresses: usize) -> Outcome {
    let bytes = message.to_vec().unwrap();
    outcome(&directory(addresses), "n", "10.88.0.1".parse().unwrap(), &bytes, transport)
}

fn reply(message: &Message, transport: Transport, addresses: usize) -> Message {
    match ask(message, transport, addresses) {
        Outcome::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_is_to_the_question() {
    for (name, kind, code, answers) in [
        ("web.", RecordType::A, ResponseCode::NoError, vec!["10.88.0.1"]),
        ("WEB.Tare.Internal.", RecordType::A, ResponseCode::NoError, vec!["10.88.0.1"]),
        ("0123456789ab.", RecordType::AAAA, ResponseCode::NoError, vec!["fd00::1"]),
        ("web.", RecordType::ANY, ResponseCode::NoError, vec!["10.88.0.1", "fd00::1"]),
        ("web.", RecordType::MX, ResponseCode::NoError, vec![]),
        ("nobody.", RecordType::A, ResponseCode::NXDomain, vec![]),
        ("1.0.88.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NoError, vec!["Web."]),
        ("2.0.88.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain, vec![]),
    ] {
        let asked = query(name, kind);
        let got = reply(&asked, Transport::Udp, 1);
        let said: Vec<_> = got.answers.iter().map(|record| record.data.to_string()).collect();
        assert_eq!(
            (got.metadata.response_code, said),
            (code, answers.iter().map(|a| (*a).to_owned()).collect()),
            "{name} {kind}"
        );
        assert_eq!((got.metadata.id, &got.queries), (asked.metadata.id, &asked.queries));
        assert!(got.metadata.authoritative && got.metadata.recursion_available, "{got:?}");
        assert!(got.answers.iter().all(|record| record.ttl == 0), "it may change at once");
    }
}

#[test]
fn what_is_not_ours_is_asked_again_with_nothing_but_the_question() {
    let mut asked = query("example.org.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    asked.set_edns(edns);
    let Outcome::Forward(query, _) = ask(&asked, Transport::Udp, 1) else { panic!("not ours") };
    let onward = onward(&query);
    assert_ne!(onward.metadata.id, query.metadata.id);
    assert_eq!(onward.queries, asked.queries);
    assert!(onward.edns.as_ref().unwrap().flags().dnssec_ok);
    let mut answer = Message::response(onward.metadata.id, OpCode::Query);
    answer.queries.clone_from(&onward.queries);
    assert!(answer_to(&onward, &answer.to_vec().unwrap()).is_some());
    answer.metadata.id = answer.metadata.id.wrapping_add(1);
    assert!(answer_to(&onward, &answer.to_vec().unwrap()).is_none(), "another number");
    answer.metadata.id = onward.metadata.id;
    answer.queries[0].set_query_type(RecordType::AAAA);
    assert!(answer_to(&onward, &answer.to_vec().unwrap()).is_none(), "another question");
}

#[test]
fn what_does_not_fit_is_said_to_be_missing() {
    let mut asked = query("web.", RecordType::A);
    let sizes = |asked: &Message, transport| {
        let Outcome::Reply(bytes) = ask(asked, transport, 200) else { panic!("ours") };
        (bytes.len(), Message::from_vec(&bytes).unwrap().metadata.truncation)
    };
    let (length, truncated) = sizes(&asked, Transport::Udp);
    assert!(length <= 512 && truncated, "{length} {truncated}");
    let (length, truncated) = sizes(&asked, Transport::Tcp);
    assert!(length > 200 * 16 && !truncated, "{length} {truncated}");
    let mut edns = Edns::new();
    edns.set_max_payload(u16::MAX);
    asked.set_edns(edns);
    let (length, truncated) = sizes(&asked, Transport::Udp);
    assert!((513..=1232).contains(&length) && truncated, "{length} {truncated}");
}

#[test]
fn what_is_no_question_gets_no_answer_or_an_error() {
    let code = |message: &Message| reply(message, Transport::Udp, 1).metadata.response_code;
    let mut two = query("web.", RecordType::A);
    two.add_query(Query::query(Name::from_ascii("db.").unwrap(), RecordType::A));
    assert_eq!(code(&two), ResponseCode::FormErr);
    let mut update = query("web.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos), ResponseCode::Refused);
    let response = Message::response(1, OpCode::Query);
    assert!(matches!(ask(&response, Transport::Udp, 1), Outcome::Silence), "no ping-pong");
    let from = "10.88.0.1".parse().unwrap();
    let raw = |bytes: &[u8]| outcome(&directory(1), "n", from, bytes, Transport::Udp);
    assert!(matches!(raw(b"hello"), Outcome::Silence));
    let broken = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x3f, b'x'];
    let Outcome::Reply(bytes) = raw(&broken) else { panic!("its header can be read") };
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (0x1234, ResponseCode::FormErr));
}

proptest! {
    #[test]
    fn nothing_that_is_sent_is_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let from = "10.88.0.1".parse().unwrap();
        if let Outcome::Reply(reply) = outcome(&directory(3), "n", from, &bytes, Transport::Udp) {
            prop_assert!(reply.len() <= 1232);
        }
    }
}
