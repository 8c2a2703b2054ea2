//! Answering on sockets.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::{self, Handle};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::forward::{ask, read_framed, write_framed};
use crate::resolvers::Resolvers;
use crate::shares::{Client, Shares};
use crate::wire::{self, Outcome, Transport};
use crate::{Directory, Error, PORT, Sockets};

/// Questions of one network that the resolvers are asked at a time; each has a descriptor.
const MAX_FORWARDED: usize = 256;
/// Of these, those of one who asks.
const MAX_FORWARDED_EACH: usize = 32;
/// Connections of one network at a time; others wait in the kernel.
const MAX_CONNECTIONS: usize = 64;
/// Of these, those of one who asks; others are closed.
const MAX_CONNECTIONS_EACH: usize = 8;
/// A connection on which nothing is asked for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// After an error of a socket, such as no descriptor left: it is not to be busy failing.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest question that is looked at, in bytes: one with a name of 255 and EDNS has 300.
const MAX_QUESTION: usize = 4096;

/// Answers questions until it is dropped.
#[derive(Debug)]
pub struct Server {
    directory: Arc<RwLock<Directory>>,
    resolvers: Arc<Resolvers>,
    runtime: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A network that is answered; dropping it ends that, a moment later.
#[derive(Debug)]
#[must_use = "dropping it ends the answers"]
pub struct Serving(Vec<AbortHandle>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Server {
    /// A server that answers by `directory`, and asks the resolvers that are in the file
    /// `resolv_conf`, whatever that says by then.
    ///
    /// # Errors
    ///
    /// [`Error::Start`].
    pub fn start(directory: Arc<RwLock<Directory>>, resolv_conf: PathBuf) -> Result<Self, Error> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::Start)?;
        let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel::<()>());
        let thread = thread::Builder::new().name("names".into()).spawn(move || {
            // What is sent, or that the sender is gone: both mean the end.
            let _ = runtime.block_on(ended);
        });
        let thread = Some(thread.map_err(Error::Start)?);
        let resolvers = Arc::new(Resolvers::new(resolv_conf));
        Ok(Self { directory, resolvers, runtime: handle, end: Some(end), thread })
    }

    /// Answers on these sockets whoever asks on that network.
    ///
    /// # Errors
    ///
    /// [`Error::Start`].
    pub fn serve(&self, network: &str, sockets: Sockets) -> Result<Serving, Error> {
        let _inside = self.runtime.enter();
        let Sockets { udp, tcp } = sockets;
        let made = udp.set_nonblocking(true).and_then(|()| tcp.set_nonblocking(true));
        let made = made.and_then(|()| Ok((UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?)));
        let (udp, tcp) = made.map_err(Error::Start)?;
        let desk = Arc::new(Desk {
            network: network.to_owned(),
            directory: self.directory.clone(),
            resolvers: self.resolvers.clone(),
            forwarded: Semaphore::new(MAX_FORWARDED),
            forwarded_each: Shares::new(MAX_FORWARDED_EACH),
            connected_each: Shares::new(MAX_CONNECTIONS_EACH),
        });
        let datagrams = self.runtime.spawn(datagrams(Arc::new(udp), desk.clone()));
        let connections = self.runtime.spawn(connections(tcp, desk));
        Ok(Serving(vec![datagrams.abort_handle(), connections.abort_handle()]))
    }
}

impl Server {
    /// The same on several pairs of sockets: on all of them, or on none.
    pub(crate) fn serve_all(
        &self,
        network: &str,
        sockets: Vec<Sockets>,
    ) -> Result<Vec<Serving>, Error> {
        sockets.into_iter().map(|sockets| self.serve(network, sockets)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is needed to answer on one network.
#[derive(Debug)]
struct Desk {
    network: String,
    directory: Arc<RwLock<Directory>>,
    resolvers: Arc<Resolvers>,
    forwarded: Semaphore,
    forwarded_each: Arc<Shares>,
    connected_each: Arc<Shares>,
}

impl Desk {
    fn outcome(&self, from: IpAddr, question: &[u8], transport: Transport) -> Outcome {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        wire::outcome(&directory, &self.network, from, question, transport)
    }

    fn client(&self, from: IpAddr) -> Client {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        directory.host_at(&self.network, from).map(str::to_owned)
    }

    /// What these resolvers say, or the host's if there are none; with too many questions under
    /// way already, of all or of this one, that it failed.
    async fn ask(
        &self,
        from: IpAddr,
        query: &Message,
        resolvers: &[IpAddr],
        transport: Transport,
    ) -> Vec<u8> {
        let resolvers = match resolvers {
            [] => self.resolvers.now(),
            named => named.iter().map(|address| SocketAddr::new(*address, PORT)).collect(),
        };
        let share = self.forwarded_each.take(self.client(from));
        let answer = match (share, self.forwarded.try_acquire()) {
            (Some(_share), Ok(_one)) => ask(query, transport, resolvers).await,
            _ => wire::failure(query, ResponseCode::ServFail),
        };
        wire::encode(&answer, wire::limit(query, transport)).unwrap_or_default()
    }
}

async fn datagrams(socket: Arc<UdpSocket>, desk: Arc<Desk>) {
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => datagram(&socket, &desk, &buffer[..length], from),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// An answer that cannot be sent at once is lost, as any datagram may be: nobody waits for it.
fn datagram(socket: &Arc<UdpSocket>, desk: &Arc<Desk>, question: &[u8], from: SocketAddr) {
    match desk.outcome(from.ip(), question, Transport::Udp) {
        Outcome::Silence => {}
        Outcome::Reply(answer) => drop(socket.try_send_to(&answer, from)),
        Outcome::Forward(query, resolvers) => {
            let (socket, desk) = (socket.clone(), desk.clone());
            tokio::spawn(async move {
                let answer = desk.ask(from.ip(), &query, &resolvers, Transport::Udp).await;
                let _ = socket.send_to(&answer, from).await;
            });
        }
    }
}

async fn connections(listener: TcpListener, desk: Arc<Desk>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                // Who has enough of them has this one closed at once (RFC 7766, 6.2.2).
                let share = desk.connected_each.take(desk.client(from.ip()));
                let Some(share) = share else { continue };
                let desk = desk.clone();
                tokio::spawn(async move {
                    converse(stream, from.ip(), &desk).await;
                    drop((place, share));
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// One question after the other, until one does not come, or the answer is not taken.
async fn converse(mut stream: TcpStream, from: IpAddr, desk: &Desk) {
    while let Ok(Ok(question)) = timeout(IDLE, read_framed(&mut stream)).await {
        let answer = match desk.outcome(from, &question, Transport::Tcp) {
            Outcome::Reply(answer) => answer,
            Outcome::Forward(query, resolvers) => {
                desk.ask(from, &query, &resolvers, Transport::Tcp).await
            }
            Outcome::Silence => return,
        };
        let Ok(Ok(())) = timeout(IDLE, write_framed(&mut stream, &answer)).await else { return };
    }
}
