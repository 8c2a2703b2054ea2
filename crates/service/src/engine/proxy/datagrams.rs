//! The same for datagrams: each caller gets a socket of its own to the container, and what comes
//! back there is sent back to it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::net::SendFlags;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::PAUSE;
use crate::effects;

/// A caller of which nothing was heard for this long, nor anything for it, is forgotten; the kernel
/// has it so with those it translates (`nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);
/// Longest datagram.
const LONGEST: usize = u16::MAX as usize;

/// Somebody who sends.
#[derive(Debug)]
struct Caller {
    onward: Arc<UdpSocket>,
    /// Whether anything was heard of it since that was last asked.
    spoke: Arc<AtomicBool>,
    answers: AbortHandle,
}

/// Passes on what comes at `socket`, until it is dropped. With it all callers go: nobody but who
/// passes on is to keep the port.
pub(super) async fn exchange(socket: UdpSocket, target: SocketAddr, room: Arc<Semaphore>) {
    exchange_for(IDLE, socket, target, room).await;
}

/// A caller is forgotten after `idle`.
async fn exchange_for(idle: Duration, socket: UdpSocket, target: SocketAddr, room: Arc<Semaphore>) {
    let socket = Arc::new(socket);
    let (mut callers, mut answers) = (HashMap::new(), JoinSet::new());
    let mut buffer = vec![0; LONGEST];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            sleep(PAUSE).await;
            continue;
        };
        while answers.try_join_next().is_some() {}
        callers.retain(|_, caller: &mut Caller| !caller.answers.is_finished());
        let caller = match callers.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                // Beyond what there is room for nobody is heard: a datagram may be lost.
                let Ok(place) = room.clone().try_acquire_owned() else { continue };
                let Ok(onward) = connected(target).await else { continue };
                new.insert(call(&mut answers, idle, &socket, onward, (from, place)))
            }
        };
        caller.spoke.store(true, Ordering::Relaxed);
        // At once or not at all, like the network would have it.
        let _ = rustix::net::send(&*caller.onward, &buffer[..length], SendFlags::DONTWAIT);
    }
}

fn call(
    answers: &mut JoinSet<()>,
    idle: Duration,
    back: &Arc<UdpSocket>,
    onward: UdpSocket,
    (from, place): (SocketAddr, OwnedSemaphorePermit),
) -> Caller {
    let (onward, spoke) = (Arc::new(onward), Arc::new(AtomicBool::new(true)));
    let (back, heard, still) = (Arc::downgrade(back), onward.clone(), spoke.clone());
    let answers = answers.spawn(async move {
        answer(idle, &back, &heard, from, &still).await;
        drop(place);
    });
    Caller { onward, spoke, answers }
}

async fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let from: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = effects::bind_datagrams(from).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Sends back what the container says, as long as there is anything to be heard of either.
async fn answer(
    idle: Duration,
    back: &Weak<UdpSocket>,
    onward: &UdpSocket,
    to: SocketAddr,
    spoke: &AtomicBool,
) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match timeout(idle, onward.recv(&mut buffer)).await {
            Ok(Ok(length)) => {
                // The port is held by who passes on alone. At once or not at all, as above.
                let Some(back) = back.upgrade() else { return };
                let _ = back.try_send_to(&buffer[..length], to);
            }
            // Nobody is there in the container, yet.
            Ok(Err(_)) => sleep(PAUSE).await,
            Err(_) if spoke.swap(false, Ordering::Relaxed) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "these are the other ends")]
mod tests {
    use super::*;

    async fn socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    async fn heard(socket: &UdpSocket) -> (String, SocketAddr) {
        let mut buffer = [0; 64];
        let (length, from) = timeout(Duration::from_secs(10), socket.recv_from(&mut buffer))
            .await
            .expect("something comes")
            .unwrap();
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), from)
    }

    #[tokio::test]
    async fn each_caller_gets_its_own_answers_and_there_are_not_too_many() {
        let (container, target) = socket().await;
        let (entry, at) = socket().await;
        let exchange = tokio::spawn(exchange(entry, target, Arc::new(Semaphore::new(2))));
        let (first, second, third) = (socket().await.0, socket().await.0, socket().await.0);
        let mut seen = Vec::new();
        for (caller, word) in [(&first, "a"), (&second, "b"), (&first, "c")] {
            caller.send_to(word.as_bytes(), at).await.unwrap();
            let (said, from) = heard(&container).await;
            assert_eq!(said, word);
            container.send_to(format!("{word}!").as_bytes(), from).await.unwrap();
            assert_eq!(heard(caller).await, (format!("{word}!"), at), "from where it was asked");
            seen.push(from);
        }
        assert_eq!(seen[0], seen[2], "one socket for each caller");
        assert_ne!(seen[0], seen[1]);
        third.send_to(b"x", at).await.unwrap();
        first.send_to(b"d", at).await.unwrap();
        assert_eq!(heard(&container).await.0, "d", "for the third there is no room");
        exchange.abort();
        let _ = exchange.await;
        UdpSocket::bind(at).await.expect("the port is free at once");
    }

    #[tokio::test]
    async fn who_is_not_heard_of_is_forgotten() {
        let (container, target) = socket().await;
        let (entry, at) = socket().await;
        let room = Arc::new(Semaphore::new(1));
        let idle = Duration::from_millis(50);
        let _exchange = tokio::spawn(exchange_for(idle, entry, target, room.clone()));
        let (first, second) = (socket().await.0, socket().await.0);
        first.send_to(b"a", at).await.unwrap();
        let (_, known_as) = heard(&container).await;
        assert_eq!(room.available_permits(), 0);
        drop(room.acquire().await.unwrap());
        second.send_to(b"b", at).await.unwrap();
        assert_ne!(heard(&container).await.1, known_as, "there is room for another");
    }
}
