//! Other readers: hyper's and Pingora's servers and clients, given bytes and then the end of the connection.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Cursor;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pingora_core::protocols::http::v1::client::HttpSession as PingoraClient;
use pingora_core::protocols::http::v1::server::HttpSession as PingoraServer;
use pingora_http::RequestHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::Message;
use crate::http1::message::response::Asked;

/// Requests that were found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) messages: Vec<Message>,
    /// What follows was refused.
    pub(super) refused: bool,
}

/// What never waits for anything outside, to its end.
///
/// # Panics
/// It waits all the same.
#[allow(clippy::panic, reason = "who waits for more than everything reads something that is not there")]
fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("it waits");
}

fn message(first: String, fields: &HeaderMap) -> Message {
    let mut message = Message { first, ..Message::default() };
    for (name, value) in fields {
        message.add(name.as_str(), value.as_bytes());
    }
    message
}

/// Reads a body into the message that is its.
async fn read(mut body: Incoming, mut take: impl FnMut(Option<Bytes>)) {
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => take(Some(data)),
            Ok(Err(_)) => {}
            Err(_) => return,
        }
    }
    take(None);
}

fn add(message: Option<&mut Message>, data: Option<Bytes>) {
    match (message, data) {
        (Some(message), Some(data)) => message.body.extend_from_slice(&data),
        (Some(message), None) => message.whole = true,
        (None, _) => {}
    }
}

/// All requests of a connection.
pub(super) fn requests_by_hyper(bytes: &[u8]) -> Found {
    let found: Rc<RefCell<Vec<Message>>> = Rc::default();
    let service = service_fn(|request: Request<Incoming>| {
        let found = found.clone();
        async move {
            let (head, body) = request.into_parts();
            found.borrow_mut().push(message(format!("{} {}", head.method, head.uri), &head.headers));
            read(body, |data| add(found.borrow_mut().last_mut(), data)).await;
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    let socket = TokioIo::new(tokio::io::join(bytes, tokio::io::sink()));
    let mut server = hyper::server::conn::http1::Builder::new();
    let served = server.half_close(true).max_headers(512).serve_connection(socket, service);
    let refused = finish(served).is_err();
    Found { messages: found.take(), refused }
}

/// The first request.
pub(super) fn request_by_pingora(bytes: &[u8]) -> Option<Message> {
    let mut session = PingoraServer::new(Box::new(Cursor::new(bytes.to_vec())));
    session.set_read_timeout(None);
    finish(async {
        session.read_request().await.ok()??;
        let head = session.req_header();
        let target = String::from_utf8_lossy(head.raw_path()).into_owned();
        let mut found = message(format!("{} {target}", head.method), &head.headers);
        while let Ok(data) = session.read_body_bytes().await {
            add(Some(&mut found), data.clone());
            if data.is_none() {
                break;
            }
        }
        Some(found)
    })
}

/// A connection that gives these bytes and then ends, once something was written to it.
async fn answering(mut socket: DuplexStream, bytes: &[u8]) {
    let mut asked = [0; 1024];
    let _ = socket.read(&mut asked).await;
    let _ = socket.write_all(bytes).await;
    let _ = socket.shutdown().await;
    while socket.read(&mut asked).await.is_ok_and(|read| read > 0) {}
}

fn method(asked: Asked) -> http::Method {
    if asked.head { http::Method::HEAD } else { http::Method::GET }
}

/// The answer to the first request of a connection.
pub(super) fn answer_by_hyper(bytes: &[u8], asked: Asked) -> Option<Message> {
    let (socket, target) = tokio::io::duplex(64 * 1024);
    let asking = async {
        let mut client = hyper::client::conn::http1::Builder::new();
        let (mut sender, connection) = client.max_headers(512).handshake(TokioIo::new(socket)).await.ok()?;
        let mut request = Request::get("/").header("host", "a").body(String::new()).ok()?;
        *request.method_mut() = method(asked);
        if asked.upgrade {
            request.headers_mut().insert("connection", "upgrade".parse().ok()?);
            request.headers_mut().insert("upgrade", "websocket".parse().ok()?);
        }
        let answer = async {
            let (head, body) = sender.send_request(request).await.ok()?.into_parts();
            let mut found = message(head.status.as_str().to_owned(), &head.headers);
            read(body, |data| add(Some(&mut found), data)).await;
            drop(sender);
            Some(found)
        };
        futures::join!(answer, connection).0
    };
    finish(futures::future::join(asking, answering(target, bytes))).0
}

/// As [`answer_by_hyper`].
pub(super) fn answer_by_pingora(bytes: &[u8], asked: Asked) -> Option<Message> {
    let (socket, target) = tokio::io::duplex(64 * 1024);
    let asking = async {
        let mut session = PingoraClient::new(Box::new(socket));
        let mut request = RequestHeader::build(method(asked), b"/", None).ok()?;
        request.insert_header("host", "a").ok()?;
        if asked.upgrade {
            request.insert_header("connection", "upgrade").ok()?;
            request.insert_header("upgrade", "websocket").ok()?;
        }
        session.write_request_header(Box::new(request)).await.ok()?;
        let head = loop {
            let head = session.read_resp_header_parts().await.ok()?;
            if !head.status.is_informational() || head.status == http::StatusCode::SWITCHING_PROTOCOLS {
                break head;
            }
        };
        let mut found = message(head.status.as_str().to_owned(), &head.headers);
        while let Ok(data) = session.read_body_bytes().await {
            add(Some(&mut found), data.clone());
            if data.is_none() {
                break;
            }
        }
        Some(found)
    };
    finish(futures::future::join(asking, answering(target, bytes))).0
}
