//! HTTP over a Unix socket, by connections that stay.

use std::cell::RefCell;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::Result;

type Sender = SendRequest<Full<Bytes>>;

/// A server's socket, and the connections that nobody uses now.
#[derive(Debug)]
pub(super) struct Http {
    socket: &'static str,
    idle: RefCell<Vec<Sender>>,
}

impl Http {
    pub(super) fn new(socket: &'static str) -> Self {
        Self { socket, idle: RefCell::default() }
    }

    /// Sends a request; the body of the reply, if that is a good one.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes> {
        let mut sender = self.connection().await?;
        let what = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, kind)
            .body(Full::new(body.into()))?;
        let reply = sender.send_request(request).await?;
        let status = reply.status();
        let body = reply.into_body().collect().await?.to_bytes();
        self.idle.borrow_mut().push(sender);
        if status.is_success() {
            return Ok(body);
        }
        Err(format!("{what}: {status} {}", String::from_utf8_lossy(&body)).into())
    }

    /// One that is idle, or a new one: a connection takes one request at a time.
    async fn connection(&self) -> Result<Sender> {
        loop {
            let Some(mut sender) = self.idle.borrow_mut().pop() else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = UnixStream::connect(self.socket).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
