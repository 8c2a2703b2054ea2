//! Published ports at the host's own `::1`, which the firewall cannot lead to a container: what
//! comes there is passed on by this process. The container sees the host as the caller, and not `::1`.
//!
//! The sockets listen since they were taken, and lie where the ports lie: while there is no daemon,
//! connections wait. Those that are under way end with it.

mod datagrams;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as Bound, UdpSocket as BoundUdp};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tare_netns::{HeldPort, Protocol, Publication};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Connections of one container at a time. Others wait: one at each port, the rest in the kernel.
const MAX_CONNECTIONS: usize = 128;
/// Those who send datagrams to it; others are not heard.
const MAX_SENDERS: usize = 128;
/// A container that does not answer is as good as one that refuses.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an error of a socket, such as no descriptor left: it is not to be busy failing.
const PAUSE: Duration = Duration::from_millis(100);

/// What passes on for one container, until it is dropped.
#[derive(Debug)]
pub(super) struct Proxies {
    room: Arc<Semaphore>,
    room_for_senders: Arc<Semaphore>,
    /// Of each address of the container that is led to. Dropping it ends the connections to there.
    lives: BTreeMap<IpAddr, watch::Sender<()>>,
    accepting: BTreeMap<Entry, Accepting>,
}

/// Where it comes in.
type Entry = (SocketAddr, Protocol);

/// What takes what comes in at one port.
#[derive(Debug)]
struct Accepting {
    target: SocketAddr,
    task: JoinHandle<()>,
}

impl Default for Proxies {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            room_for_senders: Arc::new(Semaphore::new(MAX_SENDERS)),
            lives: BTreeMap::new(),
            accepting: BTreeMap::new(),
        }
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.accepting.values().for_each(|accepting| accepting.task.abort());
    }
}

impl Proxies {
    /// Passes on what comes at those of `ports` that listen, to where they are published to by now. Connections
    /// that exist stay.
    pub(super) fn lead(&mut self, ports: &[HeldPort], publications: &[Publication]) {
        for port in ports.iter().filter(|port| port.listens()) {
            let entry = (port.address, port.protocol);
            let wanted = publications.iter().find_map(|to| target(to, entry));
            if self.accepting.get(&entry).map(|accepting| accepting.target) == wanted {
                continue;
            }
            if let Some(before) = self.accepting.remove(&entry) {
                before.task.abort();
            }
            let Some(target) = wanted else { continue };
            match self.accept(port, target) {
                Ok(task) => drop(self.accepting.insert(entry, Accepting { target, task })),
                Err(error) => tracing::warn!("nothing is passed on at {}: {error}", port.address),
            }
        }
    }

    /// Takes nothing any more at others than these, and holds no others when this returns. Connections
    /// that exist stay; datagrams have none.
    pub(super) async fn retain(&mut self, keep: &[HeldPort]) {
        let is_kept =
            |entry: &Entry| keep.iter().any(|port| (port.address, port.protocol) == *entry);
        self.end(|entry, _| !is_kept(entry)).await;
    }

    /// Leads to these addresses no more: nothing is under way to them when this returns, for they may be
    /// another's then. Whoever calls waits until it is known where to lead to.
    pub(super) async fn leave(&mut self, addresses: &[IpAddr]) {
        self.end(|_, accepting| addresses.contains(&accepting.target.ip())).await;
        for address in addresses {
            if let Some(life) = self.lives.remove(address) {
                life.send_replace(());
                life.closed().await;
            }
        }
    }

    /// Takes nothing any more, and leads nowhere.
    pub(super) async fn let_go(&mut self) {
        self.end(|_, _| true).await;
        let addresses: Vec<_> = self.lives.keys().copied().collect();
        self.leave(&addresses).await;
    }

    async fn end(&mut self, is_over: impl Fn(&Entry, &Accepting) -> bool) {
        let over = self.accepting.iter().filter(|(entry, accepting)| is_over(entry, accepting));
        let over: Vec<Entry> = over.map(|(entry, _)| *entry).collect();
        for entry in over {
            if let Some(Accepting { task, .. }) = self.accepting.remove(&entry) {
                task.abort();
                // Its socket goes with it, and that is not at once.
                let _ = task.await;
            }
        }
    }

    fn accept(&mut self, port: &HeldPort, target: SocketAddr) -> io::Result<JoinHandle<()>> {
        let socket = port.socket.try_clone()?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        let task = if port.protocol == Protocol::Udp {
            let room = self.room_for_senders.clone();
            let socket = UdpSocket::from_std(BoundUdp::from(socket))?;
            tokio::spawn(datagrams::exchange(socket, target, room))
        } else {
            let listener = TcpListener::from_std(Bound::from(socket))?;
            let life = self.life_of(target.ip());
            tokio::spawn(accept(listener, target, self.room.clone(), life))
        };
        Ok(task)
    }

    /// Ends with what leads to that address.
    fn life_of(&mut self, address: IpAddr) -> watch::Receiver<()> {
        self.lives.entry(address).or_insert_with(|| watch::Sender::new(())).subscribe()
    }
}

/// Where a port of the host leads, if this publishes it. A family of its own is as good as any: who
/// calls is not seen anyway.
fn target(publication: &Publication, (at, protocol): Entry) -> Option<SocketAddr> {
    let port = &publication.port;
    let offset = at.port().checked_sub(port.host()).filter(|offset| *offset < port.count())?;
    let is_here = port.at().is_none_or(|it| it == at.ip() || (it.is_ipv6() && it.is_unspecified()));
    if port.protocol() != protocol || !is_here {
        return None;
    }
    let to: IpAddr =
        publication.v6.map(IpAddr::from).or_else(|| publication.v4.map(IpAddr::from))?;
    Some(SocketAddr::new(to, port.container() + offset))
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    room: Arc<Semaphore>,
    life: watch::Receiver<()>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        // Only now: where nobody calls, no place is taken.
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let life = life.clone();
        tokio::spawn(async move {
            pass_on(stream, target, life).await;
            drop(place);
        });
    }
}

/// Until both have said all, or one has gone, or that life is over. Whoever cannot be reached has refused.
async fn pass_on(mut caller: TcpStream, target: SocketAddr, mut life: watch::Receiver<()>) {
    let connected = tokio::select! {
        connected = timeout(PATIENCE, TcpStream::connect(target)) => connected,
        // An error: the other end was dropped.
        _ = life.changed() => return,
    };
    let Ok(Ok(mut container)) = connected else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut caller, &mut container) => {}
        _ = life.changed() => {
            // Else the kernel would go on sending what is under way, to whoever has the address by then.
            let _ = set_socket_linger(&container, Some(Duration::ZERO));
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "these are the other ends")]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use tare_netns::PortRequest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn publication(at: Option<&str>, host: u16, count: u16) -> Publication {
        let port = serde_json::json!({
            "at": at, "protocol": "tcp", "host": host, "container": 80, "count": count,
        });
        let (v4, v6) = (Some("10.88.0.2".parse().unwrap()), None);
        let port = serde_json::from_value(port).unwrap();
        Publication { port, bridge: Some("tare0".parse().unwrap()), v4, v6 }
    }

    #[test]
    fn a_port_leads_where_it_is_published_to() {
        for (published, port, want) in [
            (publication(None, 8080, 1), 8080, Some("10.88.0.2:80")),
            (publication(Some("::"), 8080, 1), 8080, Some("10.88.0.2:80")),
            (publication(Some("::1"), 8080, 3), 8082, Some("10.88.0.2:82")),
            (publication(None, 8080, 3), 8083, None),
            (publication(None, 8080, 3), 8079, None),
            (publication(Some("127.0.0.1"), 8080, 1), 8080, None),
        ] {
            let at = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            let want = want.map(|want| want.parse().unwrap());
            assert_eq!(target(&published, (at, Protocol::Tcp)), want, "{published:?} {port}");
            assert_eq!(target(&published, (at, Protocol::Udp)), None);
        }
        let seen = Publication { v6: Some("fd00::2".parse().unwrap()), ..publication(None, 80, 1) };
        let at = "[::1]:80".parse().unwrap();
        assert_eq!(target(&seen, (at, Protocol::Tcp)), Some("[fd00::2]:80".parse().unwrap()));
    }

    /// Also if there are callers who wait for an answer.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_port_that_was_let_go_is_anybodys_at_once() {
        let container = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = container.local_addr().unwrap();
        for _ in 0..100 {
            let entry = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let at = entry.local_addr().unwrap();
            let mut proxies = Proxies::default();
            let exchange = datagrams::exchange(entry, target, proxies.room_for_senders.clone());
            let accepting = Accepting { target, task: tokio::spawn(exchange) };
            proxies.accepting.insert((at, Protocol::Udp), accepting);
            let caller = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            caller.send_to(b"hello", at).await.unwrap();
            container.recv_from(&mut [0; 8]).await.unwrap();
            proxies.retain(&[]).await;
            UdpSocket::bind(at).await.expect("nobody holds it");
        }
    }

    #[tokio::test]
    async fn what_is_said_is_passed_on_until_the_container_ends() {
        let container = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = container.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let mut proxies = Proxies::default();
        let life = proxies.life_of(target.ip());
        let accepting = tokio::spawn(accept(listener, target, proxies.room.clone(), life));
        let mut caller = TcpStream::connect(at).await.unwrap();
        let (mut server, _) = container.accept().await.unwrap();
        caller.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        server.write_all(b"there").await.unwrap();
        caller.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"there");
        drop(proxies);
        assert_eq!(caller.read(&mut heard).await.unwrap_or(0), 0, "it does not wait for nobody");
        accepting.abort();
    }

    /// A port that listens, and what is published there at that address.
    fn published_to(to: Ipv4Addr, port: u16) -> (Vec<HeldPort>, Vec<Publication>) {
        let request = PortRequest::new(Some(Ipv6Addr::LOCALHOST.into()), Protocol::Tcp, 0, port, 1);
        let reserved = tare_netns::reserve(&[request.unwrap()]).unwrap();
        let publish = |&port| Publication { port, bridge: None, v4: Some(to), v6: None };
        (reserved.sockets, reserved.ports.iter().map(publish).collect())
    }

    #[tokio::test]
    async fn what_leads_to_an_address_ends_with_it_and_begins_anew() {
        let [first, second] = [[127, 0, 0, 2], [127, 0, 0, 3]].map(Ipv4Addr::from);
        let before = TcpListener::bind((first, 0)).await.unwrap();
        let inside = before.local_addr().unwrap().port();
        let after = TcpListener::bind((second, inside)).await.unwrap();
        let mut proxies = Proxies::default();
        let (ports, mut published) = published_to(first, inside);
        proxies.lead(&ports, &published);
        let at = ports[0].address;
        let mut caller = TcpStream::connect(at).await.unwrap();
        let _server = before.accept().await.unwrap();
        // That connection stays, though the port goes.
        proxies.retain(&[]).await;
        assert!(timeout(PAUSE, caller.read(&mut [0])).await.is_err(), "it says nothing");
        proxies.lead(&ports, &published);
        proxies.leave(&[second.into()]).await;
        assert!(timeout(PAUSE, caller.read(&mut [0])).await.is_err(), "it says nothing");

        proxies.leave(&[first.into()]).await;
        let heard = timeout(PATIENCE, caller.read(&mut [0])).await.expect("it has ended");
        assert_eq!(heard.unwrap_or(0), 0);
        let _waits = TcpStream::connect(at).await.expect("it is let in");
        assert!(timeout(PAUSE, before.accept()).await.is_err(), "it waits");
        published[0].v4 = Some(second);
        proxies.lead(&ports, &published);
        timeout(PATIENCE, after.accept()).await.expect("it is led there").unwrap();
        // It is led elsewhere while all is there.
        published[0].v4 = Some(first);
        proxies.lead(&ports, &published);
        tokio::task::yield_now().await;
        let _caller = TcpStream::connect(at).await.unwrap();
        timeout(PATIENCE, before.accept()).await.expect("it is led back").unwrap();
    }

    #[tokio::test]
    async fn a_port_where_nobody_calls_takes_no_place() {
        let container = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = container.local_addr().unwrap();
        let (room, life) = (Arc::new(Semaphore::new(1)), watch::Sender::new(()));
        let mut callers = Vec::new();
        for calls in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            tokio::spawn(accept(listener, target, room.clone(), life.subscribe()));
            tokio::task::yield_now().await;
            if calls {
                callers.push(TcpStream::connect(at).await.unwrap());
            }
        }
        timeout(PATIENCE, container.accept()).await.expect("there is room").unwrap();
    }
}
