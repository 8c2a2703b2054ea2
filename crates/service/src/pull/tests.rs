//! A worker that says what a stranger wants.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::thread;

use futures_util::StreamExt;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::*;

const SAID: u8 = 0;
const BYTES: u8 = 1;

/// What is said of one thing that was asked: packets, and what follows them.
#[derive(Clone, Copy)]
enum Then {
    /// It is not the end.
    Stay,
    /// The worker ends.
    Die,
}

/// A repository whose worker answers everything in this way.
fn repository(packets: Vec<Vec<u8>>, then: Then) -> Repository {
    let (session, theirs) = tare_worker::Session::pair().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        while let Some(answer) = asked(&theirs) {
            for packet in &packets {
                if rustix::net::send(&answer, packet, SendFlags::NOSIGNAL).is_err() {
                    break;
                }
            }
            match then {
                Then::Stay => kept.push(answer),
                Then::Die => return,
            }
        }
    });
    Repository(Worker::of(session))
}

/// The socket that came with what is asked next.
fn asked(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 4096];
    let parts = &mut [IoSliceMut::new(&mut text)];
    recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

fn said(json: &str) -> Vec<u8> {
    [&[SAID], json.as_bytes()].concat()
}

fn bytes(of: &[u8]) -> Vec<u8> {
    [&[BYTES], of].concat()
}

fn name(result: Result<impl Sized, Error>) -> &'static str {
    result.map_or_else(|error| error.name(), |_| "done")
}

#[tokio::test]
async fn what_a_worker_says_is_believed_as_far_as_it_can_be_checked() {
    let (right, wrong) = (Digest::of(b"right"), Digest::of(b"wrong"));
    let done = || said(r#""done""#);
    let endless = vec![bytes(&vec![b' '; 60_000]); MAX_MANIFEST / 60_000 + 1];
    for (about, packets, then, wanted) in [
        ("it is right", vec![bytes(b"ri"), bytes(b"ght"), done()], Then::Stay, "done"),
        ("it is another", vec![bytes(b"wrong"), done()], Then::Stay, "DigestMismatch"),
        ("it has no end", vec![bytes(b"right")], Then::Die, "WorkerFailed"),
        ("nothing comes", vec![], Then::Die, "WorkerFailed"),
        ("it is too long", endless, Then::Stay, "InvalidArchive"),
        ("no JSON", vec![said("{")], Then::Stay, "WorkerFailed"),
        ("another's answer", vec![said(r#"{"from":0}"#)], Then::Stay, "WorkerFailed"),
        ("no packet", vec![vec![7]], Then::Stay, "WorkerFailed"),
        (
            "a failure",
            vec![said(r#"{"failed":{"kind":"denied","text":"\u0007"}}"#)],
            Then::Stay,
            "RegistryDenied",
        ),
        (
            "one that nobody knows",
            vec![said(r#"{"failed":{"kind":"later","text":""}}"#)],
            Then::Stay,
            "WorkerFailed",
        ),
    ] {
        let repository = repository(packets, then);
        let found = repository.manifest(&By::Digest(right)).await;
        assert_eq!(name(found), wanted, "{about}");
    }
    let blob = vec![said(r#"{"from":0}"#), bytes(b"right"), done()];
    for (digest, most, wanted) in
        [(&right, 5, "done"), (&wrong, 5, "DigestMismatch"), (&right, 4, "InvalidArchive")]
    {
        let found = repository(blob.clone(), Then::Stay).small_blob(digest, most).await;
        assert_eq!(name(found), wanted, "{digest}, {most}");
    }
}

#[tokio::test]
async fn a_blob_goes_on_where_it_was_or_begins_again() {
    let digest = Digest::of(b"");
    for (from, wanted) in [(0, Some(0)), (7, Some(7)), (3, None), (8, None)] {
        let repository = repository(vec![said(&format!(r#"{{"from":{from}}}"#))], Then::Die);
        let begun = repository.blob_from(&digest, 7).await;
        assert_eq!(begun.as_ref().ok().map(|(from, _)| *from), wanted, "{from}");
        if let Ok((_, pieces)) = begun {
            let first = std::pin::pin!(pieces).next().await.unwrap();
            assert!(matches!(first, Err(Error::Worker(_))), "it has ended: {first:?}");
        }
    }
}

#[tokio::test]
async fn descriptors_of_a_worker_are_not_taken() {
    let (session, theirs) = tare_worker::Session::pair().unwrap();
    let repository = Repository(Worker::of(session));
    let worker = thread::spawn(move || {
        let answer = asked(&theirs).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [theirs.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let text = said(r#""done""#);
        sendmsg(&answer, &[io::IoSlice::new(&text)], &mut control, SendFlags::empty()).unwrap();
    });
    assert_eq!(name(repository.sign_in().await), "WorkerFailed");
    worker.join().unwrap();
}
