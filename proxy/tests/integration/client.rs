//! Clients.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::PATIENCE;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// Sends a request over a connection of its own. `Host` is added where it is missing.
pub async fn send(to: SocketAddr, request: Request<impl Into<Bytes>>) -> Answer {
    tokio::time::timeout(PATIENCE, try_send(to, request)).await.expect("in time").expect("an answer")
}

pub async fn try_send(to: SocketAddr, request: Request<impl Into<Bytes>>) -> Result<Answer, hyper::Error> {
    let socket = TcpStream::connect(to).await.expect("a connection");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let mut request = request.map(|body| Full::new(body.into()));
    request.headers_mut().entry("host").or_insert(to.to_string().parse().expect("a host"));
    read(sender.send_request(request).await?).await
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

pub async fn get(to: SocketAddr, path: &str) -> Answer {
    send(to, Request::get(path).body("").expect("a request")).await
}

/// Sends requests one after another over one HTTP/1.1 connection.
pub async fn get_in_turn(to: SocketAddr, paths: &[&str]) -> Vec<Answer> {
    let socket = TcpStream::connect(to).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for path in paths {
        sender.ready().await.expect("the connection goes on");
        let request = Request::get(*path).header("host", "shop").body(Full::<Bytes>::default());
        let answer = sender.send_request(request.expect("a request"));
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("in time").expect("an answer");
        answers.push(read(answer).await.expect("a body"));
    }
    answers
}

/// Sends requests at the same time over one HTTP/2 connection with prior knowledge.
pub async fn get_h2(to: SocketAddr, paths: &[&str]) -> Vec<Answer> {
    let socket = TcpStream::connect(to).await.expect("a connection");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let requests = paths.iter().map(|path| {
        let mut sender = sender.clone();
        let request =
            Request::get(format!("http://{to}{path}")).body(Full::<Bytes>::default()).expect("a request");
        async move { read(sender.send_request(request).await.expect("an answer")).await.expect("a body") }
    });
    tokio::time::timeout(PATIENCE, futures::future::join_all(requests)).await.expect("in time")
}

/// Writes bytes as they are, and reads until the proxy closes the connection.
pub async fn raw(to: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let exchange = async {
        let mut socket = TcpStream::connect(to).await.expect("a connection");
        socket.write_all(bytes.as_ref()).await.expect("to write");
        let mut answer = Vec::new();
        // A reset after the answer is as good as an end.
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the proxy closes the connection in time")
}
