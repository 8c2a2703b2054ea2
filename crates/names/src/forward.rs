//! Asking the host's resolvers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::wire::{self, Transport};

/// How long each of them may take; libc gives its own first server 5 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the first of `resolvers` says that says anything; over the transport the question came by,
/// so that whoever was told that an answer was cut short gets all of it.
pub(crate) async fn ask(
    query: &Message,
    transport: Transport,
    resolvers: Vec<SocketAddr>,
) -> Message {
    let mut last = wire::failure(query, ResponseCode::ServFail);
    for resolver in resolvers {
        // Another number and another port for each: an answer is hard to guess.
        let onward = wire::onward(query);
        let asked = async {
            match transport {
                Transport::Udp => by_datagram(&onward, resolver).await,
                Transport::Tcp => by_stream(&onward, resolver).await,
            }
        };
        let Ok(Ok(answer)) = timeout(PATIENCE, asked).await else { continue };
        let code = answer.metadata.response_code;
        last = wire::passed_on(query, answer);
        if !matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp) {
            break;
        }
    }
    last
}

async fn by_datagram(onward: &Message, resolver: SocketAddr) -> io::Result<Message> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From now on the kernel lets nobody else's in.
    socket.connect(resolver).await?;
    socket.send(&sent(onward)?).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = wire::answer_to(onward, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn by_stream(onward: &Message, resolver: SocketAddr) -> io::Result<Message> {
    let mut stream = TcpStream::connect(resolver).await?;
    write_framed(&mut stream, &sent(onward)?).await?;
    let answer = read_framed(&mut stream).await?;
    wire::answer_to(onward, &answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn sent(onward: &Message) -> io::Result<Vec<u8>> {
    wire::encode(onward, u16::MAX).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A message in a stream: its length comes first (RFC 1035, 4.2.2).
pub(crate) async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// The same, sent in one piece.
pub(crate) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    fn query() -> Message {
        let mut query = Message::query();
        let name = Name::from_ascii("example.org.").unwrap();
        query.add_query(Query::query(name, RecordType::A));
        query
    }

    fn says(asked: &[u8], code: ResponseCode) -> Message {
        let asked = Message::from_vec(asked).unwrap();
        let mut answer = Message::response(asked.metadata.id, OpCode::Query);
        answer.metadata.response_code = code;
        answer.queries.clone_from(&asked.queries);
        let data = RData::A(A::new(192, 0, 2, 7));
        answer.add_answer(Record::from_rdata(asked.queries[0].name().clone(), 300, data));
        answer
    }

    /// A resolver that says this to one question, after a lie that is not meant for it.
    async fn resolver(code: ResponseCode) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mut answer = says(&buffer[..length], code);
            answer.metadata.id ^= 1;
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            answer.metadata.id ^= 1;
            answer.answers[0].ttl = 60;
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn the_first_that_knows_is_believed() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let broken = resolver(ResponseCode::ServFail).await;
        let resolvers =
            vec![silent.local_addr().unwrap(), broken, resolver(ResponseCode::NoError).await];
        let query = query();
        let answer = ask(&query, Transport::Udp, resolvers).await;
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert_eq!(answer.answers[0].ttl, 60, "the lie is passed over, the time is kept");
        let answer = ask(&query, Transport::Udp, vec![broken]).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        let answer = ask(&query, Transport::Udp, Vec::new()).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "nobody to ask");
    }

    #[tokio::test]
    async fn what_came_by_a_stream_is_asked_by_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let resolver = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = read_framed(&mut stream).await.unwrap();
            let answer = says(&asked, ResponseCode::NoError).to_vec().unwrap();
            write_framed(&mut stream, &answer).await.unwrap();
        });
        let answer = ask(&query(), Transport::Tcp, vec![resolver]).await;
        assert_eq!(answer.answers.len(), 1);
    }
}
